#include "master/schedule/block_pool.h"

#include "master/schedule/check.h"

namespace pangea {

BlockPool::BlockPool(int blocks) : blocks_(blocks) {
  free_.reserve(blocks);
  for (int32_t block = blocks - 1; block >= 0; --block) free_.push_back(block);
}

BlockPool::~BlockPool() {
  SCHEDULE_CHECK(free() == size());
  CheckInvariants();
}

const BlockPool::Block& BlockPool::At(int32_t block) const {
  SCHEDULE_CHECK(block >= 0 && block < size());  // kNoBlock among them
  return blocks_[block];
}

int32_t BlockPool::Take() {
  SCHEDULE_CHECK(!free_.empty());
  const int32_t block = free_.back();
  free_.pop_back();
  SCHEDULE_CHECK(blocks_[block].users == 0 && !blocks_[block].cached);
  blocks_[block].users = 1;
  return block;
}

void BlockPool::Share(int32_t block) {
  Block& shared = At(block);
  SCHEDULE_CHECK(shared.users > 0 || shared.cached);
  if (shared.users++ == 0) idle_.erase(shared.place);
}

void BlockPool::Release(int32_t block) {
  Block& released = At(block);
  SCHEDULE_CHECK(released.users > 0);
  if (--released.users > 0) return;
  if (released.cached) {
    released.place = idle_.insert(idle_.end(), block);
  } else {
    free_.push_back(block);
  }
}

void BlockPool::Cache(int32_t block) {
  Block& kept = At(block);
  SCHEDULE_CHECK(kept.users > 0);
  kept.cached = true;
}

void BlockPool::Uncache(int32_t block) {
  Block& dropped = At(block);
  SCHEDULE_CHECK(dropped.cached);
  dropped.cached = false;
  if (dropped.users > 0) return;
  idle_.erase(dropped.place);
  free_.push_back(block);
}

int32_t BlockPool::Oldest() const {
  SCHEDULE_CHECK(!idle_.empty());
  return idle_.front();
}

void BlockPool::CheckInvariants() const {
  std::vector<int> seen(blocks_.size(), 0);
  for (const int32_t block : free_) {
    SCHEDULE_CHECK(blocks_[block].users == 0 && !blocks_[block].cached);
    ++seen[block];
  }
  for (const int32_t block : idle_) {
    SCHEDULE_CHECK(blocks_[block].users == 0 && blocks_[block].cached);
    ++seen[block];
  }
  for (size_t block = 0; block < blocks_.size(); ++block) {
    SCHEDULE_CHECK(blocks_[block].users >= 0);
    SCHEDULE_CHECK(seen[block] == (blocks_[block].users == 0 ? 1 : 0));
  }
}

}  // namespace pangea
