// Several cache groups: one that keeps all blocks, and such that look back over a window. (Under random load:
// random_life_test.)
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "master/schedule/cache_blocks.h"
#include "master/schedule/engine_test_util.h"

namespace pangea {
namespace {

// Blocks of 4 tokens.
EngineOptions Grouped(int blocks, int windowed, int window) {
  EngineOptions options = Options();
  options.groups = {{.blocks = blocks}, {.blocks = windowed, .window = window}};
  return options;
}

int Used(const Bench& bench) {
  const EngineStats stats = bench.engine.stats();
  return stats.blocks - stats.blocks_free;
}

TEST(CacheGroups, AnOldBlockIsGivenBackWhenItsWindowHasPassed) {
  for (const int window : {0, 8, 9, 32}) {
    EngineOptions options = Grouped(64, 64, window);
    options.run_ahead = false;
    Bench bench(options);
    ASSERT_TRUE(bench.engine.Submit(0, Ask(1, 4, 90)).ok());
    int most = 0;
    while (bench.Next()) most = std::max(most, Used(bench));
    EXPECT_EQ(bench.agents.fault(), "");
    EXPECT_EQ(bench.IdsOf(1), ExpectedIds(Ask(1, 4, 90)));
    // 93 rows are 24 blocks. The newest row and the window - 1 before it lie in at most so many blocks.
    const int kept = window == 0 ? 24 : std::min(24, (window - 2) / 4 + 2);
    EXPECT_LE(most, 24 + kept) << window;
    EXPECT_GE(most, 24 + kept - 1) << window;
    EXPECT_EQ(Used(bench), 0);
  }
}

TEST(CacheGroups, WhicheverGroupIsFullPreemptsAndTheWholeSequenceComesBack) {
  for (const int swap : {0, 20}) {
    for (const auto& [all, windowed] : {std::pair(12, 60), std::pair(60, 12)}) {
      EngineOptions options = Grouped(all, windowed, 200);
      for (CacheGroup& group : options.groups) group.swap_blocks = swap;
      Bench bench(options);
      for (int i = 1; i <= 3; ++i) ASSERT_TRUE(bench.engine.Submit(0, Ask(i, 8, 20)).ok());
      bench.Drain();
      EXPECT_GE(bench.engine.stats().preemptions, 1u);
      EXPECT_EQ(bench.agents.swap_ins > 0, swap > 0);
      for (int i = 1; i <= 3; ++i) EXPECT_EQ(bench.IdsOf(i), ExpectedIds(Ask(i, 8, 20))) << i;
      EXPECT_EQ(Used(bench), 0);
    }
  }
}

// Of what was swapped out, only blocks within the window are copied.
TEST(CacheGroups, SwapCopiesWhatTheNextRowLooksInto) {
  EngineOptions options = Grouped(20, 60, 6);
  for (CacheGroup& group : options.groups) group.swap_blocks = 40;
  options.prefix_cache = false;
  Bench bench(options);
  for (int i = 1; i <= 3; ++i) ASSERT_TRUE(bench.engine.Submit(0, Ask(i, 20, 20)).ok());
  bench.Drain();
  int copied[2] = {0, 0};
  for (const Step& step : bench.steps) {
    for (const BlockCopy& copy : step.copies) copied[copy.group] += copy.to >= options.groups[copy.group].blocks;
  }
  EXPECT_GE(copied[0], 5);
  EXPECT_GE(copied[1], 1);
  EXPECT_LE(copied[1], copied[0] / 2);
  for (int i = 1; i <= 3; ++i) EXPECT_EQ(bench.IdsOf(i), ExpectedIds(Ask(i, 20, 20))) << i;
}

SequenceRequest Alike(uint64_t number, int prompt, int max_tokens) {
  SequenceRequest request = Ask(number, prompt, max_tokens);
  request.prompt = Ask(1, prompt, 0).prompt;
  request.prompt.back() = static_cast<int32_t>(number);
  return request;
}

TEST(CacheGroups, ANewcomerTakesOverOfAWindowWhatItLooksInto) {
  Bench bench(Grouped(64, 64, 8));
  ASSERT_TRUE(bench.engine.Submit(0, Alike(1, 41, 5)).ok());
  bench.Drain();
  const size_t before = bench.steps.size();
  ASSERT_TRUE(bench.engine.Submit(0, Alike(2, 41, 5)).ok());
  bench.Drain();
  EXPECT_EQ(bench.IdsOf(2), ExpectedIds(Alike(2, 41, 5)));
  EXPECT_EQ(bench.OutputsOf(2)[0].cached_tokens, 40);
  const StepSequence& first = bench.steps[before].sequences[0];
  EXPECT_EQ(first.start, 40);
  ASSERT_EQ(first.blocks.size(), 2u);
  ASSERT_EQ(first.blocks[1].size(), 11u);
  // Position 40 sees 33 on: in block 8.
  EXPECT_EQ(std::count(first.blocks[0].begin(), first.blocks[0].end(), kNoBlock), 0);
  for (int i = 0; i < 11; ++i) EXPECT_EQ(first.blocks[1][i] == kNoBlock, i < 8) << i;
}

// The windowed group is small: what it kept for others is taken by those who run. A beginning is then taken over only
// as far as the group still has what the first row looks into, and answers stay what they are.
TEST(CacheGroups, ABeginningEndsWhereAWindowLacksABlock) {
  Bench bench(Grouped(400, 30, 8));
  ASSERT_TRUE(bench.engine.Submit(0, Alike(1, 41, 2)).ok());
  bench.Drain();
  for (int i = 10; i < 14; ++i) {
    ASSERT_TRUE(bench.engine.Submit(0, Ask(i, 60, 4)).ok());
    bench.Drain();
  }
  ASSERT_TRUE(bench.engine.Submit(0, Alike(2, 41, 5)).ok());
  bench.Drain();
  EXPECT_EQ(bench.OutputsOf(2)[0].cached_tokens, 0);
  EXPECT_EQ(bench.IdsOf(2), ExpectedIds(Alike(2, 41, 5)));
}

TEST(CacheGroups, ChoicesShareAPromptInEveryGroup) {
  for (const int window : {0, 3, 8, 100}) {
    Bench bench(Grouped(64, 64, window));
    SequenceRequest request = Ask(1, 22, 6);
    request.n = 4;
    ASSERT_TRUE(bench.engine.Submit(0, request).ok());
    bench.Drain();
    for (int choice = 0; choice < 4; ++choice)
      EXPECT_EQ(bench.IdsOf(1, choice), ExpectedIds(request, choice)) << choice;
    EXPECT_EQ(bench.engine.stats().rows, 22u + 3 + 4 * 5);
    EXPECT_EQ(bench.agents.copies, 2 * 3) << "of both groups";
  }
}

TEST(CacheGroups, TheSmallestGroupBoundsASequence) {
  Bench bench(Grouped(64, 5, 0));
  const absl::Status status = bench.engine.Submit(0, Ask(1, 21, 0));
  EXPECT_NE(std::string(status.message()).find("5 blocks of 4"), std::string::npos) << status;
  ASSERT_TRUE(bench.engine.Submit(0, Ask(1, 18, 50)).ok());
  bench.Drain();
  EXPECT_EQ(bench.IdsOf(1).size(), 2u);
}

// By hand: three columns whose second group has lost some blocks; blocks of 4, a window of 6 positions.
TEST(CacheBlocks, UsableIsWhereNoGroupLacksABlock) {
  const std::vector<CacheGroup> groups = {{.blocks = 8}, {.blocks = 8, .window = 6}};
  for (int lost = 0; lost < 8; ++lost) {
    CacheBlocks cache(groups, 4);
    uint64_t before = cache.MakeRoot(0, {});
    std::vector<int32_t> names;
    std::vector<Column> columns;
    for (int32_t i = 0; i < 3; ++i) {
      Column column = {cache.Take(0), cache.Take(1)};
      columns.push_back(column);
      if (lost >> i & 1) column[1] = kNoBlock;
      names.push_back(cache.Insert(before, std::vector<int32_t>(4, i), column, 1));
      before = cache.index().serial(names.back());
    }
    // So many columns will do when the blocks that position 4 n looks into, 4 n - 5 on, are all there.
    int expected = 0;
    for (int n = 1; n <= 3; ++n) {
      bool all = true;
      for (int position = std::max(0, 4 * n - 5); position < 4 * n; ++position)
        all &= (lost >> (position / 4) & 1) == 0;
      if (all) expected = n;
    }
    EXPECT_EQ(cache.Usable(names), expected) << lost;
    for (const Column& column : columns) {
      cache.Release(0, column[0]);
      cache.Release(1, column[1]);
    }
    cache.ForgetAll();
  }
}

}  // namespace
}  // namespace pangea
