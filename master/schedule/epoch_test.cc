// A new epoch: the agents have formed their groups anew and know nothing. (Under random load: random_life_test.)
#include <gtest/gtest.h>

#include <set>
#include <tuple>
#include <vector>

#include "master/schedule/engine_test_util.h"

namespace pangea {
namespace {

TEST(Epoch, NoStepIsSentBeforeTheFirst) {
  std::vector<Step> sent;
  struct Port : StepPort {
    explicit Port(std::vector<Step>* to) : steps(to) {}
    void Send(const Step& step) override { steps->push_back(step); }
    void SendMask(const Mask&) override {}
    std::vector<Step>* steps;
  } port(&sent);
  Engine engine(Options(), &port, [](std::vector<Output>) {});
  ASSERT_TRUE(engine.Submit(0, Ask(1, 5, 5)).ok());
  EXPECT_TRUE(sent.empty());
  engine.EpochChanged(0, 4);
  ASSERT_FALSE(sent.empty());
  EXPECT_EQ(sent[0].epoch, 4u);
  EXPECT_EQ(sent[0].number, 1u);
}

// Several stages, a prompt half read, choices that share blocks, some that wait in the queue.
TEST(Epoch, EveryRequestGivesWhatItGivesAlone) {
  for (const bool pages : {false, true}) {
    for (int before = 0; before < 24; ++before) {
      const int stages = before % 2 == 0 ? 1 : 3;
      EngineOptions options = Options();
      options.stages = stages;
      options.max_sequences = 5;
      Bench bench(options);
      std::vector<SequenceRequest> requests = {Ask(1, 5, 20), Ask(2, 40, 9), Ask(3, 9, 12), Ask(4, 40, 9)};
      requests[2].n = 3;
      requests[3].prompt_logprobs = true;
      for (const SequenceRequest& request : requests) ASSERT_TRUE(bench.engine.Submit(0, request).ok());
      for (int i = 0; i < before / 2; ++i) bench.Next();
      const size_t steps = bench.steps.size(), deliveries = bench.deliveries.size();
      bench.BeginEpoch(2, nullptr, pages);
      EXPECT_EQ(bench.deliveries.size(), deliveries) << "nobody is told";
      ASSERT_GT(bench.steps.size(), steps) << "the agents have work at once";
      EXPECT_EQ(bench.steps[steps].epoch, 2u);
      EXPECT_EQ(bench.steps[steps].number, 1u);
      EXPECT_TRUE(bench.steps[steps].ended.empty()) << "they know no sequence";
      for (const StepSequence& part : bench.steps[steps].sequences) {
        EXPECT_TRUE(part.whole_tables && part.sampling);
      }
      bench.Drain();
      for (const SequenceRequest& request : requests) {
        for (int choice = 0; choice < request.n; ++choice) {
          EXPECT_EQ(bench.IdsOf(request.request, choice), ExpectedIds(request, choice)) << request.request;
        }
      }
      EXPECT_EQ(bench.engine.stats().blocks_free, 64);
    }
  }
}

TEST(Epoch, WhoRanGoesOnBeforeWhoWaits) {
  EngineOptions options = Options();
  options.max_sequences = 2;
  Bench bench(options);
  for (int i = 1; i <= 4; ++i) ASSERT_TRUE(bench.engine.Submit(0, Ask(i, 4, 12)).ok());
  for (int i = 0; i < 3; ++i) bench.Next();
  const size_t steps = bench.steps.size();
  uint64_t rows = 0;
  for (const Step& step : bench.steps) rows += step.rows();
  bench.BeginEpoch(2);
  std::multiset<int> starts;
  for (const StepSequence& part : bench.steps[steps].sequences) starts.insert(part.rows());
  EXPECT_EQ(starts.size(), 2u);
  EXPECT_GT(*starts.begin(), 4) << "their prompts, and what they have generated";
  EXPECT_EQ(bench.engine.stats().preemptions, 2u);
  EXPECT_EQ(bench.engine.stats().rows_lost, rows) << "all that was sent of those that ran";
  bench.Drain();
  for (int i = 1; i <= 4; ++i) EXPECT_EQ(bench.IdsOf(i), ExpectedIds(Ask(i, 4, 12)));
}

TEST(Epoch, AnEpochThatIsNotNewerChangesNothing) {
  Bench bench(Options());
  ASSERT_TRUE(bench.engine.Submit(0, Ask(1, 5, 20)).ok());
  bench.BeginEpoch(3);
  const size_t steps = bench.steps.size();
  for (const uint64_t old : {0, 1, 2, 3}) bench.engine.EpochChanged(0, old);
  EXPECT_EQ(bench.steps.size(), steps);
  bench.Drain();
  EXPECT_EQ(bench.IdsOf(1), ExpectedIds(Ask(1, 5, 20)));
}

TEST(Epoch, ALateResultOfTheSameNumberIsDropped) {
  Bench bench(Options());
  ASSERT_TRUE(bench.engine.Submit(0, Ask(1, 5, 20)).ok());
  StepResult late = bench.agents.TakeResult();
  ASSERT_EQ(late.number, 1u);
  bench.BeginEpoch(2);
  const size_t deliveries = bench.deliveries.size();
  bench.engine.OnResult(0, late);
  bench.engine.CheckInvariants();
  EXPECT_EQ(bench.deliveries.size(), deliveries);
  bench.Drain();
  EXPECT_EQ(bench.IdsOf(1), ExpectedIds(Ask(1, 5, 20)));
}

TEST(Epoch, WithTheirPagesNothingIsComputedAgain) {
  for (const int stages : {1, 2}) {
    EngineOptions options = Options();
    options.stages = stages;
    Bench bench(options);
    const SequenceRequest request = Ask(1, 40, 30);
    ASSERT_TRUE(bench.engine.Submit(0, request).ok());
    int committed = 0;
    while (committed < 20) {
      ASSERT_TRUE(bench.Next());
      committed = static_cast<int>(bench.IdsOf(1).size());
    }
    uint64_t lost = 0;
    for (const uint64_t epoch : {2, 3}) {
      const size_t steps = bench.steps.size();
      bench.BeginEpoch(epoch, nullptr, /*pages=*/true);
      ASSERT_EQ(bench.steps[steps].sequences.size(), 1u);
      const StepSequence& part = bench.steps[steps].sequences[0];
      EXPECT_EQ(part.start, 40 + committed - 1) << "the row whose sample is the next to be known";
      EXPECT_EQ(part.rows(), 1);
      EXPECT_TRUE(part.whole_tables && part.sampling) << "the agents know no sequence";
      lost = bench.engine.stats().rows_lost - lost;
      EXPECT_LE(lost, 1 + stages) << "rows of steps that were under way";
    }
    const size_t steps = bench.steps.size();
    bench.BeginEpoch(4);
    EXPECT_EQ(bench.steps[steps].sequences[0].start, 0) << "without, all of it";
    bench.Drain();
    EXPECT_EQ(bench.IdsOf(1), ExpectedIds(request));
  }
}

// Of several epochs the engine may hear of the last only.
TEST(Epoch, PagesThatWereLostMeanwhileAreLost) {
  Bench bench(Options());
  ASSERT_TRUE(bench.engine.Submit(0, Ask(1, 40, 9)).ok());
  while (bench.IdsOf(1).empty()) ASSERT_TRUE(bench.Next());
  const size_t steps = bench.steps.size();
  bench.agents.BeginEpoch(3);
  bench.engine.EpochChanged(0, 3, nullptr, /*pages_since=*/2);
  EXPECT_EQ(bench.steps[steps].sequences[0].start, 0);
  bench.Drain();
  EXPECT_EQ(bench.IdsOf(1), ExpectedIds(Ask(1, 40, 9)));
}

TEST(Epoch, CachedBeginningsAndSwappedBlocksAreForgotten) {
  EngineOptions options = Options();
  options.groups[0].blocks = 12;
  options.groups[0].swap_blocks = 12;
  Bench bench(options);
  for (int i = 1; i <= 3; ++i) ASSERT_TRUE(bench.engine.Submit(0, Ask(i, 8, 20)).ok());
  while (bench.engine.stats().swapped == 0 && bench.Next()) {
  }
  ASSERT_GT(bench.engine.stats().swapped, 0u);
  const int swap_ins = bench.agents.swap_ins;
  const uint64_t hits = bench.engine.stats().prefix_hits;
  bench.BeginEpoch(2);
  EXPECT_EQ(bench.agents.swap_ins, swap_ins);
  EXPECT_EQ(bench.engine.stats().prefix_hits, hits);
  for (const BlockCopy& copy : bench.steps.back().copies) {
    EXPECT_LT(copy.from, options.groups[0].blocks) << "a swap block holds nothing any more";
  }
  bench.Drain();
  for (int i = 1; i <= 3; ++i) EXPECT_EQ(bench.IdsOf(i), ExpectedIds(Ask(i, 8, 20)));
}

// A request that was cancelled waits for no answer once the steps that name it are void, and they do not count as
// answered.
TEST(Epoch, ACancelledRequestIsFreeAtOnce) {
  std::vector<std::pair<double, int>> freed;
  EngineOptions options = Options();
  options.on_freed = [&](double cancelled, int steps) { freed.emplace_back(cancelled, steps); };
  Bench bench(options);
  ASSERT_TRUE(bench.engine.Submit(0, Ask(1, 30, 50)).ok());
  bench.Next();
  bench.engine.Cancel(7.5, 1);
  ASSERT_TRUE(freed.empty());
  bench.BeginEpoch(2);
  EXPECT_EQ(freed, (std::vector<std::pair<double, int>>{{7.5, 0}}));
  EXPECT_EQ(bench.engine.stats().blocks_free, 64);
  EXPECT_EQ(bench.engine.stats().steps_in_flight, 0);
}

// The agents are gone for a while: what is sent meanwhile is lost, and nothing is sent beyond what may be outstanding.
TEST(Epoch, RequestsThatComeWhileTheAgentsAreGoneAreServedAfterwards) {
  EngineOptions options = Options();
  options.stages = 2;
  Bench bench(options);
  ASSERT_TRUE(bench.engine.Submit(0, Ask(1, 5, 20)).ok());
  bench.Next();
  bench.agents.Break();
  for (int i = 2; i <= 6; ++i) ASSERT_TRUE(bench.engine.Submit(0, Ask(i, 5, 20)).ok());
  EXPECT_LE(bench.engine.stats().steps_in_flight, 3);
  bench.BeginEpoch(2);
  bench.Drain();
  for (int i = 1; i <= 6; ++i) EXPECT_EQ(bench.IdsOf(i), ExpectedIds(Ask(i, 5, 20)));
}

// Fewer blocks, or more; other stages; the second of two cache groups likewise.
TEST(Epoch, EveryRequestGivesWhatItGivesAloneInOtherLayouts) {
  EngineOptions options = Options();
  options.groups.resize(2, options.groups[0]);
  options.groups[1].window = 7;
  for (const auto& [stages, blocks, windowed] : {std::tuple{3, 20, 18}, {1, 200, 20}, {2, 64, 300}}) {
    Bench bench(options);
    for (int i = 1; i <= 4; ++i) ASSERT_TRUE(bench.engine.Submit(0, Ask(i, 5 + i, 20)).ok());
    for (int i = 0; i < 6; ++i) bench.Next();
    EngineLayout layout = options;
    layout.stages = stages;
    layout.groups[0].blocks = blocks;
    layout.groups[1].blocks = windowed;
    bench.BeginEpoch(2, &layout);
    EXPECT_EQ(bench.engine.stats().blocks, blocks + windowed);
    bench.Drain();
    for (int i = 1; i <= 4; ++i) EXPECT_EQ(bench.IdsOf(i), ExpectedIds(Ask(i, 5 + i, 20))) << stages;
    EXPECT_EQ(bench.engine.stats().blocks_free, blocks + windowed);
  }
}

// A sequence may have 6 blocks of 4 tokens from now on: of those that run and those that wait, who fits goes on.
TEST(Epoch, ARequestThatOutgrowsTheNewLayoutEnds) {
  EngineOptions options = Options();
  options.max_sequences = 2;
  Bench bench(options);
  const int tokens = 6 * options.block_tokens;
  const std::vector<std::pair<int, int>> asked = {{4, tokens - 4}, {4, tokens - 3}, {tokens - 1, 1}, {tokens, 1}};
  for (size_t i = 0; i < asked.size(); ++i)
    ASSERT_TRUE(bench.engine.Submit(0, Ask(i + 1, asked[i].first, asked[i].second)).ok());
  bench.Next();
  EngineLayout layout = options;
  layout.groups[0].blocks = 6;
  bench.BeginEpoch(2, &layout);
  bench.Drain();
  for (size_t i = 0; i < asked.size(); ++i) {
    const auto [prompt, more] = asked[i];
    if (prompt + more <= tokens) {
      EXPECT_EQ(bench.IdsOf(i + 1), ExpectedIds(Ask(i + 1, prompt, more)));
      continue;
    }
    const std::vector<Output> outputs = bench.OutputsOf(i + 1);
    ASSERT_FALSE(outputs.empty());
    EXPECT_EQ(outputs.back().error.code(), absl::StatusCode::kResourceExhausted);
  }
}

}  // namespace
}  // namespace pangea
