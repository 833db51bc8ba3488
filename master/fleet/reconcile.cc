#include "master/fleet/reconcile.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace pangea {
namespace {

// How long a symptom (a peer's failure, a broken stream) waits for its cause. Together with the work around it, a
// failure is told in less than 100 ms.
constexpr double kGrace = 0.05;
// Beyond the agents' own limit for a collective, whose error says more.
constexpr double kStepSlack = 2;

// Facts are judged in the order of what they say about the cause: a fatal failure that the agent reports itself, a
// signal that killed it, an exit code, a broken stream, what an agent suffered from its peers.
struct Verdict {
  std::optional<Action> give_up;
  std::optional<double> look_again;
  void Wait(double until) { look_again = look_again ? std::min(*look_again, until) : until; }
};

void GiveUp(Verdict* verdict, absl::StatusCode code, const std::string& text) {
  if (!verdict->give_up) verdict->give_up = Action{.kind = Action::kGiveUp, .reason = absl::Status(code, text)};
}

void JudgeAgents(const FleetState& state, double now, Verdict* verdict) {
  const int n = static_cast<int>(state.agents.size());
  for (int i = 0; i < n; ++i) {
    const auto& failure = state.agents[i].failure;
    if (failure && failure->fatal) {
      return GiveUp(verdict, failure->status.code(),
                    absl::StrCat(AgentName(state, i), ": ", failure->status.message()));
    }
  }
  for (int i = 0; i < n; ++i) {
    const auto& ended = state.agents[i].ended;
    if (ended && ended->by_signal) {
      return GiveUp(verdict, absl::StatusCode::kUnavailable, absl::StrCat(AgentName(state, i), " ", ended->text));
    }
  }
  for (int i = 0; i < n; ++i) {
    const AgentState& agent = state.agents[i];
    if (!agent.ended) continue;
    // What it sent before its end may still be on its way.
    const bool heard = agent.phase == AgentPhase::kAwaited || agent.disconnected;
    if (heard || now >= agent.ended->at + kGrace) {
      return GiveUp(verdict, absl::StatusCode::kUnavailable, absl::StrCat(AgentName(state, i), " ", agent.ended->text));
    }
    verdict->Wait(agent.ended->at + kGrace);
  }
  for (int i = 0; i < n; ++i) {
    const AgentState& agent = state.agents[i];
    if (!agent.disconnected) continue;
    const double until = *agent.disconnected + (agent.local ? kGrace : 0);
    if (now >= until) {
      return GiveUp(verdict, absl::StatusCode::kUnavailable, absl::StrCat(AgentName(state, i), " lost its connection"));
    }
    verdict->Wait(until);
  }
  // What agents suffered from their peers: the first one's words, once nobody's own fault has shown up.
  const AgentState::Failure* first = nullptr;
  int who = -1;
  for (int i = 0; i < n; ++i) {
    const auto& failure = state.agents[i].failure;
    if (failure && (first == nullptr || failure->at < first->at)) {
      first = &*failure;
      who = i;
    }
  }
  if (first == nullptr) return;
  if (now >= first->at + kGrace) {
    return GiveUp(verdict, first->status.code(), absl::StrCat(AgentName(state, who), ": ", first->status.message()));
  }
  verdict->Wait(first->at + kGrace);
}

void JudgeTime(const FleetState& state, double now, Verdict* verdict) {
  AgentPhase slowest = AgentPhase::kFormed;
  for (const AgentState& agent : state.agents) slowest = std::min(slowest, agent.phase);
  if (slowest < AgentPhase::kFormed) {
    const double until = state.phase_since + state.join_seconds;
    if (now < until) return verdict->Wait(until);
    constexpr const char* kWhat[] = {"did not join", "did not load its weights", "did not form its group"};
    std::vector<std::string> late;
    for (size_t i = 0; i < state.agents.size(); ++i) {
      if (state.agents[i].phase == slowest) late.push_back(AgentName(state, i));
    }
    return GiveUp(verdict, absl::StatusCode::kDeadlineExceeded,
                  absl::StrFormat("%s %s within %g s (control.join_seconds)", absl::StrJoin(late, ", "),
                                  kWhat[static_cast<int>(slowest)], state.join_seconds));
  }
  // A step that is sent after this look cannot be overdue before the next one.
  if (!state.oldest_step) return verdict->Wait(now + state.step_seconds);
  const double until = std::max(*state.oldest_step, state.last_progress) + state.step_seconds + kStepSlack;
  if (now < until) return verdict->Wait(until);
  std::vector<std::string> places;
  for (size_t i = 0; i < state.agents.size(); ++i) {
    const std::string& progress = state.agents[i].progress;
    places.push_back(absl::StrCat(AgentName(state, i), " at ", progress.empty() ? "no step" : progress));
  }
  GiveUp(verdict, absl::StatusCode::kDeadlineExceeded,
         absl::StrFormat("step %d made no progress for %g s (control.step_seconds): %s", state.oldest_step_number,
                         state.step_seconds, absl::StrJoin(places, "; ")));
}

}  // namespace

std::string AgentName(const FleetState& state, int agent) {
  const AgentState& a = state.agents[agent];
  std::string name = absl::StrCat("agent ", agent, " (stage ", a.stage, ", rank ", a.rank);
  if (a.pid > 0) absl::StrAppend(&name, ", pid ", a.pid);
  return name + ")";
}

Action Reconcile(const FleetState& state, double now) {
  Verdict verdict;
  JudgeAgents(state, now, &verdict);
  if (!verdict.give_up) JudgeTime(state, now, &verdict);
  if (verdict.give_up) return *verdict.give_up;
  return Action{.kind = Action::kNone, .look_again = verdict.look_again};
}

}  // namespace pangea
