// Thousands of a fleet's lives in virtual time. Half of the seeds are new ones in every run; PANGEA_LIFE_SEED=N runs
// that life alone, PANGEA_LIVES=N sets how many are run.
#include <cstdlib>
#include <iostream>
#include <random>

#include "gtest/gtest.h"
#include "master/fleet/fleet_life_test_util.h"

namespace pangea {
namespace {

TEST(FleetLifeTest, WhateverBefallsItsAgentsItServesAgain) {
  FleetLifeCounts c;
  if (const char* seed = std::getenv("PANGEA_LIFE_SEED")) {
    EXPECT_EQ(RunFleetLife(std::strtoull(seed, nullptr, 10), &c), "");
    return;
  }
  const char* asked = std::getenv("PANGEA_LIVES");
  const uint64_t lives = asked != nullptr ? std::strtoull(asked, nullptr, 10) : 2000;
  const uint64_t start = (std::random_device{}() >> 2) + 1'000'000;
  std::cout << "new seeds from " << start << "\n";
  for (uint64_t i = 1; i <= lives; ++i) {
    const uint64_t seed = i <= lives / 2 ? i : start + i;
    ASSERT_EQ(RunFleetLife(seed, &c), "") << "reproduce with PANGEA_LIFE_SEED=" << seed;
  }
  std::cout << c.lives << " lives: " << c.epochs << " epochs, " << c.steps << " steps, " << c.deaths << " deaths, "
            << c.freezes << " freezes, " << c.own_faults << " faults of their own, " << c.cuts << " broken streams, "
            << c.lost_links << " lost links, " << c.pauses << " times that the master stood still, " << c.planned
            << " planned restarts, " << c.restarts << " processes started again, " << c.spares << " spares used, "
            << c.late << " late words, " << c.given_up << " given up\n";
  for (const uint64_t n : {c.epochs, c.deaths, c.freezes, c.own_faults, c.cuts, c.lost_links, c.pauses, c.planned,
                           c.restarts, c.spares, c.late, c.given_up})
    EXPECT_GT(n, lives / 40) << "this happens too seldom to be tried";
}

}  // namespace
}  // namespace pangea
