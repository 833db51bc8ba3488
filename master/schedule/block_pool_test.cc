#include "master/schedule/block_pool.h"

#include <gtest/gtest.h>

#include <set>

namespace pangea {
namespace {

TEST(BlockPool, EveryBlockIsTakenOnceAndComesHome) {
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

TEST(BlockPoolDeathTest, Misuse) {
  EXPECT_DEATH(BlockPool(1).Release(0), "users_");
  EXPECT_DEATH(BlockPool(1).Share(0), "users_");
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
