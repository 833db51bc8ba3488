#include "master/schedule/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <vector>

#include "master/schedule/engine_test_util.h"

namespace pangea {
namespace {

TEST(Engine, PromptIsReadInChunksBesideDecodingAndNothingIsComputedTwice) {
  Bench bench(Options());
  ASSERT_TRUE(bench.engine.Submit(0, Ask(1, 3, 20)).ok());
  bench.Next();
  bench.Next();
  ASSERT_TRUE(bench.engine.Submit(0, Ask(2, 40, 5)).ok());
  bench.Drain();
  EXPECT_EQ(bench.IdsOf(1), ExpectedIds(Ask(1, 3, 20)));
  EXPECT_EQ(bench.IdsOf(2), ExpectedIds(Ask(2, 40, 5)));
  // 3 + 40 prompt rows and one for each id but the last, which is never fed back: no surplus step at a known end.
  EXPECT_EQ(bench.engine.stats().rows, 3u + 19 + 40 + 4);
  int mixed = 0;
  for (const Step& step : bench.steps) {
    int rows = 0;
    for (const StepSequence& part : step.sequences) rows += part.rows();
    EXPECT_LE(rows, 16);
    mixed += step.sequences.size() == 2 && step.sequences[0].rows() == 1 && step.sequences[1].rows() == 15;
  }
  EXPECT_GE(mixed, 2);
  const EngineStats stats = bench.engine.stats();
  EXPECT_EQ(stats.prompt, 43u);
  EXPECT_EQ(stats.generated, 25u);
  EXPECT_EQ(stats.blocks_free, 64);
  EXPECT_EQ(stats.largest_batch, 2u);
}

TEST(Engine, APromptThatFollowsTakesNoPlaceInTheQueue) {
  EngineOptions options = Options();
  options.queue = 2;
  options.max_sequences = 1;
  options.queue_seconds = 10;
  Bench bench(options);
  for (int i = 1; i <= 30; ++i) {
    SequenceRequest request = Ask(i, 5, 4);
    request.follows = i > 1;
    ASSERT_TRUE(bench.engine.Submit(0, request).ok()) << i;
  }
  EXPECT_EQ(bench.engine.stats().queued, 0) << "the first of them runs";
  ASSERT_TRUE(bench.engine.Submit(0, Ask(40, 5, 4)).ok());
  ASSERT_TRUE(bench.engine.Submit(0, Ask(41, 5, 4)).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(bench.engine.Submit(0, Ask(42, 5, 4))));
  EXPECT_EQ(bench.engine.stats().queued, 2);
  // Those that follow wait for as long as it takes; the others have had their time.
  bench.now = 11;
  bench.engine.Tick(bench.now);
  bench.Drain();
  for (int i = 1; i <= 30; ++i) EXPECT_EQ(bench.IdsOf(i), ExpectedIds(Ask(i, 5, 4))) << i;
  EXPECT_TRUE(absl::IsUnavailable(bench.OutputsOf(40).back().error));
  EXPECT_TRUE(absl::IsUnavailable(bench.OutputsOf(41).back().error));
}

TEST(Engine, OutputsTellWhenTheirRequestFirstRan) {
  EngineOptions options = Options();
  options.max_sequences = 1;
  Bench bench(options);
  bench.now = 5;
  ASSERT_TRUE(bench.engine.Submit(5, Ask(1, 5, 4)).ok());
  ASSERT_TRUE(bench.engine.Submit(6, Ask(2, 5, 4)).ok());
  bench.now = 9;
  bench.Drain();
  for (const Output& output : bench.OutputsOf(1)) EXPECT_EQ(output.started, 5);
  for (const Output& output : bench.OutputsOf(2)) EXPECT_EQ(output.started, 9);
}

TEST(Engine, OneDeliveryAStep) {
  Bench bench(Options());
  for (int i = 1; i <= 5; ++i) ASSERT_TRUE(bench.engine.Submit(0, Ask(i, 2, 6)).ok());
  bench.Drain();
  EXPECT_LE(bench.deliveries.size(), bench.steps.size());
  EXPECT_TRUE(
      std::any_of(bench.deliveries.begin(), bench.deliveries.end(), [](const auto& d) { return d.size() >= 4; }));
  EXPECT_EQ(bench.engine.stats().blocks_free, 64);
}

TEST(Engine, StopIdEndsAndCounts) {
  Bench bench(Options());
  SequenceRequest request = Ask(1, 5, 30);
  const std::vector<int32_t> free_run = ExpectedIds(request);
  request.stop_ids = {free_run[7]};
  const auto first = std::find(free_run.begin(), free_run.end(), free_run[7]);
  ASSERT_TRUE(bench.engine.Submit(0, request).ok());
  bench.Drain();
  EXPECT_EQ(bench.IdsOf(1), std::vector<int32_t>(free_run.begin(), first + 1));
  EXPECT_EQ(bench.OutputsOf(1).back().finish, FinishReason::kStop);
}

TEST(Engine, ContextEndsWithLength) {
  Bench bench(Options());
  ASSERT_TRUE(bench.engine.Submit(0, Ask(1, 120, 50)).ok());
  bench.Drain();
  EXPECT_EQ(bench.IdsOf(1).size(), 8u);
  EXPECT_EQ(bench.OutputsOf(1).back().finish, FinishReason::kLength);
}

TEST(Engine, ChoicesShareThePromptAndEqualSingleRequests) {
  Bench bench(Options());
  SequenceRequest request = Ask(1, 22, 6);
  request.n = 4;
  ASSERT_TRUE(bench.engine.Submit(0, request).ok());
  int least_free = 64;
  while (bench.Next()) least_free = std::min(least_free, bench.engine.stats().blocks_free);
  EXPECT_EQ(bench.agents.fault(), "");
  for (int choice = 0; choice < 4; ++choice) EXPECT_EQ(bench.IdsOf(1, choice), ExpectedIds(request, choice)) << choice;
  EXPECT_NE(bench.IdsOf(1, 0), bench.IdsOf(1, 1));
  // The prompt once, and its last row once more for each other choice.
  EXPECT_EQ(bench.engine.stats().rows, 22u + 3 + 4 * 5);
  EXPECT_EQ(bench.engine.stats().prompt, 22u);
  EXPECT_EQ(bench.agents.copies, 3);
  // 27 positions are 7 blocks a choice, of which 5 are shared.
  EXPECT_EQ(64 - least_free, 5 + 4 * 2);
}

TEST(Engine, PromptThatFillsItsBlocksIsNotWrittenThroughASharedOne) {
  Bench bench(Options());
  SequenceRequest request = Ask(1, 20, 3);  // the last row recomputed lies in a full block
  request.n = 2;
  ASSERT_TRUE(bench.engine.Submit(0, request).ok());
  bench.Drain();
  EXPECT_EQ(bench.IdsOf(1, 1), ExpectedIds(request, 1));
  EXPECT_EQ(bench.agents.copies, 1);
}

TEST(Engine, EchoComesOnceAndInOrder) {
  for (const int max_tokens : {0, 4}) {
    Bench bench(Options());
    SequenceRequest request = Ask(1, 50, max_tokens);
    request.prompt_logprobs = true;
    request.n = 2;
    request.sampling = std::make_shared<Sampling>(Sampling{.top_logprobs = 2});
    ASSERT_TRUE(bench.engine.Submit(0, request).ok());
    bench.Drain();
    const std::vector<Output> outputs = bench.OutputsOf(1);
    const std::vector<Sample> expected = ExpectedPrompt(request);
    ASSERT_EQ(outputs[0].prompt.size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i) EXPECT_TRUE(SameSample(outputs[0].prompt[i], expected[i])) << i;
    EXPECT_EQ(outputs.size(), std::max<size_t>(1, max_tokens));
    EXPECT_EQ(bench.OutputsOf(1, 1).size(), std::max<size_t>(1, max_tokens));
    EXPECT_TRUE(bench.OutputsOf(1, 1)[0].prompt.empty());
    EXPECT_EQ(outputs.back().finish, FinishReason::kLength);
  }
}

TEST(Engine, WithoutEchoAnEmptyAnswerNeedsNoLogits) {
  Bench bench(Options());
  ASSERT_TRUE(bench.engine.Submit(0, Ask(1, 40, 0)).ok());
  bench.Drain();
  for (const Step& step : bench.steps) EXPECT_EQ(step.sequences[0].logits, LogitRows::kNone);
  ASSERT_EQ(bench.OutputsOf(1).size(), 1u);
  EXPECT_EQ(bench.OutputsOf(1)[0].finish, FinishReason::kLength);
}

TEST(Engine, YoungestOfTheLowestPriorityYieldsAndResumesExactly) {
  EngineOptions options = Options();
  options.groups[0].blocks = 12;  // 48 positions
  Bench bench(options);
  std::vector<SequenceRequest> requests;
  for (int i = 1; i <= 3; ++i) {
    requests.push_back(Ask(i, 8, 20));  // 28 positions each: two fit at the end, three do not
    requests.back().priority = i == 1 ? 5 : 0;
    ASSERT_TRUE(bench.engine.Submit(0, requests.back()).ok());
  }
  bench.Drain();
  EXPECT_GE(bench.engine.stats().preemptions, 1u);
  std::vector<uint64_t> order;
  for (const auto& delivery : bench.deliveries) {
    for (const Output& output : delivery) {
      if (output.finish != FinishReason::kNone) order.push_back(output.request);
    }
  }
  EXPECT_EQ(order, (std::vector<uint64_t>{2, 3, 1}));
  for (int i = 1; i <= 3; ++i) EXPECT_EQ(bench.IdsOf(i), ExpectedIds(requests[i - 1])) << i;
}

TEST(Engine, BadRequestsAreRefused) {
  EngineOptions options = Options();
  options.queue = 2;
  Bench bench(options);
  const auto says = [](const absl::Status& status, absl::StatusCode code, const std::string& text) {
    return status.code() == code && std::string(status.message()).find(text) != std::string::npos;
  };
  EXPECT_TRUE(says(bench.engine.Submit(0, Ask(1, 0, 1)), absl::StatusCode::kInvalidArgument, "prompt"));
  EXPECT_TRUE(says(bench.engine.Submit(0, Ask(1, 129, 0)), absl::StatusCode::kInvalidArgument, "context of 128"));
  EXPECT_TRUE(says(bench.engine.Submit(0, Ask(1, 128, 1)), absl::StatusCode::kInvalidArgument, "context of 128"));
  EXPECT_TRUE(says(bench.engine.Submit(0, Ask(1, 4, -1)), absl::StatusCode::kInvalidArgument, "max_tokens"));
  ASSERT_TRUE(bench.engine.Submit(0, Ask(1, 100, 28)).ok());
  EXPECT_TRUE(says(bench.engine.Submit(0, Ask(1, 4, 1)), absl::StatusCode::kInvalidArgument, "in use"));
  ASSERT_TRUE(bench.engine.Submit(0, Ask(2, 100, 28)).ok());
  SequenceRequest many = Ask(3, 4, 4);
  many.n = 5;  // counts once
  ASSERT_TRUE(bench.engine.Submit(0, many).ok());
  EXPECT_TRUE(says(bench.engine.Submit(0, Ask(4, 4, 1)), absl::StatusCode::kResourceExhausted, "limits.queue"));
  bench.Drain();
  EXPECT_TRUE(bench.engine.Submit(0, Ask(4, 4, 1)).ok());
  bench.Drain();

  options.groups[0].blocks = 5;
  Bench small(options);
  EXPECT_TRUE(says(small.engine.Submit(0, Ask(1, 21, 0)), absl::StatusCode::kInvalidArgument, "5 blocks of 4"));
  EXPECT_TRUE(small.engine.Submit(0, Ask(1, 20, 0)).ok());
  small.Drain();
}

TEST(Engine, QueueAgeEndsOnlyThoseThatNeverRan) {
  EngineOptions options = Options();
  options.max_sequences = 1;
  options.queue_seconds = 10;
  Bench bench(options);
  ASSERT_TRUE(bench.engine.Submit(0, Ask(1, 4, 8)).ok());
  EXPECT_FALSE(bench.engine.NextDeadline().has_value());
  ASSERT_TRUE(bench.engine.Submit(3, Ask(2, 4, 8)).ok());
  ASSERT_TRUE(bench.engine.Submit(8, Ask(3, 4, 8)).ok());
  EXPECT_EQ(bench.engine.NextDeadline(), 13);
  bench.engine.Tick(12.9);
  EXPECT_TRUE(bench.deliveries.empty());
  bench.engine.Tick(13);
  ASSERT_EQ(bench.deliveries.size(), 1u);
  EXPECT_TRUE(absl::IsUnavailable(bench.OutputsOf(2)[0].error));
  EXPECT_EQ(bench.engine.NextDeadline(), 18);
  bench.Drain();
  EXPECT_EQ(bench.IdsOf(1).size(), 8u);
  EXPECT_EQ(bench.IdsOf(3).size(), 8u);
}

TEST(Engine, CancelFreesBlocksWithinTwoSteps) {
  Bench bench(Options());
  ASSERT_TRUE(bench.engine.Submit(0, Ask(1, 30, 50)).ok());
  bench.Next();
  bench.Next();
  EXPECT_LT(bench.engine.stats().blocks_free, 64);
  bench.engine.Cancel(0, 1);
  bench.engine.CheckInvariants();
  EXPECT_LT(bench.engine.stats().blocks_free, 64);  // a step that names them is under way
  const size_t delivered = bench.deliveries.size();
  bench.Next();
  bench.Next();  // the step that had run ahead
  EXPECT_EQ(bench.engine.stats().blocks_free, 64);
  EXPECT_EQ(bench.deliveries.size(), delivered);
  EXPECT_FALSE(bench.Next());
  // The agents hear of it with the next step.
  ASSERT_TRUE(bench.engine.Submit(0, Ask(1, 3, 1)).ok());
  EXPECT_EQ(bench.steps.back().ended, std::vector<uint64_t>{1});
  bench.Drain();
}

// Blocks are free at once when no step under way names them, else with the answer to the last step that does.
TEST(Engine, ACancellationTellsWhenItsBlocksAreFree) {
  std::vector<std::pair<double, int>> freed;
  EngineOptions options = Options();
  options.on_freed = [&](double cancelled, int steps) { freed.emplace_back(cancelled, steps); };
  Bench bench(options);
  ASSERT_TRUE(bench.engine.Submit(0, Ask(1, 30, 50)).ok());
  bench.Next();
  ASSERT_TRUE(bench.engine.Submit(0, Ask(2, 3, 3)).ok());
  bench.engine.Cancel(7.5, 1);
  EXPECT_TRUE(freed.empty());
  for (int answered = 1; freed.empty() && bench.Next(); ++answered) {
    if (!freed.empty()) {
      EXPECT_EQ(freed, (std::vector<std::pair<double, int>>{{7.5, answered}}));
    }
  }
  ASSERT_EQ(freed.size(), 1u);
  EXPECT_LE(freed[0].second, 2);
  bench.Drain();
  EXPECT_EQ(freed.size(), 1u);  // a request that ends by itself is no cancellation
}

TEST(Engine, ACancelledRequestThatNeverRanHoldsNothing) {
  std::vector<std::pair<double, int>> freed;
  EngineOptions options = Options();
  options.max_sequences = 1;
  options.on_freed = [&](double cancelled, int steps) { freed.emplace_back(cancelled, steps); };
  Bench bench(options);
  ASSERT_TRUE(bench.engine.Submit(0, Ask(1, 3, 9)).ok());
  ASSERT_TRUE(bench.engine.Submit(0, Ask(2, 3, 9)).ok());
  bench.engine.Cancel(2, 2);
  EXPECT_EQ(freed, (std::vector<std::pair<double, int>>{{2, 0}}));
  bench.Drain();
}

TEST(Engine, WrongAnswersOfAgents) {
  for (const int wrong : {0, 1, 2, 3}) {
    Bench bench(Options());
    SequenceRequest request = Ask(1, 5, 5);
    request.prompt_logprobs = true;
    ASSERT_TRUE(bench.engine.Submit(0, request).ok());
    StepResult result = bench.agents.TakeResult();
    if (wrong == 0) result.sequences.clear();
    if (wrong == 1) result.sequences[0].samples.clear();
    if (wrong == 2) result.sequences[0].prompt.pop_back();
    if (wrong == 3) ++result.number;
    bench.engine.OnResult(0, result);
    bench.engine.CheckInvariants();
    ASSERT_EQ(bench.deliveries.size(), 1u) << wrong;
    EXPECT_TRUE(absl::IsInternal(bench.deliveries[0][0].error)) << wrong;
    if (wrong != 3) bench.Drain();  // the step that had run ahead
    EXPECT_EQ(bench.engine.stats().blocks_free, 64);
    EXPECT_EQ(bench.engine.Submit(0, Ask(2, 1, 1)).ok(), wrong != 3) << "a step out of order ends everything";
  }
}

// Two sequences in one step, and an answer that names one twice, or one that nobody knows, in place of the other.
TEST(Engine, AnAnswerForTheWrongSequenceFailsTheOneThatGotNone) {
  for (const bool twice : {true, false}) {
    Bench bench(Options());
    ASSERT_TRUE(bench.engine.Submit(0, Ask(1, 5, 9)).ok());
    bench.Next();  // the first alone; from now on both share a step
    ASSERT_TRUE(bench.engine.Submit(0, Ask(2, 5, 9)).ok());
    StepResult result;
    do {
      result = bench.agents.TakeResult();
      if (result.sequences.size() < 2) bench.engine.OnResult(0, result);
    } while (result.sequences.size() < 2);
    result.sequences[1].id = twice ? result.sequences[0].id : 4711;
    bench.engine.OnResult(0, result);
    bench.engine.CheckInvariants();
    bench.Drain();
    int failed = 0;
    for (const uint64_t request : {1, 2}) {
      const absl::Status error = bench.OutputsOf(request).back().error;
      if (error.ok()) {
        EXPECT_EQ(bench.IdsOf(request), ExpectedIds(Ask(request, 5, 9))) << "the neighbour gets what it gets alone";
      } else {
        EXPECT_TRUE(absl::IsInternal(error)) << error;
        ++failed;
      }
    }
    EXPECT_EQ(failed, 1);
    EXPECT_EQ(bench.engine.stats().blocks_free, 64);
  }
}

TEST(Engine, AResultOfAnotherEpochIsNoResult) {
  Bench bench(Options());
  ASSERT_TRUE(bench.engine.Submit(0, Ask(1, 5, 5)).ok());
  const StepResult result = bench.agents.TakeResult();
  for (const uint64_t epoch : {uint64_t{0}, result.epoch + 1}) {
    StepResult late = result;
    late.epoch = epoch;
    late.sequences[0].samples[0].id = 7;  // would be seen
    bench.engine.OnResult(0, late);
    EXPECT_TRUE(bench.deliveries.empty());
  }
  bench.engine.OnResult(0, result);
  bench.Drain();
  EXPECT_EQ(bench.IdsOf(1), ExpectedIds(Ask(1, 5, 5)));
}

TEST(Engine, FailAllEndsEveryRequestOnceAndForGood) {
  EngineOptions options = Options();
  options.stages = 3;
  Bench bench(options);
  SequenceRequest many = Ask(1, 9, 9);
  many.n = 3;
  ASSERT_TRUE(bench.engine.Submit(0, many).ok());
  for (int i = 2; i < 20; ++i) ASSERT_TRUE(bench.engine.Submit(0, Ask(i, 9, 9)).ok());
  bench.Next();
  const size_t before = bench.deliveries.size();
  bench.engine.FailAll(absl::UnavailableError("an agent died"));
  bench.engine.CheckInvariants();
  ASSERT_EQ(bench.deliveries.size(), before + 1);
  EXPECT_EQ(bench.deliveries.back().size(), 19u);
  for (const Output& output : bench.deliveries.back()) EXPECT_EQ(output.error.message(), "an agent died");
  const size_t steps = bench.steps.size();
  bench.engine.FailAll(absl::UnavailableError("again"));
  bench.Drain();
  EXPECT_EQ(bench.deliveries.size(), before + 1);
  EXPECT_EQ(bench.engine.Submit(0, Ask(50, 1, 1)).message(), "an agent died");
  EXPECT_EQ(bench.steps.size(), steps);
  EXPECT_EQ(bench.engine.stats().blocks_free, 64);
}

// Equal stages in virtual time: a step takes one unit a stage, and the result is there when the last stage is done.
double Bubble(int stages, int streams) {
  EngineOptions options = Options();
  options.stages = stages;
  options.groups[0].blocks = 1024;
  options.max_sequences = 64;
  options.max_batch_tokens = 64;
  Bench bench(options);
  std::vector<double> free_at(stages, 0), busy(stages, 0);
  std::vector<std::pair<double, size_t>> done;  // time, step
  std::map<uint64_t, double> sampled;           // when a sequence's newest sample is there
  size_t seen = 0, answered = 0;
  double now = 0;
  int submitted = 0;
  while (true) {
    // Streams arrive one after the other, out of phase.
    if (submitted < streams && (answered >= seen || submitted <= static_cast<int>(now))) {
      EXPECT_TRUE(bench.engine.Submit(now, Ask(++submitted, 6, 100)).ok());
    }
    for (; seen < bench.steps.size(); ++seen) {
      double at = now;
      for (const StepSequence& part : bench.steps[seen].sequences) {
        if (part.ids.empty()) at = std::max(at, sampled[part.id]);  // "your last sample" comes from the last stage
      }
      for (int stage = 0; stage < stages; ++stage) {
        at = std::max(at, free_at[stage]) + 1;
        free_at[stage] = at;
        busy[stage] += 1;
      }
      for (const StepSequence& part : bench.steps[seen].sequences) sampled[part.id] = at;
      done.emplace_back(at, seen);
    }
    if (answered == seen) break;
    now = done[answered++].first;
    bench.Next();
    // Stop while all are running: the ends are no steady state.
    if (bench.engine.stats().generated > static_cast<uint64_t>(60 * streams)) break;
  }
  const double lowest = *std::min_element(busy.begin(), busy.end());
  // Tokens count, not steps: many small steps would keep stages busy too.
  const double ideal_steps = static_cast<double>(bench.engine.stats().generated) * stages / streams;
  EXPECT_LE(lowest, 1.35 * ideal_steps + 40) << "steps are cut too small";
  bench.engine.FailAll(absl::CancelledError("enough"));
  return 1 - lowest / now;
}

TEST(Engine, StagesStayBusy) {
  EXPECT_LT(Bubble(2, 16), 0.05);
  EXPECT_LT(Bubble(3, 16), 0.05);
  EXPECT_LT(Bubble(5, 40), 0.05);
  EXPECT_GT(Bubble(2, 1), 0.4);  // a single stream cannot fill two stages: the measure sees it
}

// Streams that came together would stay together by running ahead, here nine and one, and leave a stage idle for good.
TEST(Engine, DecodingSequencesSpreadEvenlyOverTheSteps) {
  EngineOptions options = Options();
  options.stages = 2;
  options.groups[0].blocks = 1024;
  options.max_sequences = 64;
  options.max_batch_tokens = 64;
  Bench bench(options);
  for (int i = 1; i <= 10; ++i) ASSERT_TRUE(bench.engine.Submit(0, Ask(i, 4, 60)).ok());
  for (int i = 0; i < 30; ++i) bench.Next();
  for (size_t i = bench.steps.size() - 8; i < bench.steps.size(); ++i)
    EXPECT_EQ(bench.steps[i].sequences.size(), 5u) << i;
  bench.Drain();
  for (int i = 1; i <= 10; ++i) EXPECT_EQ(bench.IdsOf(i), ExpectedIds(Ask(i, 4, 60)));
}

TEST(Engine, OneStreamAloneRunsAheadOnEveryNumberOfStages) {
  for (const int stages : {1, 2, 4}) {
    EngineOptions options = Options();
    options.stages = stages;
    for (const bool run_ahead : {true, false}) {
      options.run_ahead = run_ahead;
      Bench bench(options);
      ASSERT_TRUE(bench.engine.Submit(0, Ask(1, 5, 20)).ok());
      bench.Drain();
      EXPECT_EQ(bench.IdsOf(1), ExpectedIds(Ask(1, 5, 20)));
      EXPECT_EQ(bench.agents.ran_ahead, run_ahead ? 19 : 0) << stages;
    }
  }
}

TEST(Engine, PromptChunksFollowEachOtherThroughTheStages) {
  EngineOptions options = Options();
  options.stages = 3;
  options.max_batch_tokens = 8;
  Bench bench(options);
  ASSERT_TRUE(bench.engine.Submit(0, Ask(1, 60, 4)).ok());
  EXPECT_EQ(bench.steps.size(), 4u);  // stages + 1 chunks under way, no result yet
  for (size_t i = 0; i < bench.steps.size(); ++i) EXPECT_EQ(bench.steps[i].sequences[0].start, static_cast<int>(8 * i));
  bench.Drain();
  EXPECT_EQ(bench.IdsOf(1), ExpectedIds(Ask(1, 60, 4)));
}

}  // namespace
}  // namespace pangea
