// Every run explores other lives: half of the seeds are new ones each time. A failure prints its seed;
// PANGEA_LIFE_SEED=N runs that life alone; PANGEA_LIVES=N sets how many are run.
#include <gtest/gtest.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <iostream>
#include <random>

#include "master/schedule/fair_life_test_util.h"
#include "master/schedule/random_life_test_util.h"

namespace pangea {
namespace {

volatile std::sig_atomic_t running_seed = 0;

// A broken invariant aborts: the seed is needed all the same.
void SayTheSeed(int) { std::fprintf(stderr, "reproduce with PANGEA_LIFE_SEED=%d\n", static_cast<int>(running_seed)); }

// The i-th of a run's seeds, from 1: the first half are 1, 2, 3, ...; the others start at random.
uint64_t SeedOf(uint64_t i, uint64_t lives) {
  static const uint64_t start = (std::random_device{}() >> 2) + 1'000'000;
  if (i <= lives / 2) return i;
  if (i == lives / 2 + 1) std::cout << "new seeds from " << start + i << "\n";
  return start + i;
}

// Runs one kind of life over many seeds, or over the one that the environment names.
LifeCounts RunMany(std::string (*run)(uint64_t, LifeCounts*), uint64_t lives) {
  LifeCounts counts;
  if (const char* seed = std::getenv("PANGEA_LIFE_SEED")) {
    EXPECT_EQ(run(std::strtoull(seed, nullptr, 10), nullptr), "") << "seed " << seed;
    return counts;
  }
  std::signal(SIGABRT, SayTheSeed);
  const std::clock_t begin = std::clock();  // processor time: others may have the cores
  for (uint64_t i = 1; i <= lives; ++i) {
    const uint64_t seed = SeedOf(i, lives);
    running_seed = static_cast<std::sig_atomic_t>(seed);
    const std::string fault = run(seed, &counts);
    EXPECT_EQ(fault, "") << "reproduce with PANGEA_LIFE_SEED=" << seed;
    if (!fault.empty()) return counts;
  }
  const double took = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  std::cout << lives << " lives: " << counts.requests << " requests, " << counts.finished << " finished, "
            << counts.cancelled << " cancelled, " << counts.stopped << " choices stopped, " << counts.failed
            << " failed, " << counts.expired << " expired, " << counts.refused << " refused; " << counts.steps
            << " steps, " << counts.preemptions << " preemptions, " << counts.resumes << " resumes, "
            << counts.swap_outs << " blocks swapped out, " << counts.swap_ins << " in, " << counts.copies << " copies, "
            << counts.shared_tables << " shared tables, " << counts.echoes << " echoes, " << counts.hits
            << " prefix hits, at most " << counts.deepest << " steps in flight; " << counts.epochs << " epochs, "
            << counts.kept << " that kept the pages, with which " << counts.rewound << " sequences went on, "
            << counts.layouts << " of them in another layout, which ended " << counts.outgrown << " requests, "
            << counts.void_steps << " void steps, " << counts.late << " results of older epochs; " << counts.given_back
            << " blocks given back behind a window, " << counts.grouped
            << " lives that copied blocks of several cache groups, " << counts.masks << " masks\n";
  std::cout << static_cast<int>(lives / took) << " lives a second; longest wait " << counts.longest_wait
            << " of what progress allows\n";
  // What the lives have met: a generator that no longer reaches a path would otherwise pass in silence.
  for (const uint64_t met :
       {counts.finished,      counts.cancelled,    counts.stopped,     counts.failed,    counts.expired,
        counts.refused,       counts.shared_steps, counts.preemptions, counts.resumes,   counts.copies,
        counts.shared_tables, counts.echoes,       counts.hits,        counts.swap_outs, counts.swap_ins,
        counts.epochs,        counts.kept,         counts.rewound,     counts.late,      counts.void_steps,
        counts.given_back,    counts.grouped,      counts.masks,       counts.layouts,   counts.outgrown}) {
    EXPECT_GT(met, lives / 100);
  }
  EXPECT_GE(counts.deepest, 5u);
  return counts;
}

uint64_t Lives(uint64_t usual) {
  const char* wanted = std::getenv("PANGEA_LIVES");
  return wanted ? std::strtoull(wanted, nullptr, 10) : usual;
}

TEST(RandomLife, EveryRequestEndsOnceWithWhatItGivesAlone) { RunMany(RunLife, Lives(5000)); }

TEST(RandomLife, TheSameInVirtualTimeWithSlowStages) { RunMany(RunTimedLife, Lives(5000)); }

// What one life in some hundred thousand meets. 369464435: the blocks of a failed sequence that another shared went to
// swap and back with that one, and a choice that forked from it offered them to everybody.
TEST(RandomLife, SeedsThatHaveFoundFaults) { EXPECT_EQ(RunTimedLife(369464435, nullptr), ""); }

TEST(RandomLife, AccountsThatWaitAreServedByWeight) {
  if (const char* seed = std::getenv("PANGEA_LIFE_SEED")) {
    EXPECT_EQ(RunFairLife(std::strtoull(seed, nullptr, 10), nullptr), "") << "seed " << seed;
    return;
  }
  std::signal(SIGABRT, SayTheSeed);
  FairCounts counts;
  const uint64_t lives = Lives(1000);
  for (uint64_t i = 1; i <= lives; ++i) {
    const uint64_t seed = SeedOf(i, lives);
    running_seed = static_cast<std::sig_atomic_t>(seed);
    ASSERT_EQ(RunFairLife(seed, &counts), "") << "reproduce with PANGEA_LIFE_SEED=" << seed;
  }
  std::cout << lives << " lives: " << counts.requests << " requests, " << counts.steps << " steps, "
            << counts.preemptions << " preemptions; widest difference " << counts.widest << " of its bound\n";
  EXPECT_GT(counts.preemptions, lives / 10);
  EXPECT_EQ(counts.late, lives);  // the account that comes late is served in every one
}

}  // namespace
}  // namespace pangea
