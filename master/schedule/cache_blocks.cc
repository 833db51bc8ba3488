#include "master/schedule/cache_blocks.h"

#include <algorithm>

#include "master/schedule/check.h"
#include "master/schedule/planted_bug.h"

namespace pangea {

CacheBlocks::Group::Group(const CacheGroup& of)
    : shape(of), pool(of.blocks), name(of.blocks, kNoBlock), distrusted(of.blocks, false) {
  for (int32_t slot = of.swap_blocks; slot-- > 0;) free_slots.push_back(of.blocks + slot);
}

CacheBlocks::CacheBlocks(const std::vector<CacheGroup>& groups, int block_tokens)
    : block_tokens_(block_tokens),
      groups_(groups.begin(), groups.end()),
      index_(groups.at(0).blocks),
      columns_(groups[0].blocks),
      steps_(groups[0].blocks, 0) {
  SCHEDULE_CHECK(groups[0].window == 0);
}

void CacheBlocks::Lay(const std::vector<CacheGroup>& groups) {
  SCHEDULE_CHECK(groups.size() == groups_.size());
  for (size_t g = 0; g < groups.size(); ++g) {
    SCHEDULE_CHECK(groups[g].window == groups_[g].shape.window);
    SCHEDULE_CHECK(groups_[g].free_slots.size() == static_cast<size_t>(groups_[g].shape.swap_blocks));
  }
  groups_.clear();  // a pool checks that every block came home
  for (const CacheGroup& group : groups) groups_.emplace_back(group);
  index_ = PrefixIndex(groups[0].blocks);
  columns_.assign(groups[0].blocks, Column());
  steps_.assign(groups[0].blocks, 0);
}

int CacheBlocks::available() const {
  int fewest = groups_[0].pool.available();
  for (const Group& group : groups_) fewest = std::min(fewest, group.pool.available());
  return fewest;
}

int CacheBlocks::free() const {
  int sum = 0;
  for (const Group& group : groups_) sum += group.pool.available();
  return sum;
}

int CacheBlocks::size() const {
  int sum = 0;
  for (const Group& group : groups_) sum += group.pool.size();
  return sum;
}

int32_t CacheBlocks::Take(int group) {
  Group& from = groups_[group];
  if (from.pool.free() == 0) {
    const int32_t oldest = from.pool.Oldest();
    // A column without a block that every later row looks into is of no use. One that lacks a block of a window is: a
    // sequence that begins further on does not look into it.
    if (from.shape.window == 0) {
      Forget(from.name[oldest]);
    } else {
      columns_[from.name[oldest]][group] = kNoBlock;
      Uncache(group, oldest);
    }
  }
  const int32_t block = from.pool.Take();
  from.distrusted[block] = false;
  return block;
}

void CacheBlocks::Release(int group, int32_t block) {
  if (block != kNoBlock) groups_[group].pool.Release(block);
}

void CacheBlocks::Uncache(int group, int32_t block) {
  groups_[group].name[block] = kNoBlock;
  groups_[group].pool.Uncache(block);
}

int32_t CacheBlocks::Insert(uint64_t before, std::span<const int32_t> ids, const Column& column, uint64_t step) {
  const int32_t name = column[0];
  index_.Insert(before, ids, name);
  columns_[name] = column;
  steps_[name] = step - (planted_bug == PlantedBug::kIndexEarly ? 1 : 0);
  for (int group = 0; group < groups(); ++group) {
    if (column[group] == kNoBlock) continue;
    groups_[group].name[column[group]] = name;
    groups_[group].pool.Cache(column[group]);
  }
  return name;
}

void CacheBlocks::Forget(int32_t name) {
  if (planted_bug != PlantedBug::kStaleIndex) index_.Erase(name);
  for (int group = 0; group < groups(); ++group) {
    if (columns_[name][group] != kNoBlock) Uncache(group, columns_[name][group]);
  }
}

int CacheBlocks::Usable(std::span<const int32_t> names) const {
  int usable = static_cast<int>(names.size());
  if (planted_bug == PlantedBug::kHoleShared) return usable;
  // With fewer columns the next row is an earlier one and looks into earlier blocks too: whichever group lacks a block,
  // the sequence can begin no later than there, and all groups are looked at again.
  for (int group = 0; group < groups(); ++group) {
    const int before = usable;
    for (int i = usable - 1; i >= First(group, usable * block_tokens_); --i) {
      if (columns_[names[i]][group] == kNoBlock) usable = i;
    }
    if (usable < before) group = -1;
  }
  return usable;
}

void CacheBlocks::Distrust(const Column& column) {
  for (int group = 0; group < groups(); ++group) {
    if (column[group] != kNoBlock) groups_[group].distrusted[column[group]] = true;
  }
  if (index_.Has(column[0])) Forget(column[0]);
}

bool CacheBlocks::IsDistrusted(const Column& column) const {
  for (int group = 0; group < groups(); ++group) {
    if (column[group] != kNoBlock && groups_[group].distrusted[column[group]]) return true;
  }
  return false;
}

int32_t CacheBlocks::TakeSlot(int group) {
  std::vector<int32_t>& free = groups_[group].free_slots;
  SCHEDULE_CHECK(!free.empty());
  const int32_t slot = free.back();
  free.pop_back();
  return slot;
}

bool CacheBlocks::IsFreeSlot(int group, int32_t slot) const {
  const std::vector<int32_t>& free = groups_[group].free_slots;
  return std::find(free.begin(), free.end(), slot) != free.end();
}

void CacheBlocks::ForgetAll() { ForgetFrom(0); }

void CacheBlocks::ForgetFrom(uint64_t step) {
  for (int32_t name = 0; name < static_cast<int32_t>(columns_.size()); ++name) {
    if (!index_.Has(name)) continue;
    if (steps_[name] >= step) {
      Forget(name);
    } else {
      steps_[name] = 0;
    }
  }
}

void CacheBlocks::CheckInvariants(const std::vector<std::vector<int>>& users, const std::vector<int>& slots) const {
  for (int g = 0; g < groups(); ++g) {
    const Group& group = groups_[g];
    group.pool.CheckInvariants();
    for (int32_t block = 0; block < group.pool.size(); ++block) {
      SCHEDULE_CHECK(users[g][block] == group.pool.users(block));
      const int32_t name = group.name[block];
      SCHEDULE_CHECK(group.pool.cached(block) == (name != kNoBlock));
      SCHEDULE_CHECK(name == kNoBlock || (index_.Has(name) && columns_[name][g] == block));
    }
    SCHEDULE_CHECK(slots[g] + static_cast<int>(group.free_slots.size()) == group.shape.swap_blocks);
  }
  for (int32_t name = 0; name < static_cast<int32_t>(columns_.size()); ++name) {
    SCHEDULE_CHECK(index_.Has(name) == groups_[0].pool.cached(name));
  }
}

}  // namespace pangea
