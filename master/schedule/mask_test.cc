// Masked requests: every id is drawn under a mask that its client gives. (Under random load: random_life_test.)
#include <gtest/gtest.h>

#include <vector>

#include "master/schedule/engine_test_util.h"

namespace pangea {
namespace {

SequenceRequest AskMasked(uint64_t number, int prompt, int max_tokens) {
  SequenceRequest request = Ask(number, prompt, max_tokens);
  request.masked = true;
  return request;
}

void GiveMask(Bench* bench, const SequenceRequest& request, int index, int choice = 0) {
  bench->engine.SetMask(request.request, choice, index, FakeMask(request.sampling->seed, choice, index));
}

// A mask for every id that has none, until nothing happens any more.
void DrainMasked(Bench* bench, const SequenceRequest& request) {
  do {
    GiveMask(bench, request, static_cast<int>(bench->IdsOf(request.request).size()));
  } while (bench->Next());
  EXPECT_EQ(bench->agents.fault(), "");
}

TEST(Mask, AMaskGoesBehindItsStepWheneverItComes) {
  for (const bool early : {true, false}) {
    EngineOptions options = Options();
    options.max_sequences = 1;
    Bench bench(options);
    const SequenceRequest other = Ask(1, 5, 3), request = AskMasked(2, 5, 1);
    if (early) {
      ASSERT_TRUE(bench.engine.Submit(0, other).ok());
    }
    ASSERT_TRUE(bench.engine.Submit(0, request).ok());
    GiveMask(&bench, request, 0);
    EXPECT_EQ(bench.masks.size(), early ? 0u : 1u) << "its step is sent once the other request has ended";
    bench.Drain();
    ASSERT_EQ(bench.masks.size(), 1u);
    const Step& step = bench.steps.back();
    EXPECT_TRUE(step.sequences[0].masked);
    EXPECT_EQ(bench.masks[0].epoch, 1u);
    EXPECT_EQ(bench.masks[0].step, step.number);
    EXPECT_EQ(bench.masks[0].sequence, step.sequences[0].id);
    EXPECT_EQ(bench.IdsOf(2), ExpectedIds(request));
  }
}

TEST(Mask, AMaskedRequestDoesNotRunAheadAndItsNeighboursDo) {
  for (const int stages : {1, 2}) {
    EngineOptions options = Options();
    options.stages = stages;
    Bench bench(options);
    const SequenceRequest request = AskMasked(1, 9, 20), other = Ask(2, 9, 20);
    ASSERT_TRUE(bench.engine.Submit(0, request).ok());
    ASSERT_TRUE(bench.engine.Submit(0, other).ok());
    DrainMasked(&bench, request);
    EXPECT_EQ(bench.IdsOf(1), ExpectedIds(request));
    EXPECT_EQ(bench.IdsOf(2), ExpectedIds(other));
    EXPECT_GT(bench.agents.ran_ahead, 0);
    SequenceRequest free = request;
    free.masked = false;
    EXPECT_NE(bench.IdsOf(1), ExpectedIds(free)) << "the masks made a difference";
    for (const Step& step : bench.steps) {
      for (const StepSequence& part : step.sequences) EXPECT_FALSE(part.masked && part.ids.empty());
    }
  }
}

TEST(Mask, TheChunksOfAPromptDrawNothing) {
  Bench bench(Options());
  const SequenceRequest request = AskMasked(1, 40, 2);
  ASSERT_TRUE(bench.engine.Submit(0, request).ok());
  DrainMasked(&bench, request);
  EXPECT_EQ(bench.masks.size(), 2u);
  int masked = 0;
  for (const Step& step : bench.steps) masked += step.sequences[0].masked;
  EXPECT_EQ(masked, 2);
  EXPECT_EQ(bench.IdsOf(1), ExpectedIds(request));
}

TEST(Mask, ADrawThatIsRepeatedGetsItsMaskAgain) {
  Bench bench(Options());
  const SequenceRequest request = AskMasked(1, 9, 6);
  ASSERT_TRUE(bench.engine.Submit(0, request).ok());
  GiveMask(&bench, request, 0);
  bench.Next();
  GiveMask(&bench, request, 1);
  const size_t before = bench.masks.size();
  bench.BeginEpoch(2);  // the step that draws id 1 is void
  ASSERT_EQ(bench.masks.size(), before + 1);
  EXPECT_EQ(bench.masks.back().epoch, 2u);
  EXPECT_EQ(bench.masks.back().step, 1u);
  EXPECT_EQ(bench.masks.back().allowed.words, FakeMask(request.sampling->seed, 0, 1).words);
  DrainMasked(&bench, request);
  EXPECT_EQ(bench.IdsOf(1), ExpectedIds(request));
}

TEST(Mask, WhoeverEndsLeavesNobodyWaiting) {
  for (const int how : {0, 1, 2}) {
    Bench bench(Options());
    SequenceRequest request = AskMasked(1, 9, 20);
    if (how == 2) request.deadline = 10;
    const SequenceRequest other = Ask(2, 9, 20);
    ASSERT_TRUE(bench.engine.Submit(0, request).ok());
    ASSERT_TRUE(bench.engine.Submit(0, other).ok());
    GiveMask(&bench, request, 0);
    bench.Next();
    while (bench.Next()) {
    }
    ASSERT_LT(bench.IdsOf(2).size(), 20u) << "all wait for the mask";
    if (how == 0) bench.engine.Cancel(0, 1);
    if (how == 1) bench.engine.Finish(0, 1, 0);
    if (how == 2) bench.engine.Tick(10);
    bench.Drain();
    EXPECT_EQ(bench.IdsOf(2), ExpectedIds(other)) << how;
    EXPECT_EQ(bench.IdsOf(1).size(), 1u);
    EXPECT_EQ(bench.engine.stats().blocks_free, 64);
  }
}

TEST(Mask, MasksThatNoDrawNeedsAreDropped) {
  Bench bench(Options());
  const SequenceRequest request = AskMasked(1, 9, 4), plain = Ask(2, 9, 4);
  ASSERT_TRUE(bench.engine.Submit(0, request).ok());
  ASSERT_TRUE(bench.engine.Submit(0, plain).ok());
  const AllowedIds one{.words = {{0, 1}}};
  bench.engine.SetMask(1, 0, 1, one);  // of an id after the next
  bench.engine.SetMask(1, 1, 0, one);  // of a choice that is not there
  bench.engine.SetMask(2, 0, 0, one);  // of a request that is not masked
  bench.engine.SetMask(3, 0, 0, one);  // of one that is not there
  EXPECT_TRUE(bench.masks.empty());
  DrainMasked(&bench, request);
  EXPECT_EQ(bench.IdsOf(1), ExpectedIds(request));
  EXPECT_EQ(bench.IdsOf(2), ExpectedIds(plain));
}

TEST(Mask, AnAnswerThatDidNotWaitForTheMaskIsAnError) {
  Bench bench(Options());
  ASSERT_TRUE(bench.engine.Submit(0, AskMasked(1, 9, 4)).ok());
  const Step& step = bench.steps.back();
  StepResult result{.epoch = 1, .number = step.number};
  result.sequences.push_back({.id = step.sequences[0].id, .samples = {Sample{.id = 5}}});
  bench.engine.OnResult(0, result);
  EXPECT_TRUE(absl::IsInternal(bench.OutputsOf(1).back().error));
}

}  // namespace
}  // namespace pangea
