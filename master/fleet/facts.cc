#include "master/fleet/facts.h"

#include <algorithm>
#include <utility>

namespace pangea {

Facts::Facts(const Deployment& deployment, const ParallelPlan& plan, double now)
    : introductions_(plan.agents.size()), launches_(plan.agents.size()) {
  state_.join_seconds = deployment.control.join_seconds;
  state_.step_seconds = deployment.control.step_seconds;
  state_.phase_since = now;
  for (size_t i = 0; i < plan.agents.size(); ++i) {
    state_.agents.push_back(
        {.stage = plan.agents[i].stage, .rank = plan.agents[i].rank, .local = deployment.agent(i).launch != "remote"});
  }
}

int Facts::Up() const {
  return static_cast<int>(std::count_if(state_.agents.begin(), state_.agents.end(), [](const AgentState& agent) {
    return agent.phase == AgentPhase::kFormed && !agent.ended && !agent.disconnected && !agent.failure;
  }));
}

bool Facts::All(AgentPhase phase) const {
  return std::all_of(state_.agents.begin(), state_.agents.end(),
                     [phase](const AgentState& agent) { return agent.phase >= phase; });
}

std::vector<Place> Facts::Places() const {
  std::vector<Place> places;
  for (const AgentState& agent : state_.agents) {
    places.push_back({.local = agent.local,
                      .taken = agent.phase != AgentPhase::kAwaited,
                      .launched_pid = agent.local ? agent.pid : 0});
  }
  return places;
}

bool Facts::Advance(int agent, AgentPhase phase, double now) {
  state_.agents[agent].phase = phase;
  const bool all = All(phase);
  if (all) state_.phase_since = now;
  return all;
}

bool Facts::OnLaunched(int agent, int pid) {
  state_.agents[agent].ended.reset();
  state_.agents[agent].pid = pid;
  return launches_[agent]++ > 0;
}

bool Facts::OnJoined(int agent, Introduction introduction, double now) {
  AgentState& state = state_.agents[agent];
  state.disconnected.reset();  // of a process before this one, as are these
  state.failure.reset();
  state.progress.clear();
  state.pid = introduction.pid;
  introductions_[agent] = std::move(introduction);
  return Advance(agent, AgentPhase::kJoined, now);
}

bool Facts::OnLoaded(int agent, double now) {
  return state_.agents[agent].phase == AgentPhase::kJoined && Advance(agent, AgentPhase::kLoaded, now);
}

void Facts::Form(double now) {
  ++epoch_;
  if (mode_ == Mode::kRunning) mode_ = Mode::kForming;
  forming_since_ = state_.phase_since = state_.last_progress = now;
  for (AgentState& agent : state_.agents) {
    agent.phase = AgentPhase::kLoaded;
    agent.progress.clear();
    if (agent.failure && !agent.failure->fatal) agent.failure.reset();
  }
}

bool Facts::OnFormed(int agent, uint64_t epoch, double now) {
  if (epoch != epoch_ || state_.agents[agent].phase != AgentPhase::kLoaded) return false;
  if (!Advance(agent, AgentPhase::kFormed, now) || !IsAlive()) return false;
  mode_ = Mode::kRunning;
  return true;
}

bool Facts::OnFailure(int agent, uint64_t epoch, AgentState::Failure failure) {
  // What an agent suffered in an epoch that is over (its group was aborted for the new one, say) is no news. After a
  // fault of its own its process leaves, whichever the epoch.
  if (!failure.fatal && epoch != epoch_) return false;
  std::optional<AgentState::Failure>& known = state_.agents[agent].failure;
  if (known && (!failure.fatal || known->fatal)) return false;  // a fault of its own outweighs what it suffered before
  known = std::move(failure);
  return true;
}

bool Facts::OnProgress(int agent, uint64_t epoch, std::string progress, double now) {
  if (epoch != epoch_ || progress == state_.agents[agent].progress) return false;
  state_.agents[agent].progress = std::move(progress);
  state_.last_progress = now;
  return true;
}

void Facts::OnDisconnected(int agent, double now) { state_.agents[agent].disconnected = now; }

void Facts::OnEnded(int agent, AgentState::End end) { state_.agents[agent].ended = std::move(end); }

bool Facts::Fail(const absl::Status& reason) {
  if (!IsAlive()) return false;
  mode_ = Mode::kFailed;
  failure_ = reason;
  return true;
}

Action Facts::Decide(std::optional<double> oldest_step, uint64_t number, double last_result, double now) {
  if (!IsAlive()) return {};
  state_.oldest_step = oldest_step;
  state_.oldest_step_number = number;
  state_.last_progress = std::max(state_.last_progress, last_result);
  return Reconcile(state_, now);
}

}  // namespace pangea
