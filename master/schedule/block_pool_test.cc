#include "master/schedule/block_pool.h"

#include <gtest/gtest.h>

#include <set>

namespace pangea {
namespace {

TEST(BlockPool, EveryBlockIsTakenOnceAndGivenBack) {
  BlockPool pool(5);
  std::set<int32_t> taken;
  while (pool.free() > 0) taken.insert(pool.Take());
  EXPECT_EQ(taken.size(), 5u);
  pool.Share(3);
  pool.Release(3);
  EXPECT_EQ(pool.free(), 0);
  EXPECT_EQ(pool.users(3), 1);
  for (const int32_t block : taken) pool.Release(block);
  EXPECT_EQ(pool.free(), 5);
  pool.CheckInvariants();
}

TEST(BlockPool, CachedBlocksAreIdleOldestFirstUntilSharedOrGivenUp) {
  BlockPool pool(4);
  const int32_t a = pool.Take(), b = pool.Take(), c = pool.Take();
  for (const int32_t block : {a, b}) pool.Cache(block);
  for (const int32_t block : {b, a, c}) pool.Release(block);
  EXPECT_EQ(pool.free(), 2);
  EXPECT_EQ(pool.idle(), 2);
  EXPECT_EQ(pool.Oldest(), b);
  pool.Share(b);
  EXPECT_EQ(pool.Oldest(), a);
  pool.Release(b);
  EXPECT_EQ(pool.Oldest(), a);
  pool.Uncache(a);
  EXPECT_EQ(pool.Oldest(), b);
  pool.Share(b);
  pool.Uncache(b);  // in use: free when released
  pool.CheckInvariants();
  pool.Release(b);
  EXPECT_EQ(pool.free(), 4);
}

TEST(BlockPoolDeathTest, Misuse) {
  EXPECT_DEATH(BlockPool(1).Release(0), "users");
  EXPECT_DEATH(BlockPool(1).Share(0), "cached");
  for (const int32_t block : {-1, 1}) EXPECT_DEATH(BlockPool(1).Share(block), "size");
  EXPECT_DEATH(
      {
        BlockPool pool(1);
        pool.Take();
        pool.Take();
      },
      "empty");
  EXPECT_DEATH(
      {
        BlockPool pool(2);
        pool.Take();
      },
      "free");
}

}  // namespace
}  // namespace pangea
