// What the engine decides by: deadlines, what steps cost, what accounts have had. In virtual time.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "master/schedule/engine_test_util.h"

namespace pangea {
namespace {

// An engine over agents whose steps take time: 5 ms, 0.1 ms a decoding row, 0.5 ms a prompt row, and so much a copied
// block.
class Timed {
 public:
  explicit Timed(const EngineOptions& options, double block_seconds = 0)
      : bench(options), block_seconds_(block_seconds) {}

  bool Next() {
    if (!bench.agents.HasResult()) return false;
    StepResult result = bench.agents.TakeResult();
    const Step& step = bench.steps[done_++];
    double seconds = 5e-3;
    bool decodes = false;
    for (const StepSequence& part : step.sequences) {
      const bool decode = part.rows() == 1 && part.start > 0;
      decodes |= decode;
      seconds += part.rows() * (decode ? 1e-4 : 5e-4);
    }
    result.copy_seconds = block_seconds_ * step.copies.size();
    bench.now += seconds + result.copy_seconds;
    if (decodes) longest = std::max(longest, seconds);
    bench.engine.OnResult(bench.now, result);
    bench.engine.CheckInvariants();
    return true;
  }
  void Drain() {
    while (Next()) {
    }
    EXPECT_EQ(bench.agents.fault(), "");
  }

  Bench bench;
  double longest = 0;  // step in which somebody decoded

 private:
  size_t done_ = 0;
  double block_seconds_;
};

TEST(Policy, ADeadlineEndsARunningRequestAndFreesItsBlocks) {
  Bench bench(Options());
  SequenceRequest late = Ask(1, 5, 50), other = Ask(2, 5, 20);
  late.deadline = 10;
  ASSERT_TRUE(bench.engine.Submit(0, late).ok());
  ASSERT_TRUE(bench.engine.Submit(0, other).ok());
  for (int i = 0; i < 5; ++i) bench.Next();
  EXPECT_EQ(bench.engine.NextDeadline(), 10);
  bench.engine.Tick(9.9);
  EXPECT_TRUE(bench.OutputsOf(1).back().error.ok());
  bench.engine.Tick(10);
  EXPECT_EQ(bench.OutputsOf(1).back().error.code(), absl::StatusCode::kDeadlineExceeded);
  bench.Drain();
  EXPECT_EQ(bench.IdsOf(2), ExpectedIds(other));
  EXPECT_EQ(bench.engine.stats().blocks_free, 64);
}

TEST(Policy, ADeadlineThatHasPassedIsRefusedBeforeAnyWork) {
  Bench bench(Options());
  SequenceRequest late = Ask(1, 5, 5);
  late.deadline = 3;
  EXPECT_EQ(bench.engine.Submit(3, late).code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(bench.steps.empty());
}

double LongestStepBesideALongPrompt(double slowdown) {
  EngineOptions options = Options();
  options.groups[0].blocks = 600;
  options.context = 2000;
  options.max_batch_tokens = 512;
  options.prefill_slowdown = slowdown;
  Timed timed(options);
  for (int i = 1; i <= 4; ++i) EXPECT_TRUE(timed.bench.engine.Submit(timed.bench.now, Ask(i, 20, 300)).ok());
  for (int i = 0; i < 30; ++i) timed.Next();
  timed.longest = 0;
  EXPECT_TRUE(timed.bench.engine.Submit(timed.bench.now, Ask(9, 1000, 5)).ok());
  timed.Drain();
  EXPECT_EQ(timed.bench.IdsOf(9).size(), 5u);
  return timed.longest;
}

TEST(Policy, APromptIsReadWithoutHoldingUpTheStreamsBesideIt) {
  const double alone = 5e-3 + 5 * 1e-4;
  EXPECT_LE(LongestStepBesideALongPrompt(1.7), 1.9 * alone);
  EXPECT_GE(LongestStepBesideALongPrompt(0), 20 * alone) << "and without the bound they are held up";
}

// Two sequences that cannot both stay: the younger yields. Rows beyond those that the requests need were computed
// twice.
uint64_t RowsComputedTwice(double block_seconds, EngineStats* stats) {
  EngineOptions options = Options();
  options.groups[0].blocks = 15;
  options.groups[0].swap_blocks = 20;
  options.prefix_cache = false;
  options.run_ahead = false;
  Timed timed(options, block_seconds);
  // The first copies are an experiment, so there is a second pair.
  uint64_t needed = 0;
  for (int i = 1; i <= 4; ++i) {
    const SequenceRequest request = Ask(i, 16, 20);
    needed += 16 + 19;
    EXPECT_TRUE(timed.bench.engine.Submit(timed.bench.now, request).ok());
  }
  timed.Drain();
  for (int i = 1; i <= 4; ++i) EXPECT_EQ(timed.bench.IdsOf(i), ExpectedIds(Ask(i, 16, 20))) << i;
  *stats = timed.bench.engine.stats();
  return stats->rows - needed;
}

TEST(Policy, APreemptedSequenceIsCopiedWhenThatIsCheaper) {
  EngineStats stats;
  EXPECT_EQ(RowsComputedTwice(1e-6, &stats), 0u);
  EXPECT_GT(stats.preemptions, 1u);
  EXPECT_EQ(stats.swapped, stats.preemptions);
}

TEST(Policy, APreemptedSequenceIsComputedAgainWhenThatIsCheaper) {
  EngineStats stats;
  EXPECT_GT(RowsComputedTwice(1.0, &stats), 0u);
  EXPECT_GT(stats.preemptions, 1u);
  EXPECT_EQ(stats.swapped, 1u) << "the first tells the price";
}

// Rows of the first `served` requests that ended, by account.
std::map<uint32_t, int> EndedOf(uint32_t second_account, double second_weight) {
  EngineOptions options = Options();
  options.max_sequences = 2;
  options.queue = 100;
  Timed timed(options);
  for (int i = 1; i <= 30; ++i) {  // the first account comes with everything at once, before the second
    SequenceRequest request = Ask(i, 8, 8);
    request.account = 1;
    EXPECT_TRUE(timed.bench.engine.Submit(0, request).ok());
  }
  for (int i = 31; i <= 60; ++i) {
    SequenceRequest request = Ask(i, 8, 8);
    request.account = second_account;
    request.weight = second_weight;
    EXPECT_TRUE(timed.bench.engine.Submit(0, request).ok());
  }
  while (timed.bench.engine.stats().queued > 30) timed.Next();
  std::map<uint32_t, int> ended;
  for (int i = 1; i <= 60; ++i) {
    const std::vector<Output> outputs = timed.bench.OutputsOf(i);
    if (!outputs.empty() && outputs.back().finish != FinishReason::kNone) ++ended[i <= 30 ? 1 : 2];
  }
  timed.Drain();
  return ended;
}

TEST(Policy, AccountsShareByWeightWhoeverCameFirst) {
  std::map<uint32_t, int> even = EndedOf(2, 1);
  EXPECT_NEAR(even[1], even[2], 3);
  std::map<uint32_t, int> uneven = EndedOf(2, 3);
  EXPECT_NEAR(3 * uneven[1], uneven[2], 8);
  std::map<uint32_t, int> one = EndedOf(1, 1);
  EXPECT_EQ(one[2], 0) << "of one account, who came first is served first";
}

}  // namespace
}  // namespace pangea
