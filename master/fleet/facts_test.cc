// The fleet's facts without a process: every order of events, and what follows from each.
#include "master/fleet/facts.h"

#include <random>

#include "gtest/gtest.h"

namespace pangea {
namespace {

using Mode = Facts::Mode;

struct Fleet2x2 {
  explicit Fleet2x2(int attempts = 0) {
    deployment.control.join_seconds = 10;
    deployment.control.step_seconds = 5;
    deployment.control.silence_seconds = 1000;
    deployment.control.recovery_attempts = attempts;
    for (int i = 0; i < 4; ++i) plan.agents.push_back({.stage = i / 2, .rank = i % 2, .last = i >= 2});
  }
  Deployment deployment;
  ParallelPlan plan;
};

Facts Running(uint64_t epochs = 1, int attempts = 0) {
  const Fleet2x2 fleet(attempts);
  Facts facts(fleet.deployment, fleet.plan, 0);
  for (int i = 0; i < 4; ++i) facts.OnLaunched(i, 100 + i, 0);
  for (int i = 0; i < 4; ++i) facts.OnJoined(i, {.pid = 100 + i}, 1);
  for (int i = 0; i < 4; ++i) facts.OnLoaded(i, 2);
  for (uint64_t epoch = 1; epoch <= epochs; ++epoch) {
    facts.Form(2);
    for (int i = 0; i < 4; ++i) facts.OnFormed(i, epoch, 3);
  }
  return facts;
}
AgentState::Failure Suffered(const char* text) { return {.at = 4, .status = absl::AbortedError(text)}; }
AgentState::Failure Own(const char* text) { return {.at = 4, .status = absl::InternalError(text), .fatal = true}; }

TEST(FactsTest, TheSlowestAgentDecidesThePhase) {
  const Fleet2x2 fleet;
  Facts facts(fleet.deployment, fleet.plan, 0);
  EXPECT_FALSE(facts.OnLaunched(0, 100, 0));
  EXPECT_EQ(facts.Places()[0].launched_pid, 100);
  EXPECT_EQ(facts.Places()[1].launched_pid, 0);
  for (int i = 0; i < 4; ++i) {
    EXPECT_FALSE(facts.Places()[i].taken);
    EXPECT_EQ(facts.OnJoined(i, {.pid = 100 + i}, 1), i == 3);
    EXPECT_TRUE(facts.Places()[i].taken);
  }
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(facts.OnLoaded(i, 2), i == 3);
    EXPECT_FALSE(facts.OnLoaded(i, 2)) << "told once";
  }
  EXPECT_EQ(facts.mode(), Mode::kStarting);
  facts.Form(3);
  EXPECT_EQ(facts.epoch(), 1u);
  for (int i = 0; i < 4; ++i) {
    EXPECT_FALSE(facts.OnFormed(i, 2, 3)) << "an epoch that nobody has begun";
    EXPECT_EQ(facts.OnFormed(i, 1, 3), i == 3);
    EXPECT_EQ(facts.Up(), i + 1);
  }
  EXPECT_EQ(facts.mode(), Mode::kRunning);
  EXPECT_TRUE(facts.OnLaunched(0, 200, 4)) << "started again";
}

TEST(FactsTest, AnEpochForgetsWhatWasSufferedInTheOneBefore) {
  Facts facts = Running();
  EXPECT_TRUE(facts.OnFailure(1, 1, Suffered("a peer is gone")));
  EXPECT_TRUE(facts.OnFailure(2, 1, Own("out of memory")));
  EXPECT_TRUE(facts.OnReport(0, 1, {.step = 3}, 4));
  facts.Form(5);
  EXPECT_EQ(facts.mode(), Mode::kForming);
  EXPECT_EQ(facts.Up(), 0);
  EXPECT_FALSE(facts.agent(1).failure);
  ASSERT_TRUE(facts.agent(2).failure) << "its process leaves, whichever the epoch";
  EXPECT_FALSE(facts.agent(0).report);
  EXPECT_FALSE(facts.OnFailure(1, 1, Suffered("its group was aborted"))) << "of an epoch that is over";
  EXPECT_FALSE(facts.OnReport(0, 1, {.step = 4}, 5));
  EXPECT_FALSE(facts.OnFormed(3, 1, 5)) << "of an epoch that is over";
  EXPECT_TRUE(facts.OnFailure(1, 1, Own("a fault of its own counts in every epoch")));
  for (int i = 0; i < 4; ++i) EXPECT_EQ(facts.OnFormed(i, 2, 6), i == 3);
  EXPECT_EQ(facts.Up(), 2) << "formed, but with a fault of their own";
}

TEST(FactsTest, AFaultOfItsOwnOutweighsWhatItSuffered) {
  Facts facts = Running();
  EXPECT_TRUE(facts.OnFailure(0, 1, Suffered("first")));
  EXPECT_FALSE(facts.OnFailure(0, 1, Suffered("second")));
  EXPECT_TRUE(facts.OnFailure(0, 1, Own("third")));
  EXPECT_FALSE(facts.OnFailure(0, 1, Own("fourth")));
  EXPECT_EQ(facts.agent(0).failure->status.message(), "third");
  const Action action = facts.Decide(std::nullopt, 0, 0, 4);
  EXPECT_EQ(action.kind, Action::kGiveUp);
  EXPECT_EQ(action.reason.message(), "agent 0 (stage 0, rank 0, pid 100): third");
}

TEST(FactsTest, ANewProcessHasNothingOfTheOneBefore) {
  Facts facts = Running();
  facts.OnFailure(0, 1, Own("out of memory"));
  facts.OnDisconnected(0, 5);
  facts.OnEnded(0, {.at = 5, .by_signal = true, .text = "was killed"});
  facts.OnLaunched(0, 300, 6);
  EXPECT_FALSE(facts.agent(0).ended);
  facts.OnJoined(0, {.pid = 300}, 6);
  EXPECT_FALSE(facts.agent(0).failure || facts.agent(0).disconnected);
  EXPECT_EQ(facts.Name(0), "agent 0 (stage 0, rank 0, pid 300)");
}

// Joined and loaded, as the places of `agents` were when the fleet began.
void Fill(Facts& facts, const std::vector<int>& agents, int pid, double now) {
  for (const int i : agents) facts.OnLaunched(i, pid + i, now);
  for (const int i : agents) facts.OnJoined(i, {.pid = pid + i}, now);
  for (const int i : agents) facts.OnLoaded(i, now);
}

TEST(FactsTest, ALossEndsTheEpochAndKeepsTheOthersWeights) {
  Facts facts = Running(1, 10);
  facts.OnEnded(2, {.at = 5, .by_signal = true, .text = "was killed"});
  facts.OnFailure(3, 1, Suffered("agent 2 is gone"));
  Action action = facts.Decide(4.5, 7, 0, 5);
  ASSERT_EQ(action.kind, Action::kInterrupt);
  EXPECT_EQ(facts.EndEpoch(action.agents, action.reason, /*planned=*/false, 5), (std::vector<int>{0, 1, 3}));
  EXPECT_EQ(facts.mode(), Mode::kForming);
  EXPECT_EQ(facts.interruption().message(), "agent 2 (stage 1, rank 0, pid 102) was killed");
  EXPECT_FALSE(facts.agent(3).failure);
  EXPECT_FALSE(facts.Places()[2].taken);
  // What is still on its way from the epoch that is over, and from the process that is lost.
  EXPECT_FALSE(facts.OnFailure(0, 1, Suffered("aborted")));
  EXPECT_FALSE(facts.OnFormed(0, 1, 5));
  EXPECT_FALSE(facts.OnReport(0, 1, {.step = 7}, 5));
  action = facts.Decide(std::nullopt, 0, 0, 5);
  ASSERT_EQ(action.kind, Action::kRestart) << "the epoch had lasted: at once";
  EXPECT_EQ(action.agents, std::vector<int>{2});
  Fill(facts, action.agents, 200, 6);
  EXPECT_EQ(facts.Decide(std::nullopt, 0, 0, 6).kind, Action::kRegroup);
  facts.Form(6);
  EXPECT_EQ(facts.Decide(std::nullopt, 0, 0, 6).kind, Action::kNone);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(facts.OnFormed(i, 2, 7), i == 3);
  EXPECT_EQ(facts.mode(), Mode::kRunning);
  EXPECT_EQ(facts.forming_since(), 5) << "since when nobody was served";
  EXPECT_EQ(facts.Up(), 4);
}

TEST(FactsTest, WhatIsPlannedIsNoRecovery) {
  Facts facts = Running(1, 1);
  for (int i = 0; i < 10; ++i) {
    facts.EndEpoch({3}, absl::UnavailableError("as asked"), /*planned=*/true, 5);
    facts.OnEnded(3, {.at = 5});
    ASSERT_EQ(facts.Decide(std::nullopt, 0, 0, 5).kind, Action::kRestart) << "at once";
    Fill(facts, {3}, 200 + i, 5);
    facts.Form(5);
    for (int a = 0; a < 4; ++a) facts.OnFormed(a, facts.epoch(), 5);
  }
  facts.OnEnded(0, {.at = 5, .by_signal = true, .text = "was killed"});
  EXPECT_EQ(facts.Decide(std::nullopt, 0, 0, 5).kind, Action::kInterrupt) << "the first that counts";
}

TEST(FactsTest, AProcessThatIsKilledForItsLossIsNoLossAgain) {
  Facts facts = Running(1, 10);
  facts.OnDisconnected(1, 5);
  Action action = facts.Decide(std::nullopt, 0, 0, 5.1);
  ASSERT_EQ(action.kind, Action::kInterrupt);
  facts.EndEpoch(action.agents, action.reason, /*planned=*/false, 5.1);
  EXPECT_EQ(facts.Decide(std::nullopt, 0, 0, 5.1).kind, Action::kNone) << "its process runs yet";
  facts.OnEnded(1, {.at = 5.2, .by_signal = true, .text = "was killed by its master"});
  EXPECT_EQ(facts.Decide(std::nullopt, 0, 0, 5.2).kind, Action::kRestart);
  facts.OnNotLaunched(1, {.at = 5.3, .text = "cannot be started: no memory"});
  action = facts.Decide(std::nullopt, 0, 0, 5.3);
  EXPECT_EQ(action.kind, Action::kInterrupt) << "tried again, as often as is allowed";
  EXPECT_NE(action.reason.message().find("no memory"), std::string::npos);
}

TEST(FactsTest, LossesWhileItRecoversCountUntilAnEpochLasts) {
  for (const bool lasts : {false, true}) {
    Facts facts = Running(1, 3);
    double now = 100;
    int recoveries = 0;
    for (; recoveries < 20; ++recoveries) {
      facts.OnEnded(0, {.at = now, .by_signal = true, .text = "was killed"});
      Action action = facts.Decide(std::nullopt, 0, 0, now);
      if (action.kind == Action::kGiveUp) break;
      ASSERT_EQ(action.kind, Action::kInterrupt);
      facts.EndEpoch(action.agents, action.reason, /*planned=*/false, now);
      EXPECT_TRUE(lasts || facts.restart_at() <= now + RestartWait(recoveries)) << recoveries;
      now = std::max(now, facts.restart_at());
      ASSERT_EQ(facts.Decide(std::nullopt, 0, 0, now).kind, Action::kRestart);
      Fill(facts, {0}, 200 + 10 * recoveries, now);
      if (!lasts) continue;  // killed before the groups were formed
      facts.Form(now);
      for (int i = 0; i < 4; ++i) facts.OnFormed(i, facts.epoch(), now);
      now += 61;  // longer than control.recovery_seconds
    }
    EXPECT_EQ(recoveries, lasts ? 20 : 3);
  }
}

// `losses` of agent 0 in a row, each before the groups are formed again; then they are.
double Burst(Facts& facts, int losses, double now) {
  for (int i = 0; i < losses; ++i) {
    facts.OnEnded(0, {.at = now, .by_signal = true, .text = "was killed"});
    const Action action = facts.Decide(std::nullopt, 0, 0, now);
    EXPECT_EQ(action.kind, Action::kInterrupt) << i;
    facts.EndEpoch(action.agents, action.reason, /*planned=*/false, now);
    now = std::max(now, facts.restart_at());
    Fill(facts, {0}, 1000 + i, now);
  }
  facts.Form(now);
  for (int i = 0; i < 4; ++i) facts.OnFormed(i, facts.epoch(), now);
  return now;
}

TEST(FactsTest, WhatWasSpentIsGivenBackOnceItServes) {
  Facts facts = Running(1, 3);
  const double now = Burst(facts, 3, 100) + 61;  // longer than control.recovery_seconds
  facts.OnEnded(0, {.at = now, .by_signal = true, .text = "was killed"});
  EXPECT_EQ(facts.Decide(std::nullopt, 0, 0, now).kind, Action::kInterrupt);
}

TEST(FactsTest, AnEpochThatHangsWithItsFirstStepHasNotServed) {
  Facts facts = Running(1, 3);
  const double now = Burst(facts, 3, 100) + 61;
  facts.OnEnded(0, {.at = now, .by_signal = true, .text = "was killed"});
  EXPECT_EQ(facts.Decide(/*oldest_step=*/now - 60, 1, /*last_result=*/50, now).kind, Action::kGiveUp);
}

TEST(FactsTest, ThoseWhoGoTogetherAreOneRecovery) {
  Facts facts = Running(1, 2);
  for (int i = 0; i < 4; ++i) {
    facts.OnEnded(i, {.at = 100, .by_signal = true, .text = "was killed"});
    const Action action = facts.Decide(std::nullopt, 0, 0, 100 + 0.01 * i);
    ASSERT_EQ(action.kind, Action::kInterrupt) << i;
    facts.EndEpoch(action.agents, action.reason, /*planned=*/false, 100);
  }
  EXPECT_EQ(facts.recoveries(), 1);
}

TEST(FactsTest, AResultIsProgress) {
  Facts facts = Running();
  const Action first = facts.Decide(10, 7, 0, 20);
  EXPECT_EQ(first.kind, Action::kNone) << "it may have been away: what has come meanwhile is read first";
  EXPECT_EQ(facts.Decide(10, 7, 0, *first.look_again).kind, Action::kGiveUp);
  EXPECT_EQ(facts.Decide(10, 7, 18, *first.look_again).kind, Action::kNone);
}

TEST(FactsTest, AMasterThatIsAwayAtEveryLookJudgesAllTheSame) {
  Facts facts = Running();
  int looks = 0;
  while (facts.Decide(10, 7, 0, 20 + looks).kind == Action::kNone) ASSERT_LT(++looks, 10);
  EXPECT_GT(looks, 2);
}

TEST(FactsTest, WhatHasFailedStaysFailed) {
  Facts facts = Running();
  EXPECT_TRUE(facts.Fail(absl::InternalError("first")));
  EXPECT_FALSE(facts.Fail(absl::InternalError("second")));
  EXPECT_EQ(facts.failure().message(), "first");
  facts.OnEnded(1, {.at = 5, .by_signal = true, .text = "was killed"});
  EXPECT_EQ(facts.Decide(std::nullopt, 0, 0, 100).kind, Action::kNone) << "given up once";
  facts.Stop();
  EXPECT_FALSE(facts.Fail(absl::InternalError("third"))) << "stops already";
}

// Events in any order, of any epoch: an epoch begins only when every agent has formed it, and the end is the end.
TEST(FactsTest, RandomLives) {
  for (uint32_t seed = 1; seed <= 2000; ++seed) {
    std::mt19937 random(seed);
    const auto any = [&](int n) { return static_cast<int>(random() % n); };
    Facts facts = Running(1 + any(3));
    std::vector<uint64_t> formed(4, facts.epoch());  // the model: which epoch each has formed last
    for (int event = 0; event < 60; ++event) {
      const int agent = any(4);
      const uint64_t epoch = facts.epoch() - any(2);
      const Mode before = facts.mode();
      switch (any(7)) {
        case 0:
          if (facts.IsAlive() && facts.All(AgentPhase::kLoaded)) facts.Form(event);
          break;
        case 1:
          facts.OnReport(agent, epoch, {.step = static_cast<uint64_t>(event)}, event);
          break;
        case 2:
          facts.OnFailure(agent, epoch, any(2) ? Own("own") : Suffered("suffered"));
          break;
        case 3:
          if (any(20) == 0) facts.Fail(absl::InternalError("failed"));
          break;
        default: {
          if (epoch == facts.epoch() && formed[agent] < epoch) formed[agent] = epoch;
          const bool all = std::count(formed.begin(), formed.end(), facts.epoch()) == 4;
          const bool began = facts.OnFormed(agent, epoch, event);
          EXPECT_EQ(began, all && before != Mode::kRunning && before != Mode::kFailed) << seed;
          break;
        }
      }
      if (before == Mode::kFailed) {
        ASSERT_EQ(facts.mode(), Mode::kFailed) << seed;
      }
      ASSERT_EQ(facts.mode() == Mode::kRunning, before != Mode::kFailed && facts.mode() != Mode::kFailed &&
                                                    std::count(formed.begin(), formed.end(), facts.epoch()) == 4)
          << seed;
    }
  }
}

TEST(FactsTest, AnotherLayoutKeepsWhoHasJoinedAndLosesTheRest) {
  Facts facts = Running(1, 5);
  facts.OnFailure(3, 1, Own("out of memory"));
  facts.EndEpoch({}, absl::UnavailableError("asked for"), /*planned=*/true, 10);
  Fleet2x2 next;
  next.plan.agents.resize(3);
  facts.Lay(next.deployment, next.plan, {3, -1, 0}, /*trial=*/true, 11);
  ASSERT_EQ(facts.agents(), 3);
  EXPECT_EQ(facts.agent(0).pid, 103);
  EXPECT_TRUE(facts.agent(0).failure) << "its process leaves, wherever it sits";
  EXPECT_EQ(facts.agent(2).pid, 100);
  EXPECT_EQ(facts.introduction(2).pid, 100);
  EXPECT_EQ(facts.agent(2).stage, 1);
  EXPECT_EQ(facts.agent(2).phase, AgentPhase::kJoined) << "it has to load anew";
  EXPECT_TRUE(facts.agent(1).lost);
  EXPECT_EQ(facts.Places()[1].launched_pid, 0);
  EXPECT_EQ(facts.recoveries(), 0) << "it was asked for";
  EXPECT_EQ(facts.mode(), Mode::kForming);
  EXPECT_EQ(facts.epoch(), 1u);
}

}  // namespace
}  // namespace pangea
