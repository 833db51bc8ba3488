// The fleet's facts without a process: every order of events, and what follows from each.
#include "master/fleet/facts.h"

#include <random>

#include "gtest/gtest.h"

namespace pangea {
namespace {

using Mode = Facts::Mode;

struct Fleet2x2 {
  Fleet2x2() {
    deployment.control.join_seconds = 10;
    deployment.control.step_seconds = 5;
    for (int i = 0; i < 4; ++i) plan.agents.push_back({.stage = i / 2, .rank = i % 2, .last = i >= 2});
  }
  Deployment deployment;
  ParallelPlan plan;
};

Facts Running(uint64_t epochs = 1) {
  const Fleet2x2 fleet;
  Facts facts(fleet.deployment, fleet.plan, 0);
  for (int i = 0; i < 4; ++i) facts.OnLaunched(i, 100 + i);
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
  EXPECT_FALSE(facts.OnLaunched(0, 100));
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
  EXPECT_TRUE(facts.OnLaunched(0, 200)) << "started again";
}

TEST(FactsTest, AnEpochForgetsWhatWasSufferedInTheOneBefore) {
  Facts facts = Running();
  EXPECT_TRUE(facts.OnFailure(1, 1, Suffered("a peer is gone")));
  EXPECT_TRUE(facts.OnFailure(2, 1, Own("out of memory")));
  EXPECT_TRUE(facts.OnProgress(0, 1, "step 3", 4));
  facts.Form(5);
  EXPECT_EQ(facts.mode(), Mode::kForming);
  EXPECT_EQ(facts.Up(), 0);
  EXPECT_FALSE(facts.agent(1).failure);
  ASSERT_TRUE(facts.agent(2).failure) << "its process leaves, whichever the epoch";
  EXPECT_EQ(facts.agent(0).progress, "");
  EXPECT_FALSE(facts.OnFailure(1, 1, Suffered("its group was aborted"))) << "of an epoch that is over";
  EXPECT_FALSE(facts.OnProgress(0, 1, "step 4", 5));
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
  facts.OnLaunched(0, 300);
  EXPECT_FALSE(facts.agent(0).ended);
  facts.OnJoined(0, {.pid = 300}, 6);
  EXPECT_FALSE(facts.agent(0).failure || facts.agent(0).disconnected);
  EXPECT_EQ(facts.Name(0), "agent 0 (stage 0, rank 0, pid 300)");
}

TEST(FactsTest, AResultIsProgress) {
  Facts facts = Running();
  EXPECT_EQ(facts.Decide(10, 7, 0, 20).kind, Action::kGiveUp);
  EXPECT_EQ(facts.Decide(10, 7, 18, 20).kind, Action::kNone);
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
          facts.OnProgress(agent, epoch, std::to_string(event), event);
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

}  // namespace
}  // namespace pangea
