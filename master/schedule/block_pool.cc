#include "master/schedule/block_pool.h"

#include <algorithm>

#include "master/schedule/check.h"

namespace pangea {

BlockPool::BlockPool(int blocks) : users_(blocks, 0) {
  free_.reserve(blocks);
  for (int32_t block = blocks - 1; block >= 0; --block) free_.push_back(block);
}

BlockPool::~BlockPool() {
  SCHEDULE_CHECK(free() == size());
  CheckInvariants();
}

int32_t BlockPool::Take() {
  SCHEDULE_CHECK(!free_.empty());
  const int32_t block = free_.back();
  free_.pop_back();
  SCHEDULE_CHECK(users_[block] == 0);
  users_[block] = 1;
  return block;
}

void BlockPool::Share(int32_t block) {
  SCHEDULE_CHECK(users_[block] > 0);
  ++users_[block];
}

void BlockPool::Release(int32_t block) {
  SCHEDULE_CHECK(users_[block] > 0);
  if (--users_[block] == 0) free_.push_back(block);
}

void BlockPool::CheckInvariants() const {
  int unused = 0;
  for (const int32_t users : users_) {
    SCHEDULE_CHECK(users >= 0);
    unused += users == 0;
  }
  SCHEDULE_CHECK(unused == free());
  std::vector<bool> seen(users_.size(), false);
  for (const int32_t block : free_) {
    SCHEDULE_CHECK(users_[block] == 0 && !seen[block]);
    seen[block] = true;
  }
}

}  // namespace pangea
