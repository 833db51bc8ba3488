// The blocks of all cache groups: who uses them, which of them the prefix cache can find, and the swap blocks beyond
// them. Integers only: the pages are the agents'.
#pragma once
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "master/schedule/block_pool.h"
#include "master/schedule/prefix_index.h"
#include "pipeline/step.h"

namespace pangea {

// The blocks in which the groups keep the same tokens of a sequence, one a group; kNoBlock: that group has none of them
// any more.
using Column = absl::InlinedVector<int32_t, 1>;

// Not thread safe. Every misuse aborts.
class CacheBlocks {
 public:
  // The first group keeps all blocks (its window is 0): its block gives a column in the prefix index its name.
  CacheBlocks(const std::vector<CacheGroup>& groups, int block_tokens);
  // Other blocks in the place of these, which nobody uses and the prefix index does not know. As many groups, with the
  // same windows.
  void Lay(const std::vector<CacheGroup>& groups);

  int groups() const { return static_cast<int>(groups_.size()); }
  // The first block that a row at this position, and those after it, look into.
  int First(int group, int position) const { return groups_[group].shape.FirstBlock(position, block_tokens_); }
  int users(int group, int32_t block) const { return groups_[group].pool.users(block); }
  int available(int group) const { return groups_[group].pool.available(); }
  int available() const;  // of the group that has fewest: so many columns can be taken
  int free() const;       // of all groups together: blocks that nobody uses, cached or not
  int size() const;       // of all groups together: blocks

  int32_t Take(int group);  // giving up the oldest cached one when none is free; available(group) > 0
  void Share(int group, int32_t block) { groups_[group].pool.Share(block); }
  void Release(int group, int32_t block);  // kNoBlock: nothing to do

  // The prefix index. What it says of blocks it says of columns.
  const PrefixIndex& index() const { return index_; }
  Column ColumnOf(int32_t name) const { return columns_[name]; }
  uint64_t step(int32_t name) const { return steps_[name]; }  // that computed the column
  uint64_t MakeRoot(int32_t adapter, const CacheSalt& salt) { return index_.MakeRoot(adapter, salt); }
  // Somebody uses the column. Its name comes back.
  int32_t Insert(uint64_t before, std::span<const int32_t> ids, const Column& column, uint64_t step);
  void Forget(int32_t name);  // its blocks are cached no longer
  // Of the columns with these names, in order: how many a sequence can begin with, because every group still has those
  // of their blocks that the next row looks into.
  int Usable(std::span<const int32_t> names) const;
  // A sequence that has failed had the column: nobody finds it any more, nor is it found again until its blocks are
  // taken afresh.
  void Distrust(const Column& column);
  bool IsDistrusted(const Column& column) const;

  // Swap blocks.
  int free_slots(int group) const { return static_cast<int>(groups_[group].free_slots.size()); }
  int32_t TakeSlot(int group);
  void GiveSlot(int group, int32_t slot) { groups_[group].free_slots.push_back(slot); }
  bool IsFreeSlot(int group, int32_t slot) const;

  void ForgetAll();  // the prefix index is empty
  // Only what this step or a later one computes is forgotten; for what is kept, step() is 0 from now on.
  void ForgetFrom(uint64_t step);
  // users: [group][block], how many there should be. slots: [group], swap blocks that are taken.
  void CheckInvariants(const std::vector<std::vector<int>>& users, const std::vector<int>& slots) const;

 private:
  struct Group {
    explicit Group(const CacheGroup& of);
    CacheGroup shape;
    BlockPool pool;
    std::vector<int32_t> name;     // [block]: of the column in the index that it belongs to; kNoBlock: none
    std::vector<bool> distrusted;  // [block]
    std::vector<int32_t> free_slots;
  };
  void Uncache(int group, int32_t block);

  const int block_tokens_;
  std::deque<Group> groups_;  // pools stay where they are
  PrefixIndex index_;
  std::vector<Column> columns_;  // by name, of those in the index
  std::vector<uint64_t> steps_;  // by name
};

}  // namespace pangea
