#include "master/fleet/facts.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "master/fleet/planted_fault.h"

namespace pangea {
namespace {
constexpr double kLongestGap = 4;   // times control.silence_seconds
constexpr double kGapFades = 0.95;  // with every report
// A master that has not looked for twice as long may have been away, and what has come meanwhile is read within this
// time. One that is away at so many looks in a row judges nevertheless.
constexpr double kReading = 0.05;
constexpr int kMostDozes = 5;
}  // namespace

Introduction IntroductionOf(const agent::v1::Join& join) {
  return {.pid = join.pid(),
          .isa = join.isa(),
          .host = join.host(),
          .machine = join.machine() + " " + join.host(),
          .share = {.host = join.machine().empty() ? join.host() : join.machine(), .cores = join.cores()},
          .executable = join.executable()};
}

Facts::Facts(const Deployment& deployment, const ParallelPlan& plan, double now)
    : introductions_(plan.agents.size()),
      launches_(plan.agents.size()),
      fresh_(plan.agents.size()),
      window_(deployment.control.recovery_seconds),
      // Before what is waited for joins ends all.
      shrink_seconds_(std::min(deployment.control.shrink_seconds, deployment.control.join_seconds / 2)) {
  state_.shrink_seconds = shrink_seconds_;
  state_.attempts = deployment.control.recovery_attempts;
  state_.join_seconds = deployment.control.join_seconds;
  state_.silence_seconds = deployment.control.silence_seconds;
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
                      .launched_pid = agent.local && !agent.lost ? agent.pid : 0});
  }
  return places;
}

bool Facts::Advance(int agent, AgentPhase phase, double now) {
  state_.agents[agent].phase = phase;
  state_.agents[agent].heard = now;
  const bool all = All(phase);
  if (!all) return false;
  state_.phase_since = now;
  if (phase == AgentPhase::kJoined) filled_at_ = now;
  if (phase == AgentPhase::kLoaded) loaded_at_ = now;
  return true;
}

bool Facts::OnLaunched(int agent, int pid, double now) {
  AgentState& state = state_.agents[agent];
  state.ended.reset();
  state.running = true;
  state.lost = false;
  fresh_[agent] = true;
  state.pid = pid;
  state.heard = now;
  state_.phase_since = now;  // its time begins
  return launches_[agent]++ > 0;
}

void Facts::OnNotLaunched(int agent, AgentState::End why) {
  state_.agents[agent].lost = false;
  state_.agents[agent].ended = std::move(why);
  fresh_[agent] = true;
}

bool Facts::OnJoined(int agent, Introduction introduction, double now) {
  AgentState& state = state_.agents[agent];
  state.lost = false;
  fresh_[agent] = true;
  state_.shrink_seconds = shrink_seconds_;  // with this one, a layout may do
  state.disconnected.reset();               // of a process before this one, as are these
  state.failure.reset();
  state.report.reset();
  state.pid = introduction.pid;
  introductions_[agent] = std::move(introduction);
  return Advance(agent, AgentPhase::kJoined, now);
}

bool Facts::OnLoaded(int agent, double now) {
  return state_.agents[agent].phase == AgentPhase::kJoined && Advance(agent, AgentPhase::kLoaded, now);
}

void Facts::Form(double now) {
  ++epoch_;
  state_.over = false;
  if (mode_ == Mode::kRunning) {
    mode_ = Mode::kForming;
    forming_since_ = filled_at_ = loaded_at_ = now;
  }
  state_.phase_since = state_.last_progress = now;
  for (AgentState& agent : state_.agents) {
    agent.phase = AgentPhase::kLoaded;
    agent.heard = now;
    agent.report.reset();
    if (agent.failure && !agent.failure->fatal) agent.failure.reset();
  }
}

bool Facts::IsOf(uint64_t epoch, int agent) const {
  return epoch == epoch_ && !state_.over && !state_.agents[agent].lost;
}

bool Facts::OnFormed(int agent, uint64_t epoch, double now) {
  const bool of_this = IsOf(epoch, agent) || planted_fault == PlantedFault::kOldFormed;
  if (!of_this || state_.agents[agent].phase != AgentPhase::kLoaded) return false;
  if (!Advance(agent, AgentPhase::kFormed, now) || !IsAlive()) return false;
  mode_ = Mode::kRunning;
  state_.served = true;
  state_.trial = false;
  running_since_ = now;
  return true;
}

void Facts::CountRecovery(double now) {
  recoveries_.push_back(now);
  state_.recoveries = static_cast<int>(recoveries_.size());
  short_epochs_ = lasted_ ? 0 : short_epochs_ + 1;
  lasted_ = false;
  state_.restart_at = now + RestartWait(short_epochs_);
}

std::vector<int> Facts::EndEpoch(const std::vector<int>& lost, const absl::Status& why, bool planned, double now) {
  // Those who went together are seen to go one after the other: they are one recovery.
  const bool new_loss = !state_.over || lost.empty() ||
                        std::any_of(lost.begin(), lost.end(), [this](int agent) { return fresh_[agent]; }) ||
                        planted_fault == PlantedFault::kCountTwice;
  if ((!planned || planted_fault == PlantedFault::kCountPlanned) && new_loss) CountRecovery(now);
  fresh_.assign(fresh_.size(), false);
  if (mode_ == Mode::kRunning) {
    forming_since_ = now;
    last_epoch_seconds_ = now - running_since_;
  }
  mode_ = Mode::kForming;
  const bool was_over = state_.over;
  filled_at_ = loaded_at_ = now;  // when nobody is lost there is nothing to fill, nor to load
  state_.over = true;
  interruption_ = why;
  state_.phase_since = now;
  if (!lost.empty()) state_.shrink_seconds = shrink_seconds_;
  for (const int i : lost) {
    AgentState& agent = state_.agents[i];
    if (!agent.lost) agent.lost_at = now;
    agent.lost = true;
    agent.phase = AgentPhase::kAwaited;
    agent.ended.reset();
    agent.disconnected.reset();
    agent.failure.reset();
    agent.report.reset();
  }
  std::vector<int> others;
  for (int i = 0; i < agents(); ++i) {
    AgentState& agent = state_.agents[i];
    if (agent.phase < AgentPhase::kLoaded) continue;
    agent.phase = AgentPhase::kLoaded;
    if (!was_over) agent.heard = now;
    if (agent.failure && !agent.failure->fatal) agent.failure.reset();
    others.push_back(i);
  }
  return others;
}

bool Facts::OnFailure(int agent, uint64_t epoch, AgentState::Failure failure) {
  // What an agent suffered in an epoch that is over (its group was aborted for the new one, say) is no news. After a
  // fault of its own its process leaves, whichever the epoch.
  if (!failure.fatal && !IsOf(epoch, agent) && planted_fault != PlantedFault::kOldFailure) return false;
  std::optional<AgentState::Failure>& known = state_.agents[agent].failure;
  if (known && (!failure.fatal || known->fatal)) return false;  // a fault of its own outweighs what it suffered before
  known = std::move(failure);
  return true;
}

bool Facts::OnReport(int agent, uint64_t epoch, AgentState::Report report, double now) {
  if (!state_.agents[agent].lost) state_.agents[agent].heard = now;
  if (!IsOf(epoch, agent)) return false;
  std::optional<AgentState::Report>& last = state_.agents[agent].report;
  const auto place = [](const AgentState::Report& r) { return std::tuple(r.step, r.layer, r.collective, r.doing); };
  const bool news = !last || place(*last) != place(report);
  report.at = now;
  report.changed = news ? now : last->changed;
  if (last) {
    // What this master did not look at was no silence; and no gap may make it patient for ever.
    const double away = next_look_ ? std::max(now - *next_look_, 0.0) : 0;
    const double gap = now - std::max(last->at, state_.looking_since) - away;
    report.longest_gap = std::max(kGapFades * last->longest_gap, std::min(gap, kLongestGap * state_.silence_seconds));
  }
  last = report;
  if (news) state_.last_progress = now;
  return news;
}

void Facts::OnDisconnected(int agent, double now) { state_.agents[agent].disconnected = now; }

void Facts::OnEnded(int agent, AgentState::End end) {
  AgentState& state = state_.agents[agent];
  state.running = false;
  if (!state.lost) state.ended = std::move(end);
}

void Facts::Lay(const Deployment& deployment, const ParallelPlan& plan, const std::vector<int>& from, bool trial,
                double now) {
  std::vector<AgentState> agents;
  std::vector<Introduction> introductions(plan.agents.size());
  std::vector<int> launches(plan.agents.size());
  for (size_t i = 0; i < plan.agents.size(); ++i) {
    AgentState agent{.stage = plan.agents[i].stage,
                     .rank = plan.agents[i].rank,
                     .local = deployment.agent(i).launch != "remote",
                     .lost = from[i] < 0,
                     .lost_at = now,
                     .heard = now};
    if (from[i] >= 0) {
      const AgentState& before = state_.agents[from[i]];
      agent.pid = before.pid;
      agent.running = before.running;
      agent.ended = before.ended;
      agent.disconnected = before.disconnected;
      agent.failure = before.failure;
      agent.phase = AgentPhase::kJoined;
      introductions[i] = introductions_[from[i]];
      launches[i] = launches_[from[i]];
    }
    agents.push_back(std::move(agent));
  }
  state_.agents = std::move(agents);
  introductions_ = std::move(introductions);
  launches_ = std::move(launches);
  fresh_.clear();
  for (const int agent : from) fresh_.push_back(agent >= 0);
  recoveries_.clear();  // another layout, another beginning
  state_.trial = trial;
  state_.recoveries = 0;
  state_.phase_since = now;
  state_.shrink_seconds = shrink_seconds_;
}

void Facts::SetSpares(int local, int remote, bool leaving) {
  state_.leaving = leaving;
  state_.local_spares = local;
  state_.remote_spares = remote;
}

void Facts::CannotShrink() { state_.shrink_seconds = 0; }

bool Facts::Fail(const absl::Status& reason) {
  if (!IsAlive()) return false;
  mode_ = Mode::kFailed;
  failure_ = reason;
  return true;
}

Action Facts::Decide(std::optional<double> oldest_step, uint64_t number, double last_result, double now) {
  if (!IsAlive()) return {};
  if (next_look_ && now > *next_look_ + state_.silence_seconds / 2) state_.looking_since = now;
  dozes_ = now > last_look_ + 2 * kReading ? dozes_ + 1 : 0;
  if (dozes_ > 0 && dozes_ <= kMostDozes) state_.patient_until = now + kReading;
  last_look_ = now;
  state_.oldest_step = oldest_step;
  state_.oldest_step_number = number;
  state_.last_progress = std::max(state_.last_progress, last_result);
  // It has served, or could have: what hangs with its first step has not.
  lasted_ = mode_ == Mode::kRunning && now - running_since_ >= kLastingEpochSeconds &&
            (!oldest_step || last_result >= running_since_);
  if (lasted_ && planted_fault != PlantedFault::kNeverForget) {
    std::erase_if(recoveries_, [&](double began) { return began <= now - window_; });
    state_.recoveries = static_cast<int>(recoveries_.size());
  }
  Action action = Reconcile(state_, now);
  // A little before time is up, so that it is known then that this master was there; and often enough to see that it
  // was not.
  if (action.look_again && *action.look_again > now + kReading) *action.look_again -= kReading;
  if (action.look_again && state_.served)
    action.look_again = std::min(*action.look_again, now + state_.silence_seconds / 2);
  next_look_ = action.look_again;
  return action;
}

}  // namespace pangea
