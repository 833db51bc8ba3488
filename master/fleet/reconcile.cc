#include "master/fleet/reconcile.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "master/fleet/planted_fault.h"

namespace pangea {
namespace {

// How long a symptom (a peer's failure, a broken stream) waits for its cause. Together with the work around it, a
// failure is told in less than 100 ms.
constexpr double kGrace = 0.05;
// Beyond the agents' own limit for a collective, whose error says more.
constexpr double kStepSlack = 2;
// Times the longest gap between two reports so far, and times what a layer has taken for as many rows.
constexpr double kGapFactor = 4, kLayerFactor = 8;
// Times control.silence_seconds that all may wait for one another: a hidden state may travel for long. And that an
// agent may tell nothing while no epoch serves.
constexpr double kDeadlockFactor = 10, kFormingFactor = 4;
// Times control.silence_seconds that a new process may take to join. And what it may take at least, in seconds, and
// tell nothing while it loads: the system may have it wait with all of its threads while it maps what is large.
constexpr double kStartFactor = 10, kLeastStart = 10;
// Recoveries in which another layout has to begin to serve.
constexpr int kTrialAttempts = 2;
// Seconds before a lost place is filled again, after two epochs in a row that did not last, and after many.
constexpr double kFirstWait = 0.1, kLongestWait = 5;

// Why an epoch cannot go on, and which agents are to be replaced.
struct Cause {
  absl::Status reason;
  std::vector<int> agents;
};
struct Verdict {
  std::optional<Cause> cause;
  std::optional<double> look_again;
  void Wait(double until) { look_again = look_again ? std::min(*look_again, until) : until; }
  void Blame(absl::StatusCode code, const std::string& text, std::vector<int> agents = {}) {
    cause = Cause{absl::Status(code, text), std::move(agents)};
  }
};

// Those who will not come back: of several that die together all are replaced at once, whoever is named.
std::vector<int> Gone(const FleetState& state) {
  std::vector<int> gone;
  for (size_t i = 0; i < state.agents.size(); ++i) {
    const AgentState& agent = state.agents[i];
    if (agent.ended || agent.disconnected || (agent.failure && agent.failure->fatal)) gone.push_back(i);
  }
  return gone;
}

// Facts are judged in the order of what they say about the cause: a fatal failure that the agent reports itself, a
// signal that killed it, an exit code, a broken stream, what an agent suffered from its peers.
void JudgeAgents(const FleetState& state, double now, Verdict* verdict) {
  const int n = static_cast<int>(state.agents.size());
  for (int i = 0; i < n; ++i) {
    const auto& failure = state.agents[i].failure;
    if (failure && failure->fatal) {
      return verdict->Blame(failure->status.code(), absl::StrCat(AgentName(state, i), ": ", failure->status.message()),
                            Gone(state));
    }
  }
  for (int i = 0; i < n; ++i) {
    const auto& ended = state.agents[i].ended;
    if (ended && ended->by_signal) {
      return verdict->Blame(absl::StatusCode::kUnavailable, absl::StrCat(AgentName(state, i), " ", ended->text),
                            Gone(state));
    }
  }
  for (int i = 0; i < n; ++i) {
    const AgentState& agent = state.agents[i];
    if (!agent.ended) continue;
    // What it sent before its end may still be on its way.
    const bool heard = agent.phase == AgentPhase::kAwaited || agent.disconnected;
    if (heard || now >= agent.ended->at + kGrace) {
      return verdict->Blame(absl::StatusCode::kUnavailable, absl::StrCat(AgentName(state, i), " ", agent.ended->text),
                            Gone(state));
    }
    verdict->Wait(agent.ended->at + kGrace);
  }
  for (int i = 0; i < n; ++i) {
    const AgentState& agent = state.agents[i];
    if (!agent.disconnected) continue;
    const double until = *agent.disconnected + (agent.local ? kGrace : 0);
    if (now >= until) {
      return verdict->Blame(absl::StatusCode::kUnavailable, absl::StrCat(AgentName(state, i), " lost its connection"),
                            Gone(state));
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
    return verdict->Blame(first->status.code(), absl::StrCat(AgentName(state, who), ": ", first->status.message()));
  }
  verdict->Wait(first->at + kGrace);
}

// Until when an agent may stay as it is while a step is under way, what it is to be blamed for then, and when half of
// that time is over.
struct Patience {
  double until, half;
  std::string what;
};

// An agent whose process stands still, or is cut off, tells nothing. One that tells may wait for a peer, however long,
// or for the master; but not stay in one layer for many times what such a layer has taken, nor leave a step unread.
Patience PatienceFor(const FleetState& state, const AgentState& agent) {
  const double since = std::max(*state.oldest_step, state.looking_since);
  const AgentState::Report none, &report = agent.report ? *agent.report : none;
  const double heard = std::max(since, report.at);
  const double most = std::max(state.silence_seconds, kGapFactor * report.longest_gap);
  Patience quiet = {heard + most, heard + most / 2, "has told nothing"};
  if (!agent.report) return quiet;
  if (agent.report->step > 0) absl::StrAppend(&quiet.what, " since ", PlaceText(agent));
  const double stays = std::max(since, report.changed);
  const bool behind = report.doing == AgentDoing::kNothing && report.step < state.oldest_step_number;
  const bool computes = (report.doing == AgentDoing::kComputes && report.layer_seconds > 0) ||
                        planted_fault == PlantedFault::kBlameTheWaiting;
  if (!behind && !computes) return quiet;
  const double span = std::max(most, computes ? kLayerFactor * report.layer_seconds : 0);
  if (quiet.until <= stays + span) return quiet;
  return {stays + span, stays + span / 2,
          behind ? "has not begun with it" : absl::StrCat("does not get on at ", PlaceText(agent))};
}

// Links that lose what they carry leave nobody to blame: every agent tells that it waits for another.
std::optional<double> DeadlockedFrom(const FleetState& state) {
  double from = std::max(*state.oldest_step, state.looking_since);
  for (const AgentState& agent : state.agents) {
    if (!agent.report || agent.report->step < state.oldest_step_number) return std::nullopt;
    if (agent.report->doing == AgentDoing::kComputes || agent.report->doing == AgentDoing::kWaitsForMaster)
      return std::nullopt;
    from = std::max(from, agent.report->changed + kGapFactor * agent.report->longest_gap);
  }
  return from + std::min(kDeadlockFactor * state.silence_seconds, state.step_seconds);
}

void JudgeSilence(const FleetState& state, double now, Verdict* verdict) {
  std::vector<int> silent;
  std::string first;
  for (size_t i = 0; i < state.agents.size(); ++i) {
    const Patience patience = PatienceFor(state, state.agents[i]);
    if (now >= patience.until && first.empty()) first = absl::StrCat(AgentName(state, i), " ", patience.what);
    if (now < patience.until) verdict->Wait(patience.until);
    if (now >= patience.half) silent.push_back(i);  // they may stand still together, and be found one after the other
  }
  if (first.empty()) silent.clear();
  if (const auto from = DeadlockedFrom(state); silent.empty() && from) {
    if (now < *from) return verdict->Wait(*from);
    first = "all agents wait for one another";
  }
  if (first.empty() || planted_fault == PlantedFault::kForgiveSilence) return;
  verdict->Blame(absl::StatusCode::kDeadlineExceeded,
                 absl::StrFormat("%s while step %d was under way (control.silence_seconds: %g)", first,
                                 state.oldest_step_number, state.silence_seconds),
                 silent);
}

// While no epoch serves whoever has a place tells so, whatever its executor is at; a new process has to start first.
void JudgeComing(const FleetState& state, double now, Verdict* verdict) {
  std::vector<int> silent;
  std::string first;
  for (size_t i = 0; i < state.agents.size(); ++i) {
    const AgentState& agent = state.agents[i];
    const bool starts = agent.phase == AgentPhase::kAwaited, loads = agent.phase == AgentPhase::kJoined;
    if (agent.lost || (starts && !agent.running)) continue;
    double limit = (starts ? kStartFactor : kFormingFactor) * state.silence_seconds;
    if (starts || loads) limit = std::max(limit, kLeastStart);
    const double until = std::max(agent.heard, state.looking_since) + limit;
    if (now < until || planted_fault == PlantedFault::kForgiveComing) {
      verdict->Wait(until);
      continue;
    }
    if (first.empty()) {
      first = absl::StrFormat("%s has %s for %g s", AgentName(state, i),
                              starts  ? "not joined"
                              : loads ? "told nothing while it loads"
                                      : "told nothing while no epoch serves",
                              limit);
    }
    silent.push_back(static_cast<int>(i));
  }
  if (!silent.empty()) verdict->Blame(absl::StatusCode::kDeadlineExceeded, first, silent);
}

void JudgeTime(const FleetState& state, double now, Verdict* verdict) {
  AgentPhase slowest = AgentPhase::kFormed;
  for (const AgentState& agent : state.agents) slowest = std::min(slowest, agent.phase);
  if (slowest < AgentPhase::kFormed) {
    const double until = state.phase_since + state.join_seconds;
    if (now < until) {
      verdict->Wait(until);
      if (state.served) JudgeComing(state, now, verdict);
      return;
    }
    constexpr const char* kWhat[] = {"did not join", "did not load its weights", "did not form its group"};
    std::vector<std::string> names;
    std::vector<int> late;
    for (size_t i = 0; i < state.agents.size(); ++i) {
      if (state.agents[i].phase != slowest) continue;
      names.push_back(AgentName(state, i));
      late.push_back(i);
    }
    return verdict->Blame(absl::StatusCode::kDeadlineExceeded,
                          absl::StrFormat("%s %s within %g s (control.join_seconds)", absl::StrJoin(names, ", "),
                                          kWhat[static_cast<int>(slowest)], state.join_seconds),
                          late);
  }
  // A step that is sent after this look cannot be overdue before the next one.
  if (!state.oldest_step) return verdict->Wait(now + std::min(state.silence_seconds, state.step_seconds));
  JudgeSilence(state, now, verdict);
  if (verdict->cause) return;
  const double until = std::max(*state.oldest_step, state.last_progress) + state.step_seconds + kStepSlack;
  if (now < until) return verdict->Wait(until);
  std::vector<std::string> places;
  std::vector<int> all;
  for (size_t i = 0; i < state.agents.size(); ++i) {
    places.push_back(absl::StrCat(AgentName(state, i), " at ", PlaceText(state.agents[i])));
    all.push_back(i);
  }
  // Who of them hangs is not known.
  verdict->Blame(absl::StatusCode::kDeadlineExceeded,
                 absl::StrFormat("step %d made no progress for %g s (control.step_seconds): %s",
                                 state.oldest_step_number, state.step_seconds, absl::StrJoin(places, "; ")),
                 all);
}

}  // namespace

std::string AgentName(const FleetState& state, int agent) {
  const AgentState& a = state.agents[agent];
  std::string name = absl::StrCat("agent ", agent, " (stage ", a.stage, ", rank ", a.rank);
  if (a.pid > 0) absl::StrAppend(&name, ", pid ", a.pid);
  return name + ")";
}

std::string PlaceText(const AgentState& agent) {
  if (!agent.report || agent.report->step == 0) return "no step";
  const AgentState::Report& r = *agent.report;
  return absl::StrFormat("step %d, layer %d, collective %d", r.step, r.layer, r.collective);
}

double RestartWait(int short_epochs) {
  if (planted_fault == PlantedFault::kNoWait) return 0;
  return short_epochs < 2 ? 0 : std::min(kLongestWait, kFirstWait * std::exp2(short_epochs - 2));
}

namespace {

// Places in which process after process has ended before it had loaded: not what befalls one that serves.
bool ComeToNothing(const FleetState& state, const std::vector<int>& agents) {
  return state.shrink_seconds > 0 && !agents.empty() &&
         std::all_of(agents.begin(), agents.end(), [&](int i) { return state.agents[i].phase < AgentPhase::kLoaded; });
}

// How lost places are filled: by agents that stand by, as far as there are any, else by new processes. Those of other
// hosts wait for theirs, and are given up some time.
Action Fill(const FleetState& state, double now, Verdict* verdict) {
  int local_spares = state.local_spares, remote_spares = state.remote_spares;
  Action move{.kind = Action::kMoveToSpare}, restart{.kind = Action::kRestart}, shrink{.kind = Action::kShrink};
  bool local_lost = false;
  for (size_t i = 0; i < state.agents.size(); ++i) {
    const AgentState& agent = state.agents[i];
    if (!agent.lost) continue;
    local_lost |= agent.local;
    const bool there = agent.running && planted_fault != PlantedFault::kBesideTheOld;
    if (agent.local && (there || state.leaving)) continue;  // the process before is not gone yet
    if (int& spares = agent.local ? local_spares : remote_spares; spares > 0) {
      --spares;
      move.agents.push_back(i);
    } else if (agent.local) {
      restart.agents.push_back(i);
    } else if (state.shrink_seconds > 0) {
      const double until = agent.lost_at + state.shrink_seconds;
      if (now >= until) {
        shrink.agents.push_back(i);
      } else {
        verdict->Wait(until);
      }
    }
  }
  if (!move.agents.empty()) return move;
  if (!restart.agents.empty()) return restart;
  if (shrink.agents.empty() || local_lost) return {};
  shrink.reason =
      absl::UnavailableError(absl::StrFormat("%s: no agent has come in its place within %g s (control.shrink_seconds)",
                                             AgentName(state, shrink.agents.front()), state.shrink_seconds));
  return shrink;
}

}  // namespace

Action Reconcile(const FleetState& state, double now) {
  Verdict verdict;
  JudgeAgents(state, now, &verdict);
  if (now < state.patient_until) {
    verdict.Wait(state.patient_until);
  } else if (!verdict.cause) {
    JudgeTime(state, now, &verdict);
  }
  if (verdict.cause) {
    Action action{.kind = Action::kGiveUp, .reason = verdict.cause->reason};
    if (!state.served) return action;
    action.agents = verdict.cause->agents;
    if (state.trial) action.kind = Action::kFallBack;
    const int attempts = state.trial ? std::min(state.attempts, kTrialAttempts) : state.attempts;
    if (state.recoveries >= attempts && planted_fault != PlantedFault::kNeverGiveUp) {
      if (state.recoveries > 0 && !state.trial) {
        action.reason = absl::Status(action.reason.code(),
                                     absl::StrCat(action.reason.message(), "; it is the end of ", state.recoveries,
                                                  " recoveries (control.recovery_attempts)"));
      }
      if (!state.trial && ComeToNothing(state, action.agents)) action.kind = Action::kShrink;
      return action;
    }
    for (const int i : action.agents) {
      // Whoever starts agents on other hosts has had its time; so has a process that was killed and does not go.
      const AgentState& agent = state.agents[i];
      if (agent.lost && (!agent.local || agent.running || state.leaving)) return action;
    }
    action.kind = Action::kInterrupt;
    return action;
  }
  Action fill = Fill(state, now, &verdict);
  if (fill.kind == Action::kShrink) {
    if (state.trial) fill.kind = Action::kFallBack;
    return fill;
  }
  const AgentPhase enough = planted_fault == PlantedFault::kFormTooSoon ? AgentPhase::kJoined : AgentPhase::kLoaded;
  const bool loaded = std::all_of(state.agents.begin(), state.agents.end(),
                                  [enough](const AgentState& agent) { return agent.phase >= enough; });
  if (!fill.agents.empty() || (loaded && state.over)) {
    if (now < state.restart_at) {
      verdict.Wait(state.restart_at);
    } else if (loaded) {
      return Action{.kind = Action::kRegroup};
    } else {
      return fill;
    }
  }
  return Action{.kind = Action::kNone, .look_again = verdict.look_again};
}

}  // namespace pangea
