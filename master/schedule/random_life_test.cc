// PANGEA_LIFE_SEED=N runs that life alone; PANGEA_LIVES=N sets how many are run.
#include "master/schedule/random_life.h"

#include <gtest/gtest.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>

namespace pangea {
namespace {

volatile std::sig_atomic_t running_seed = 0;

// A broken invariant aborts: the seed is needed all the same.
void SayTheSeed(int) { std::fprintf(stderr, "reproduce with PANGEA_LIFE_SEED=%d\n", static_cast<int>(running_seed)); }

TEST(RandomLife, EveryRequestEndsOnceWithWhatItGivesAlone) {
  if (const char* seed = std::getenv("PANGEA_LIFE_SEED")) {
    EXPECT_EQ(RunLife(std::strtoull(seed, nullptr, 10), nullptr), "") << "seed " << seed;
    return;
  }
  const char* wanted = std::getenv("PANGEA_LIVES");
  const uint64_t lives = wanted ? std::strtoull(wanted, nullptr, 10) : 5000;
  std::signal(SIGABRT, SayTheSeed);
  LifeCounts counts;
  for (uint64_t seed = 1; seed <= lives; ++seed) {
    running_seed = static_cast<std::sig_atomic_t>(seed);
    const std::string fault = RunLife(seed, &counts);
    ASSERT_EQ(fault, "") << "reproduce with PANGEA_LIFE_SEED=" << seed;
  }
  std::cout << lives << " lives: " << counts.requests << " requests, " << counts.finished << " finished, "
            << counts.cancelled << " cancelled, " << counts.stopped << " choices stopped, " << counts.failed
            << " failed, " << counts.expired << " expired, " << counts.refused << " refused; " << counts.steps
            << " steps, " << counts.preemptions << " preemptions, " << counts.resumes << " resumes, " << counts.swap_outs
            << " blocks swapped out, " << counts.swap_ins << " in, " << counts.copies
            << " copies, " << counts.shared_tables << " shared tables, " << counts.echoes << " echoes, " << counts.hits
            << " prefix hits, at most " << counts.deepest << " steps in flight\n";
  // What the lives have met: a generator that no longer reaches a path would otherwise pass in silence.
  for (const uint64_t met : {counts.finished, counts.cancelled, counts.stopped, counts.failed, counts.expired,
                             counts.refused, counts.shared_steps, counts.preemptions, counts.resumes, counts.copies,
                             counts.shared_tables, counts.echoes, counts.hits, counts.swap_outs, counts.swap_ins}) {
    EXPECT_GT(met, lives / 100);
  }
  EXPECT_GE(counts.deepest, 5u);
}

}  // namespace
}  // namespace pangea
