// The random lives must catch what is planted. Built from the engine's sources with PANGEA_PLANTED_BUGS.
#include "master/schedule/planted_bug.h"

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdlib>

#include "master/schedule/fair_life_test_util.h"
#include "master/schedule/random_life_test_util.h"

namespace pangea {

PlantedBug planted_bug = PlantedBug::kNone;

namespace {

constexpr int kFound = 3;

// Runs lives until one has a fault; a broken invariant aborts.
[[noreturn]] void Hunt(PlantedBug bug, uint64_t lives) {
  planted_bug = bug;
  for (uint64_t seed = 1; seed <= lives; ++seed) {
    if (!RunLife(seed, nullptr).empty() || !RunTimedLife(seed, nullptr).empty()) std::_Exit(kFound);
    if (seed % 8 == 0 && !RunFairLife(seed, nullptr).empty()) std::_Exit(kFound);
  }
  std::_Exit(0);
}

bool Caught(int status) {
  return (WIFEXITED(status) && WEXITSTATUS(status) == kFound) || (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

class Planted : public ::testing::TestWithParam<PlantedBug> {};

TEST_P(Planted, IsCaught) { EXPECT_EXIT(Hunt(GetParam(), 30000), Caught, ""); }

INSTANTIATE_TEST_SUITE_P(
    All, Planted,
    ::testing::Values(
        PlantedBug::kLeakBlock, PlantedBug::kFreeEarly, PlantedBug::kFinishTwice, PlantedBug::kSharePartial,
        PlantedBug::kForgetGenerated, PlantedBug::kForkTooSoon, PlantedBug::kUncountedCopy, PlantedBug::kTableNotTold,
        PlantedBug::kFailNeighbour, PlantedBug::kNeverYield, PlantedBug::kStaleIndex, PlantedBug::kIndexPartial,
        PlantedBug::kWholeHit, PlantedBug::kShareFailed, PlantedBug::kEchoFromCache, PlantedBug::kCopyTooSoon,
        PlantedBug::kSwapLate, PlantedBug::kSwapLeak, PlantedBug::kSwapReuse, PlantedBug::kSwapShort,
        PlantedBug::kStarveAccount, PlantedBug::kSaveIdleness, PlantedBug::kDribble, PlantedBug::kForgetSalt,
        PlantedBug::kGiveBackEarly, PlantedBug::kHoleShared, PlantedBug::kOneTable, PlantedBug::kCopyElsewhere,
        PlantedBug::kMaskedAhead, PlantedBug::kMaskLost, PlantedBug::kOldMask, PlantedBug::kMaskOwed,
        PlantedBug::kLateResult, PlantedBug::kOutliveEpoch, PlantedBug::kSwapOutlives, PlantedBug::kIndexOutlives,
        PlantedBug::kVoidRows, PlantedBug::kVoidBeginning, PlantedBug::kVoidIndexed, PlantedBug::kIndexEarly,
        PlantedBug::kEndUnknown, PlantedBug::kNumbersGoOn, PlantedBug::kLayoutStays, PlantedBug::kKeepOversized));

TEST(Planted, TheUnchangedEngineIsNotAccused) {
  EXPECT_EXIT(
      Hunt(PlantedBug::kNone, 500), [](int status) { return WIFEXITED(status) && WEXITSTATUS(status) == 0; }, "");
}

}  // namespace
}  // namespace pangea
