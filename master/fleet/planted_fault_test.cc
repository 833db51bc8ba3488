// The fleet's lives must catch what is planted. Built from the sources of recovery with PANGEA_PLANTED_BUGS.
#include "master/fleet/planted_fault.h"

#include "gtest/gtest.h"
#include "master/fleet/fleet_life_test_util.h"

namespace pangea {

PlantedFault planted_fault = PlantedFault::kNone;

namespace {

// How many lives it takes to find it; 0: too many.
uint64_t Hunt(PlantedFault fault, uint64_t lives) {
  planted_fault = fault;
  for (uint64_t seed = 1; seed <= lives; ++seed)
    if (!RunFleetLife(seed, nullptr).empty()) return seed;
  return 0;
}

class PlantedInFleet : public ::testing::TestWithParam<PlantedFault> {};

TEST_P(PlantedInFleet, IsCaught) { EXPECT_NE(Hunt(GetParam(), 4000), 0u); }

INSTANTIATE_TEST_SUITE_P(All, PlantedInFleet,
                         ::testing::Values(PlantedFault::kBlameTheWaiting, PlantedFault::kForgiveSilence,
                                           PlantedFault::kForgiveComing, PlantedFault::kBesideTheOld,
                                           PlantedFault::kFormTooSoon, PlantedFault::kNeverGiveUp,
                                           PlantedFault::kNoWait, PlantedFault::kOldFailure, PlantedFault::kOldFormed,
                                           PlantedFault::kCountPlanned, PlantedFault::kCountTwice,
                                           PlantedFault::kNeverForget));

TEST(PlantedInFleet, TheUnchangedCodeIsNotAccused) { EXPECT_EQ(Hunt(PlantedFault::kNone, 200), 0u); }

}  // namespace
}  // namespace pangea
