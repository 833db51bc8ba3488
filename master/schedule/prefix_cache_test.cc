// The prefix cache as the engine uses it. (Rules under random load: random_life_test.)
#include <gtest/gtest.h>

#include <vector>

#include "master/schedule/engine_test_util.h"

namespace pangea {
namespace {

SequenceRequest AskWith(uint64_t number, const std::vector<int32_t>& prompt, int max_tokens) {
  SequenceRequest request = Ask(number, 0, max_tokens);
  request.prompt = prompt;
  return request;
}

std::vector<int32_t> Prefix(int size) {
  std::vector<int32_t> ids;
  for (int i = 0; i < size; ++i) ids.push_back((i * i + i / 7) % kFakeVocab);
  return ids;
}

TEST(PrefixCache, ManyRequestsWithOnePrefixComputeItOnce) {
  for (const int stages : {1, 2, 4}) {
    EngineOptions options = Options();
    options.stages = stages;
    options.groups[0].blocks = 4096;
    options.block_tokens = 16;
    options.context = 2048;
    options.max_batch_tokens = 512;
    options.max_sequences = 64;
    Bench bench(options);
    const std::vector<int32_t> prefix = Prefix(1000);
    int ideal = 1000, cached = 0;
    std::vector<SequenceRequest> requests;
    for (int i = 1; i <= 50; ++i) {  // all at once: those that come while the prefix is read wait for it
      std::vector<int32_t> prompt = prefix;
      for (int k = 0; k < 20; ++k) prompt.push_back((i * 31 + k) % kFakeVocab);
      requests.push_back(AskWith(i, prompt, 8));
      ideal += 20;
      ASSERT_TRUE(bench.engine.Submit(0, requests.back()).ok());
    }
    bench.Drain();
    for (const SequenceRequest& request : requests) {
      std::vector<int32_t> expected;
      for (const Sample& sample : ExpectedOf(request, 0, 2048).samples) expected.push_back(sample.id);
      EXPECT_EQ(bench.IdsOf(request.request), expected);
      cached += bench.OutputsOf(request.request)[0].cached_tokens;
    }
    const int prefill = static_cast<int>(bench.engine.stats().rows) - 50 * 7;
    EXPECT_LE(prefill, ideal * 1.02) << stages << " stages";  // though 1000 tokens are 62 blocks and 8 rows more
    EXPECT_EQ(prefill + cached, 50 * 1020);
    EXPECT_EQ(bench.engine.stats().prefix_hits, static_cast<uint64_t>(cached));
    EXPECT_EQ(bench.engine.stats().prefix_queries, 50u * 1020);
  }
}

TEST(PrefixCache, PrefixOfWholeBlocksIsWithinTwoPercentOfTheIdeal) {
  EngineOptions options = Options();
  options.groups[0].blocks = 4096;
  options.block_tokens = 16;
  options.context = 2048;
  options.max_batch_tokens = 512;
  options.max_sequences = 64;
  Bench bench(options);
  std::vector<int32_t> prompt = Prefix(1008);
  prompt.resize(1018);
  for (int i = 1; i <= 50; ++i) {
    for (int k = 1008; k < 1018; ++k) prompt[k] = (i * 17 + k) % kFakeVocab;
    ASSERT_TRUE(bench.engine.Submit(0, AskWith(i, prompt, 1)).ok());
  }
  bench.Drain();
  EXPECT_LE(static_cast<double>(bench.engine.stats().rows), 1.02 * (1008 + 50 * 10));
}

TEST(PrefixCache, TheNextTurnFindsPromptAndAnswer) {
  Bench bench(Options());
  SequenceRequest first = Ask(1, 18, 15);
  ASSERT_TRUE(bench.engine.Submit(0, first).ok());
  bench.Drain();
  EXPECT_EQ(bench.OutputsOf(1)[0].cached_tokens, 0);
  std::vector<int32_t> prompt = first.prompt;
  for (const int32_t id : bench.IdsOf(1)) prompt.push_back(id);
  for (int i = 0; i < 5; ++i) prompt.push_back(i);
  SequenceRequest second = AskWith(2, prompt, 6);
  ASSERT_TRUE(bench.engine.Submit(0, second).ok());
  bench.Drain();
  // 33 ids, of which the last was never fed back: 32 rows are 8 blocks.
  EXPECT_EQ(bench.OutputsOf(2)[0].cached_tokens, 32);
  for (size_t i = 1; i < bench.OutputsOf(2).size(); ++i) EXPECT_EQ(bench.OutputsOf(2)[i].cached_tokens, 0);
  EXPECT_EQ(bench.IdsOf(2), ExpectedIds(second));
}

TEST(PrefixCache, TheWholePromptInTheCacheStillComputesItsLastRow) {
  Bench bench(Options());
  for (int number = 1; number <= 2; ++number) {
    ASSERT_TRUE(bench.engine.Submit(0, AskWith(number, Prefix(16), 3)).ok());
    bench.Drain();
  }
  EXPECT_EQ(bench.OutputsOf(2)[0].cached_tokens, 15);
}

TEST(PrefixCache, EchoWritesButDoesNotRead) {
  Bench bench(Options());
  SequenceRequest echo = AskWith(1, Prefix(30), 2);
  echo.prompt_logprobs = true;
  ASSERT_TRUE(bench.engine.Submit(0, echo).ok());
  bench.Drain();
  echo.request = 2;
  ASSERT_TRUE(bench.engine.Submit(0, echo).ok());
  bench.Drain();
  EXPECT_EQ(bench.OutputsOf(2)[0].cached_tokens, 0);
  EXPECT_EQ(bench.OutputsOf(2)[0].prompt.size(), 29u);
  ASSERT_TRUE(bench.engine.Submit(0, AskWith(3, Prefix(30), 2)).ok());
  bench.Drain();
  EXPECT_EQ(bench.OutputsOf(3)[0].cached_tokens, 28);
}

TEST(PrefixCache, LeastRecentlyUsedGoesFirstAndFromTheEnd) {
  EngineOptions options = Options();
  options.groups[0].blocks = 12;
  Bench bench(options);
  const auto other = [](int size) { return Ask(77, size, 0).prompt; };
  ASSERT_TRUE(bench.engine.Submit(0, AskWith(1, Prefix(16), 0)).ok());  // 4 blocks
  bench.Drain();
  ASSERT_TRUE(bench.engine.Submit(0, AskWith(2, other(16), 0)).ok());  // 4 more
  bench.Drain();
  ASSERT_TRUE(bench.engine.Submit(0, AskWith(3, Prefix(17), 0)).ok());  // uses the first again
  bench.Drain();
  EXPECT_EQ(bench.OutputsOf(3)[0].cached_tokens, 16);
  ASSERT_TRUE(bench.engine.Submit(0, AskWith(4, Ask(40, 24, 0).prompt, 0)).ok());  // 6 blocks: 4 are free, 2 must go
  bench.Drain();
  ASSERT_TRUE(bench.engine.Submit(0, AskWith(5, Prefix(17), 0)).ok());
  bench.Drain();
  EXPECT_EQ(bench.OutputsOf(5)[0].cached_tokens, 16) << "used after the other";
  ASSERT_TRUE(bench.engine.Submit(0, AskWith(6, other(17), 0)).ok());
  bench.Drain();
  EXPECT_EQ(bench.OutputsOf(6)[0].cached_tokens, 4)
      << "its end was given up: two blocks for 4, one for the last row of 5";
}

TEST(PrefixCache, ResumeTakesWhatIsLeftOfTheOldRun) {
  EngineOptions options = Options();
  options.groups[0].blocks = 18;  // one too few for all three: one yields, and the others take little of what it had
  Bench bench(options);
  for (int i = 1; i <= 3; ++i) ASSERT_TRUE(bench.engine.Submit(0, Ask(i, 8, 20)).ok());
  bench.Drain();
  const EngineStats with = bench.engine.stats();
  options.prefix_cache = false;
  Bench plain(options);
  for (int i = 1; i <= 3; ++i) ASSERT_TRUE(plain.engine.Submit(0, Ask(i, 8, 20)).ok());
  plain.Drain();
  EXPECT_GE(with.preemptions, 1u);
  EXPECT_EQ(with.preemptions, plain.engine.stats().preemptions);
  EXPECT_LT(with.rows, plain.engine.stats().rows) << "what was left of the old run is not computed again";
  for (int i = 1; i <= 3; ++i) {
    EXPECT_EQ(bench.IdsOf(i), ExpectedIds(Ask(i, 8, 20)));
    EXPECT_EQ(bench.IdsOf(i), plain.IdsOf(i));
    EXPECT_EQ(bench.OutputsOf(i)[0].cached_tokens, 0) << "its own old blocks are no hit";
  }
}

TEST(PrefixCache, BlocksAreSharedWithinASaltAlone) {
  Bench bench(Options());
  const auto ask = [&](uint64_t number, uint64_t salt) {
    SequenceRequest request = AskWith(number, Prefix(30), 3);
    request.cache_salt = {salt, 0, 0, salt};
    EXPECT_TRUE(bench.engine.Submit(0, request).ok());
    bench.Drain();
    EXPECT_EQ(bench.IdsOf(number), ExpectedIds(request)) << "a salt does not change the answer";
    return bench.OutputsOf(number)[0].cached_tokens;
  };
  EXPECT_EQ(ask(1, 0), 0);
  EXPECT_EQ(ask(2, 7), 0) << "without a salt before";
  EXPECT_EQ(ask(3, 8), 0) << "another salt before";
  EXPECT_EQ(ask(4, 7), 29);
  EXPECT_EQ(ask(5, 0), 29);
  EXPECT_EQ(bench.engine.stats().prefix_hits, 58u);
}

TEST(PrefixCache, NobodyWaitsForThePrefixOfAnotherSalt) {
  Bench bench(Options());
  for (uint64_t number = 1; number <= 2; ++number) {  // at once: the same prompt is being read when the second comes
    SequenceRequest request = AskWith(number, Prefix(40), 2);
    request.cache_salt = {number};
    ASSERT_TRUE(bench.engine.Submit(0, request).ok());
  }
  bench.Drain();
  EXPECT_EQ(bench.OutputsOf(2)[0].cached_tokens, 0);
  EXPECT_EQ(bench.engine.stats().rows, 2u * (40 + 1));
}

TEST(PrefixCache, AFailedSequenceLeavesNothing) {
  Bench bench(Options());
  SequenceRequest bad = AskWith(1, Prefix(30), 9);
  bad.sampling = std::make_shared<Sampling>(Sampling{.seed = 13});
  ASSERT_TRUE(bench.engine.Submit(0, bad).ok());
  bench.Drain();
  EXPECT_FALSE(bench.OutputsOf(1).back().error.ok());
  ASSERT_TRUE(bench.engine.Submit(0, AskWith(2, Prefix(30), 9)).ok());
  bench.Drain();
  EXPECT_EQ(bench.OutputsOf(2)[0].cached_tokens, 0);
}

}  // namespace
}  // namespace pangea
