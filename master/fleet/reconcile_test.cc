// The supervisor's decisions, as tables: which fact is named when several are known, and when a fact may still change
// the answer.
#include "master/fleet/reconcile.h"

#include "gtest/gtest.h"

namespace pangea {
namespace {

FleetState Running(int agents = 4) {
  FleetState state{.join_seconds = 10, .silence_seconds = 1000, .step_seconds = 5, .over = false};
  for (int i = 0; i < agents; ++i) {
    state.agents.push_back({.stage = i / 2, .rank = i % 2, .pid = 100 + i, .phase = AgentPhase::kFormed});
  }
  return state;
}
AgentState::Failure Suffered(double at, const char* text) { return {.at = at, .status = absl::AbortedError(text)}; }
AgentState::Failure Own(double at, const char* text) {
  return {.at = at, .status = absl::InternalError(text), .fatal = true};
}
AgentState::End Killed(double at) { return {.at = at, .by_signal = true, .text = "was killed by signal 9 (Killed)"}; }
AgentState::End Exited(double at) { return {.at = at, .text = "exited with code 1"}; }

std::string Reason(const Action& action) {
  return action.kind == Action::kGiveUp ? std::string(action.reason.message()) : "";
}

TEST(ReconcileTest, NothingToDoWhileAllIsWell) {
  const Action action = Reconcile(Running(), 1000);
  EXPECT_EQ(action.kind, Action::kNone);
  EXPECT_EQ(action.look_again, 1005);
}

TEST(ReconcileTest, DeathBySignalIsNamedAtOnce) {
  FleetState state = Running();
  state.agents[2].ended = Killed(50);
  const Action action = Reconcile(state, 50);
  EXPECT_EQ(Reason(action), "agent 2 (stage 1, rank 0, pid 102) was killed by signal 9 (Killed)");
  EXPECT_EQ(action.reason.code(), absl::StatusCode::kUnavailable);
}

TEST(ReconcileTest, WhatAPeerSufferedWaitsForTheCause) {
  FleetState state = Running();
  state.agents[0].failure = Suffered(50, "rank 1 closed the connection");
  state.agents[1].disconnected = 50.001;
  Action action = Reconcile(state, 50.01);
  EXPECT_EQ(action.kind, Action::kNone);
  ASSERT_TRUE(action.look_again);
  EXPECT_LT(*action.look_again, 50.1) << "told in under 100 ms";
  // The cause comes: it is named, not the symptoms.
  state.agents[1].ended = Killed(50.02);
  EXPECT_EQ(Reason(Reconcile(state, 50.02)), "agent 1 (stage 0, rank 1, pid 101) was killed by signal 9 (Killed)");
  // It never comes: the connection says more than what a peer suffered.
  state.agents[1].ended.reset();
  EXPECT_EQ(Reason(Reconcile(state, 50.06)), "agent 1 (stage 0, rank 1, pid 101) lost its connection");
  state.agents[1].disconnected.reset();
  EXPECT_EQ(Reason(Reconcile(state, 50.06)), "agent 0 (stage 0, rank 0, pid 100): rank 1 closed the connection");
}

TEST(ReconcileTest, OfSeveralSufferedFailuresTheFirstIsNamed) {
  FleetState state = Running();
  state.agents[0].failure = Suffered(51, "aborted by agent 3");
  state.agents[3].failure = Suffered(50, "rank 0 did not enter within 5s");
  EXPECT_EQ(Reason(Reconcile(state, 52)), "agent 3 (stage 1, rank 1, pid 103): rank 0 did not enter within 5s");
}

TEST(ReconcileTest, WhatAnAgentSaysIsWrongWithItselfIsNamedFirst) {
  FleetState state = Running();
  state.agents[3].failure = Own(50, "cannot map the weights");
  state.agents[0].ended = Killed(49);
  const Action action = Reconcile(state, 50);
  EXPECT_EQ(Reason(action), "agent 3 (stage 1, rank 1, pid 103): cannot map the weights");
  EXPECT_EQ(action.reason.code(), absl::StatusCode::kInternal);
}

TEST(ReconcileTest, AnExitWaitsForWhatTheAgentHasSentBefore) {
  FleetState state = Running();
  state.agents[1].ended = Exited(50);
  Action action = Reconcile(state, 50);
  EXPECT_EQ(action.kind, Action::kNone);
  ASSERT_TRUE(action.look_again);
  state.agents[1].disconnected = 50.01;  // all that it sent has been read
  EXPECT_EQ(Reason(Reconcile(state, 50.01)), "agent 1 (stage 0, rank 1, pid 101) exited with code 1");
  state.agents[1].disconnected.reset();
  EXPECT_EQ(Reason(Reconcile(state, *action.look_again)), "agent 1 (stage 0, rank 1, pid 101) exited with code 1");
  state.agents[1].phase = AgentPhase::kAwaited;  // never joined: it has no stream
  EXPECT_EQ(Reason(Reconcile(state, 50)), "agent 1 (stage 0, rank 1, pid 101) exited with code 1");
}

TEST(ReconcileTest, ARemoteAgentIsLostWithItsConnection) {
  FleetState state = Running();
  state.agents[3].local = false;
  state.agents[3].disconnected = 50;
  EXPECT_EQ(Reason(Reconcile(state, 50)), "agent 3 (stage 1, rank 1, pid 103) lost its connection");
}

TEST(ReconcileTest, AnAgentThatIsTooSlowToStartIsNamed) {
  struct Row {
    AgentPhase phase;
    const char* what;
  };
  for (const Row& row :
       {Row{AgentPhase::kAwaited, "did not join"}, Row{AgentPhase::kJoined, "did not load its weights"},
        Row{AgentPhase::kLoaded, "did not form its group"}}) {
    FleetState state = Running();
    state.phase_since = 100;
    state.agents[1].phase = row.phase;
    state.agents[1].pid = 0;
    const Action action = Reconcile(state, 109);
    EXPECT_EQ(action.kind, Action::kNone);
    EXPECT_EQ(action.look_again, 110);
    EXPECT_EQ(Reason(Reconcile(state, 110)),
              std::string("agent 1 (stage 0, rank 1) ") + row.what + " within 10 s (control.join_seconds)");
  }
}

TEST(ReconcileTest, AStepThatTakesTooLongTellsWhereEveryAgentIs) {
  FleetState state = Running(2);
  state.oldest_step = 200;
  state.oldest_step_number = 17;
  state.agents[0].report = AgentState::Report{.step = 17, .layer = 3, .collective = 90, .doing = AgentDoing::kComputes};
  EXPECT_EQ(Reconcile(state, 204).kind, Action::kNone);
  const Action waiting = Reconcile(state, 205);
  EXPECT_EQ(waiting.kind, Action::kNone) << "the agents' own limit speaks first";
  FleetState going_on = state;
  going_on.last_progress = 204;  // a step may take long, as long as some agent gets on
  EXPECT_EQ(Reconcile(going_on, *waiting.look_again).kind, Action::kNone);
  const std::string reason = Reason(Reconcile(state, *waiting.look_again));
  EXPECT_NE(reason.find("step 17 made no progress for 5 s"), std::string::npos) << reason;
  EXPECT_NE(reason.find("pid 100) at step 17, layer 3"), std::string::npos) << reason;
}

// --- After an epoch has served.

FleetState Serving() {
  FleetState state = Running();
  state.served = true;
  state.attempts = 3;
  return state;
}

TEST(ReconcileTest, ALossEndsTheEpochAndNotTheFleet) {
  FleetState state = Serving();
  state.agents[2].ended = Killed(50);
  const Action action = Reconcile(state, 50);
  EXPECT_EQ(action.kind, Action::kInterrupt);
  EXPECT_EQ(action.agents, std::vector<int>{2});
  EXPECT_EQ(action.reason.message(), "agent 2 (stage 1, rank 0, pid 102) was killed by signal 9 (Killed)");
  state.served = false;
  EXPECT_EQ(Reconcile(state, 50).kind, Action::kGiveUp) << "nobody is served yet";
}

TEST(ReconcileTest, AllWhoAreGoneAreReplacedAtOnce) {
  FleetState state = Serving();
  state.agents[0].disconnected = 50;
  state.agents[1].failure = Suffered(50, "rank 0 closed the connection");
  state.agents[2].ended = Killed(50);
  state.agents[3].failure = Own(50, "cannot map the weights");
  EXPECT_EQ(Reconcile(state, 50).agents, (std::vector<int>{0, 2, 3})) << "who only suffered keeps its weights";
}

TEST(ReconcileTest, WhatNobodyIsToBlameForCostsNobodyItsProcess) {
  FleetState state = Serving();
  state.agents[1].failure = Suffered(50, "rank 0 closed the connection");
  EXPECT_EQ(Reconcile(state, 50).kind, Action::kNone) << "the cause may still show";
  const Action action = Reconcile(state, 50.06);
  EXPECT_EQ(action.kind, Action::kInterrupt);
  EXPECT_TRUE(action.agents.empty());
}

TEST(ReconcileTest, LostPlacesAreFilledAndThenTheGroupsFormed) {
  FleetState state = Serving();
  state.over = true;
  state.restart_at = 55;
  for (AgentState& agent : state.agents) agent.phase = AgentPhase::kLoaded;
  state.agents[1].phase = AgentPhase::kAwaited;
  state.agents[1].lost = state.agents[1].running = true;  // killed, and not yet reaped
  state.phase_since = 50;
  EXPECT_EQ(Reconcile(state, 56).kind, Action::kNone) << "two processes of one place would be two truths";
  state.agents[1].running = false;
  Action action = Reconcile(state, 54);
  EXPECT_EQ(action.kind, Action::kNone);
  EXPECT_EQ(action.look_again, 55) << "not before it is time";
  action = Reconcile(state, 55);
  EXPECT_EQ(action.kind, Action::kRestart);
  EXPECT_EQ(action.agents, std::vector<int>{1});
  state.agents[1].lost = false;
  state.agents[1].running = true;
  EXPECT_EQ(Reconcile(state, 55).kind, Action::kNone) << "it has been started";
  state.agents[1].phase = AgentPhase::kLoaded;
  EXPECT_EQ(Reconcile(state, 55).kind, Action::kRegroup);
  state.over = false;
  EXPECT_EQ(Reconcile(state, 55).kind, Action::kNone) << "they are forming";
}

TEST(ReconcileTest, ARemotePlaceIsFilledFromOutsideOrNotAtAll) {
  FleetState state = Serving();
  state.over = true;
  state.agents[1] = {.local = false, .lost = true};
  state.phase_since = 50;
  EXPECT_EQ(Reconcile(state, 59).kind, Action::kNone) << "nothing that the master could start";
  const Action action = Reconcile(state, 60);
  EXPECT_EQ(action.kind, Action::kGiveUp);
  EXPECT_NE(Reason(action).find("did not join within 10 s"), std::string::npos) << Reason(action);
}

TEST(ReconcileTest, AProcessThatIsKilledAndDoesNotGoIsNotWaitedForTwice) {
  FleetState state = Serving();
  state.over = true;
  state.agents[1] = {.running = true, .lost = true};
  state.phase_since = 50;
  EXPECT_EQ(Reconcile(state, 59).kind, Action::kNone) << "none is started beside it";
  EXPECT_EQ(Reconcile(state, 60).kind, Action::kGiveUp);
}

TEST(ReconcileTest, WhoStandsStillBeforeAnEpochServesIsFoundByItsSilence) {
  const struct {
    const char* what;
    AgentPhase phase;
    double after;  // silence_seconds is 1, join_seconds are 60
  } kCases[] = {
      {"starts", AgentPhase::kAwaited, 10}, {"loads", AgentPhase::kJoined, 10}, {"waits", AgentPhase::kLoaded, 4}};
  for (const auto& c : kCases) {
    FleetState state = Serving();
    state.over = true;
    state.join_seconds = 60;
    state.silence_seconds = 1;
    state.phase_since = 50;
    for (AgentState& agent : state.agents) agent.phase = AgentPhase::kJoined, agent.heard = 1000;
    state.agents[2].phase = c.phase;
    state.agents[2].running = true;
    state.agents[2].heard = 50;
    EXPECT_EQ(Reconcile(state, 50 + c.after - 0.01).kind, Action::kNone) << c.what;
    const Action action = Reconcile(state, 50 + c.after);
    EXPECT_EQ(action.kind, Action::kInterrupt) << c.what;
    EXPECT_EQ(action.agents, std::vector<int>{2}) << c.what;
    state.over = false;
    if (c.phase == AgentPhase::kLoaded) {
      EXPECT_EQ(Reconcile(state, 50 + c.after).kind, Action::kInterrupt) << "while the groups are formed";
    }
    state.over = true;
    state.agents[0].heard = 50;
    EXPECT_EQ(Reconcile(state, 60).agents, (std::vector<int>{0, 2})) << c.what << ": all of them at once";
    state.looking_since = 52;
    EXPECT_EQ(Reconcile(state, 50 + c.after).kind, Action::kNone) << c.what << ": its master stood still itself";
    state.served = false;
    state.looking_since = 0;
    EXPECT_EQ(Reconcile(state, 50 + c.after).kind, Action::kNone) << c.what << ": the first start may take its time";
  }
}

TEST(ReconcileTest, AnotherLayoutThatComesToNothingMakesWayForTheOneBefore) {
  FleetState state = Serving();
  state.over = true;
  state.trial = true;
  state.agents[0] = {.failure =
                         AgentState::Failure{.at = 50, .status = absl::NotFoundError("no such file"), .fatal = true}};
  state.recoveries = 1;
  EXPECT_EQ(Reconcile(state, 50).kind, Action::kInterrupt) << "it may be chance";
  state.recoveries = 2;
  EXPECT_EQ(Reconcile(state, 50).kind, Action::kFallBack);
  state.trial = false;
  EXPECT_EQ(Reconcile(state, 50).kind, Action::kInterrupt);
}

TEST(ReconcileTest, RecoveriesEnd) {
  FleetState state = Serving();
  state.agents[0].ended = Killed(50);
  state.recoveries = 2;
  EXPECT_EQ(Reconcile(state, 50).kind, Action::kInterrupt);
  state.recoveries = 3;
  const Action action = Reconcile(state, 50);
  EXPECT_EQ(action.kind, Action::kGiveUp);
  EXPECT_EQ(Reason(action),
            "agent 0 (stage 0, rank 0, pid 100) was killed by signal 9 (Killed); it is the end of 3 "
            "recoveries (control.recovery_attempts)");
  double waited = 0;
  EXPECT_EQ(RestartWait(0) + RestartWait(1), 0);
  for (int i = 2; i < 60; ++i) {
    EXPECT_GE(RestartWait(i), RestartWait(i - 1));
    EXPECT_LE(RestartWait(i), 5);
    waited += RestartWait(i);
  }
  EXPECT_GT(waited, 200);
}

// --- Silence while a step is under way: a table of what an agent tells, and until when that is good enough.

TEST(ReconcileTest, SilenceIsJudgedByWhatIsTold) {
  using Doing = AgentDoing;
  struct Row {
    const char* what;
    std::optional<AgentState::Report> report;
    double until;      // the step was sent at 100 and is number 9; silence_seconds is 1
    const char* said;  // "": nothing, ever
  };
  const auto told = [](Doing doing, uint64_t step, double layer_seconds, double changed, double gap = 0.25) {
    // At 1000: it goes on to tell, so that only what it tells can be wrong.
    return AgentState::Report{.step = step,
                              .layer = 3,
                              .collective = 40,
                              .doing = doing,
                              .layer_seconds = layer_seconds,
                              .at = 1000,
                              .changed = changed,
                              .longest_gap = gap};
  };
  auto frozen = told(Doing::kWaitsForPeer, 9, 0.1, 99);
  frozen.at = 100.5;
  auto slow_to_tell = frozen;
  slow_to_tell.longest_gap = 0.75;
  const Row rows[] = {
      {"never told anything", std::nullopt, 101, "has told nothing"},
      {"tells no more", frozen, 101.5, "has told nothing"},
      {"was slow to tell before", slow_to_tell, 103.5, "has told nothing"},
      {"waits for a peer", told(Doing::kWaitsForPeer, 9, 0.1, 99), 0, ""},
      {"waits for the master", told(Doing::kWaitsForMaster, 9, 0.1, 99), 0, ""},
      {"has not begun with the step", told(Doing::kNothing, 8, 0.1, 99), 101, "has not begun with it"},
      {"is done with the step", told(Doing::kNothing, 9, 0.1, 99), 0, ""},
      {"computes for long", told(Doing::kComputes, 9, 0.1, 102), 103, "does not get on at step 9, layer 3"},
      {"computes a long layer", told(Doing::kComputes, 9, 2, 102), 118, "does not get on at step 9, layer 3"},
      {"computes its first layer", told(Doing::kComputes, 9, 0, 99), 0, ""},
  };
  for (const Row& row : rows) {
    FleetState state = Serving();
    state.silence_seconds = 1;
    state.step_seconds = 500;
    state.oldest_step = 100;
    state.oldest_step_number = 9;
    for (AgentState& agent : state.agents) agent.report = told(Doing::kWaitsForMaster, 9, 0.1, 99);
    state.agents[2].report = row.report;
    if (*row.said == 0) {
      EXPECT_EQ(Reconcile(state, 400).kind, Action::kNone) << row.what;
      continue;
    }
    const Action before = Reconcile(state, row.until - 0.01);
    EXPECT_EQ(before.kind, Action::kNone) << row.what << ": " << before.reason;
    EXPECT_LE(*before.look_again, row.until) << row.what;
    const Action action = Reconcile(state, row.until);
    ASSERT_EQ(action.kind, Action::kInterrupt) << row.what;
    EXPECT_EQ(action.agents, std::vector<int>{2}) << row.what;
    EXPECT_NE(action.reason.message().find(row.said), std::string::npos) << action.reason;
    EXPECT_NE(action.reason.message().find("agent 2 (stage 1, rank 0, pid 102)"), std::string::npos) << action.reason;
    state.looking_since = row.until;
    EXPECT_EQ(Reconcile(state, row.until).kind, Action::kNone) << row.what << ": the master itself stood still";
    state.oldest_step.reset();
    EXPECT_EQ(Reconcile(state, row.until + 100).kind, Action::kNone) << row.what << ": nothing is under way";
  }
}

TEST(ReconcileTest, WhenAllWaitForOneAnotherTheirGroupsAreFormedAnew) {
  FleetState state = Serving();
  state.silence_seconds = 1;
  state.oldest_step = 100;
  state.oldest_step_number = 9;
  for (AgentState& agent : state.agents)
    agent.report = AgentState::Report{.step = 9, .doing = AgentDoing::kWaitsForPeer, .at = 1000, .changed = 101};
  EXPECT_EQ(Reconcile(state, 105.9).kind, Action::kNone);
  const Action action = Reconcile(state, 106);
  EXPECT_EQ(action.kind, Action::kInterrupt);
  EXPECT_TRUE(action.agents.empty());
  state.agents[3].report->doing = AgentDoing::kComputes;
  EXPECT_EQ(Reconcile(state, 105.9).kind, Action::kNone) << "somebody gets on";
}

TEST(ReconcileTest, WhoStandsStillTogetherIsReplacedTogether) {
  FleetState state = Serving();
  state.silence_seconds = 1;
  state.oldest_step = 100;
  state.oldest_step_number = 9;
  for (AgentState& agent : state.agents)
    agent.report = AgentState::Report{.step = 9, .doing = AgentDoing::kWaitsForMaster, .at = 101.4, .changed = 99};
  state.agents[1].report->at = 100.5;
  state.agents[3].report->at = 100.7;
  const Action action = Reconcile(state, 101.5);
  EXPECT_EQ(action.kind, Action::kInterrupt);
  EXPECT_EQ(action.agents, (std::vector<int>{1, 3})) << "the others told a moment ago";
  EXPECT_NE(action.reason.message().find("agent 1"), std::string::npos) << action.reason;
}

// A lost place gets an agent that stands by, if there is one for its kind of host, else a process of its own.
TEST(ReconcileTest, SparesComeBeforeNewProcesses) {
  FleetState state = Serving();
  state.over = true;
  state.phase_since = 95;
  state.agents[0].lost = state.agents[1].lost = true;
  state.agents[0].phase = state.agents[1].phase = AgentPhase::kAwaited;
  state.remote_spares = 5;
  Action action = Reconcile(state, 100);
  EXPECT_EQ(action.kind, Action::kRestart) << "those of other hosts are no help";
  EXPECT_EQ(action.agents, (std::vector<int>{0, 1}));
  state.local_spares = 1;
  action = Reconcile(state, 100);
  EXPECT_EQ(action.kind, Action::kMoveToSpare);
  EXPECT_EQ(action.agents, std::vector<int>{0});
  state.agents[0].running = true;
  EXPECT_EQ(Reconcile(state, 100).agents, std::vector<int>{1}) << "the process before is not gone yet";
  state.agents[1].local = false;
  action = Reconcile(state, 100);
  EXPECT_EQ(action.kind, Action::kMoveToSpare);
  EXPECT_EQ(action.agents, std::vector<int>{1});
  state.restart_at = 101;
  EXPECT_EQ(Reconcile(state, 100).kind, Action::kNone) << "the wait before it holds for spares too";
}

TEST(ReconcileTest, APlaceThatNobodyComesForIsLeftOut) {
  FleetState state = Serving();
  state.over = true;
  state.phase_since = 99;
  state.agents[3] = {.stage = 1, .rank = 1, .local = false, .lost = true, .lost_at = 99};
  EXPECT_EQ(Reconcile(state, 108).kind, Action::kNone) << "no time is given";
  state.shrink_seconds = 2;
  Action action = Reconcile(state, 100.9);
  EXPECT_EQ(action.kind, Action::kNone);
  EXPECT_EQ(action.look_again, 101);
  action = Reconcile(state, 101);
  EXPECT_EQ(action.kind, Action::kShrink);
  EXPECT_EQ(action.agents, std::vector<int>{3});
  EXPECT_NE(action.reason.message().find("agent 3 (stage 1, rank 1)"), std::string::npos) << action.reason;
  state.agents[0].lost = true;
  state.agents[0].phase = AgentPhase::kAwaited;
  EXPECT_EQ(Reconcile(state, 101).kind, Action::kRestart) << "first those that can be had";
  state.agents[0].running = true;
  EXPECT_EQ(Reconcile(state, 101).kind, Action::kNone);
}

// When recovery is spent on places whose processes never get as far as their weights, others may do without them.
TEST(ReconcileTest, APlaceInWhichEveryProcessEndsIsLeftOut) {
  FleetState state = Serving();
  state.over = true;
  state.recoveries = state.attempts = 3;
  state.agents[2].phase = AgentPhase::kJoined;
  state.agents[2].ended = Exited(50);
  EXPECT_EQ(Reconcile(state, 51).kind, Action::kGiveUp);
  state.shrink_seconds = 2;
  const Action action = Reconcile(state, 51);
  EXPECT_EQ(action.kind, Action::kShrink);
  EXPECT_EQ(action.agents, std::vector<int>{2});
  state.agents[2].phase = AgentPhase::kLoaded;
  EXPECT_EQ(Reconcile(state, 51).kind, Action::kGiveUp) << "this one has come further";
}

}  // namespace
}  // namespace pangea
