#include "master/schedule/prefix_index.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

namespace pangea {
namespace {

using Ids = std::vector<int32_t>;

TEST(PrefixIndex, ABlockIsFoundOnlyAfterWhatItContinues) {
  PrefixIndex index(8);
  const uint64_t root = index.MakeRoot(0);
  index.Insert(root, Ids{1, 2}, 3);
  index.Insert(index.serial(3), Ids{1, 2}, 5);
  EXPECT_EQ(index.Find(root, Ids{1, 2}), 3);
  EXPECT_EQ(index.Find(index.serial(3), Ids{1, 2}), 5);
  EXPECT_EQ(index.Find(index.serial(5), Ids{1, 2}), -1);
  EXPECT_EQ(index.Find(root, Ids{2, 1}), -1);
  EXPECT_EQ(index.Find(index.Root(1), Ids{1, 2}), -1) << "another adapter";
  const uint64_t old = index.serial(3);
  index.Erase(3);
  index.Insert(root, Ids{1, 2}, 3);
  EXPECT_NE(index.serial(3), old) << "what continued the erased block must stay lost";
  EXPECT_EQ(index.Find(index.serial(3), Ids{1, 2}), -1);
  EXPECT_EQ(index.size(), 2u);
}

TEST(PrefixIndex, EverySaltHasABeginningOfItsOwnForAsLongAsItHasBlocks) {
  PrefixIndex index(8);
  const CacheSalt red = {1}, blue = {0, 1};
  EXPECT_EQ(index.Root(0, red), 0u);
  index.Insert(index.MakeRoot(0, red), Ids{1, 2}, 3);
  index.Insert(index.MakeRoot(0, blue), Ids{1, 2}, 4);
  EXPECT_EQ(index.Find(index.Root(0, red), Ids{1, 2}), 3);
  EXPECT_EQ(index.Find(index.Root(0, blue), Ids{1, 2}), 4);
  EXPECT_EQ(index.Find(index.Root(0), Ids{1, 2}), -1);
  EXPECT_EQ(index.Find(index.Root(1, red), Ids{1, 2}), -1);
  EXPECT_EQ(index.MakeRoot(0, red), index.Root(0, red));
  index.Erase(3);
  EXPECT_EQ(index.Root(0, red), 0u) << "nothing is kept of a salt without blocks";
  EXPECT_EQ(index.Find(index.Root(0, blue), Ids{1, 2}), 4);
}

TEST(PrefixIndex, TheBlockThatBeginsAlikeForLongest) {
  PrefixIndex index(8);
  const uint64_t root = index.MakeRoot(0);
  index.Insert(root, Ids{1, 2, 3, 4}, 3);
  index.Insert(root, Ids{1, 2, 9, 9}, 5);
  index.Insert(index.serial(3), Ids{1, 2, 3, 5}, 6);
  const auto find = [&](const Ids& ids) {
    const auto found = index.FindBeginning(root, ids);
    return std::pair(found.block, found.alike);
  };
  EXPECT_EQ(find({1, 2, 3, 5}), std::pair(3, 3));
  EXPECT_EQ(find({1, 2, 9}), std::pair(5, 3));
  EXPECT_EQ(find({2}), std::pair(-1, 0));
  EXPECT_EQ(find({}), std::pair(-1, 0));
  index.Erase(3);
  EXPECT_EQ(find({1, 2, 3, 5}), std::pair(5, 2));
  EXPECT_EQ(index.FindBeginning(index.Root(1), Ids{1, 2}).alike, 0);
}

// Against a map keyed by the whole prefix.
TEST(PrefixIndex, EqualsAMapOfWholePrefixes) {
  std::mt19937 random(1);
  for (int round = 0; round < 50; ++round) {
    const int blocks = 40;
    PrefixIndex index(blocks);
    std::map<Ids, int32_t> truth;      // prefix -> block
    std::map<int32_t, Ids> prefix_of;  // block -> prefix
    for (int event = 0; event < 300; ++event) {
      Ids all;
      uint64_t before = index.MakeRoot(0);
      bool whole = true;
      for (int depth = 0; depth < 5; ++depth) {
        const Ids ids = {static_cast<int32_t>(random() % 2), static_cast<int32_t>(random() % 2)};
        all.insert(all.end(), ids.begin(), ids.end());
        const auto known = truth.find(all);
        const int32_t found = index.Find(before, ids);
        ASSERT_EQ(found, whole && known != truth.end() ? known->second : -1);
        if (found >= 0) {
          before = index.serial(found);
          continue;
        }
        whole = false;
        const int32_t block = static_cast<int32_t>(random() % blocks);
        if (index.Has(block)) {
          // With a block goes everything that continues it.
          const Ids gone = prefix_of[block];
          for (auto it = prefix_of.begin(); it != prefix_of.end();) {
            const Ids& p = it->second;
            const bool under = p.size() >= gone.size() && std::equal(gone.begin(), gone.end(), p.begin());
            if (under) {
              index.Erase(it->first);
              truth.erase(p);
              it = prefix_of.erase(it);
            } else {
              ++it;
            }
          }
          break;
        }
        index.Insert(before, ids, block);
        truth[all] = block;
        prefix_of[block] = all;
        before = index.serial(block);
        whole = true;
      }
    }
  }
}

}  // namespace
}  // namespace pangea
