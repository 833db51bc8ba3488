// The supervisor's decisions, as tables: which fact is named when several are known, and when a fact may still change
// the answer.
#include "master/fleet/reconcile.h"

#include "gtest/gtest.h"

namespace pangea {
namespace {

FleetState Running(int agents = 4) {
  FleetState state{.join_seconds = 10, .step_seconds = 5};
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
  state.agents[0].progress = "step 17, layer 3, collective 90";
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

}  // namespace
}  // namespace pangea
