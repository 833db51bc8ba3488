// Every run goes through the same seeds, which planted bugs are known to show up in, and through as many again that no
// run before has seen. PANGEA_LIFE_SEED=N runs that life alone; PANGEA_LIVES=N sets how many of each are run.
#include "master/schedule/random_life.h"

#include <gtest/gtest.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <iostream>
#include <random>

#include "master/schedule/fair_life.h"

namespace pangea {
namespace {

volatile std::sig_atomic_t running_seed = 0;

// A broken invariant aborts: the seed is needed all the same.
void SayTheSeed(int) { std::fprintf(stderr, "reproduce with PANGEA_LIFE_SEED=%d\n", static_cast<int>(running_seed)); }

// The fault of one life or, unless the environment names one, of the first of many that has one. lives: how many of
// the known seeds and of new ones.
testing::AssertionResult RunSeeds(uint64_t lives, const std::function<std::string(uint64_t)>& run) {
  if (const char* seed = std::getenv("PANGEA_LIFE_SEED")) {
    const std::string fault = run(std::strtoull(seed, nullptr, 10));
    return fault.empty() ? testing::AssertionSuccess() : testing::AssertionFailure() << fault;
  }
  std::signal(SIGABRT, SayTheSeed);
  const uint64_t unseen = 1'000'000 + std::random_device()() % 1'000'000'000;
  std::cout << "seeds 1 to " << lives << " and " << unseen << " to " << unseen + lives - 1 << "\n";
  for (uint64_t i = 0; i < 2 * lives; ++i) {
    const uint64_t seed = i < lives ? 1 + i : unseen + i - lives;
    running_seed = static_cast<std::sig_atomic_t>(seed);
    if (const std::string fault = run(seed); !fault.empty())
      return testing::AssertionFailure() << fault << "; reproduce with PANGEA_LIFE_SEED=" << seed;
  }
  return testing::AssertionSuccess();
}

void RunMany(std::string (*run)(uint64_t, LifeCounts*), uint64_t seeds) {
  LifeCounts counts;
  const std::clock_t begin = std::clock();  // processor time: others may have the cores
  ASSERT_TRUE(RunSeeds(seeds, [&](uint64_t seed) { return run(seed, &counts); }));
  if (std::getenv("PANGEA_LIFE_SEED")) return;
  const uint64_t lives = 2 * seeds;
  const double took = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  std::cout << lives << " lives: " << counts.requests << " requests, " << counts.finished << " finished, "
            << counts.cancelled << " cancelled, " << counts.stopped << " choices stopped, " << counts.failed
            << " failed, " << counts.expired << " expired, " << counts.refused << " refused; " << counts.steps
            << " steps, " << counts.preemptions << " preemptions, " << counts.resumes << " resumes, "
            << counts.swap_outs << " blocks swapped out, " << counts.swap_ins << " in, " << counts.copies << " copies, "
            << counts.shared_tables << " shared tables, " << counts.echoes << " echoes, " << counts.hits
            << " prefix hits, at most " << counts.deepest << " steps in flight\n";
  std::cout << static_cast<int>(lives / took) << " lives a second; longest wait " << counts.longest_wait
            << " of what progress allows\n";
  // What the lives have met: a generator that no longer reaches a path would otherwise pass in silence.
  for (const uint64_t met : {counts.finished, counts.cancelled, counts.stopped, counts.failed, counts.expired,
                             counts.refused, counts.shared_steps, counts.preemptions, counts.resumes, counts.copies,
                             counts.shared_tables, counts.echoes, counts.hits, counts.swap_outs, counts.swap_ins}) {
    EXPECT_GT(met, lives / 100);
  }
  EXPECT_GE(counts.deepest, 5u);
}

uint64_t Lives(uint64_t usual) {
  const char* wanted = std::getenv("PANGEA_LIVES");
  return wanted ? std::strtoull(wanted, nullptr, 10) : usual;
}

TEST(RandomLife, EveryRequestEndsOnceWithWhatItGivesAlone) { RunMany(RunLife, Lives(2500)); }

TEST(RandomLife, TheSameInVirtualTimeWithSlowStages) { RunMany(RunTimedLife, Lives(2500)); }

TEST(RandomLife, AccountsThatWaitAreServedByWeight) {
  FairCounts counts;
  const uint64_t seeds = Lives(500);
  ASSERT_TRUE(RunSeeds(seeds, [&](uint64_t seed) { return RunFairLife(seed, &counts); }));
  if (std::getenv("PANGEA_LIFE_SEED")) return;
  const uint64_t lives = 2 * seeds;
  std::cout << lives << " lives: " << counts.requests << " requests, " << counts.steps << " steps, "
            << counts.preemptions << " preemptions; widest difference " << counts.widest << " of its bound\n";
  EXPECT_GT(counts.preemptions, lives / 10);
  EXPECT_EQ(counts.late, lives);  // the account that comes late is served in every one
}

}  // namespace
}  // namespace pangea
