// Which full blocks hold K/V that another sequence with the same beginning can use. A block is found by the ids it
// holds and the block it continues, all compared and not only hashed, so that a match is always exactly the same
// prefix.
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

namespace pangea {

// Sequences share blocks with those of the same salt alone. All zero: none was asked for, a salt like any other.
using CacheSalt = std::array<uint64_t, 4>;

// Bookkeeping only: the caller keeps users and eviction (BlockPool). Not thread safe.
class PrefixIndex {
 public:
  explicit PrefixIndex(int blocks) : entries_(blocks) {}

  // What stands before the first block: adapter and salt (whatever makes that equal ids must not be shared). 0: nothing
  // is in the index that begins so; Find then finds nothing.
  uint64_t Root(int32_t adapter, const CacheSalt& salt = {}) const;
  // The same, for an Insert that follows at once.
  uint64_t MakeRoot(int32_t adapter, const CacheSalt& salt = {});
  // The block that continues `before` (a root or the serial of a block) with these ids; -1: none.
  int32_t Find(uint64_t before, std::span<const int32_t> ids) const;
  // Of the blocks that continue `before`, one whose ids begin as these do for as long as possible. Looks at the newest
  // few, so that a beginning with thousands of continuations stays cheap.
  struct Beginning {
    int32_t block = -1;
    int alike = 0;  // ids; 0: none
  };
  Beginning FindBeginning(uint64_t before, std::span<const int32_t> ids) const;
  // A name of the entry, never used again.
  uint64_t serial(int32_t block) const { return entries_[block].serial; }
  bool Has(int32_t block) const { return entries_[block].serial != 0; }
  // Find(before, ids) must be -1 and the block not in the index.
  void Insert(uint64_t before, std::span<const int32_t> ids, int32_t block);
  void Erase(int32_t block);  // what continues it is no longer found
  size_t size() const { return by_key_.size(); }

 private:
  struct Entry {
    uint64_t serial = 0;  // 0: not in the index
    uint64_t before = 0;
    std::vector<int32_t> ids;
  };
  using Beginnings = std::map<std::pair<int32_t, CacheSalt>, uint64_t>;
  static uint64_t Key(uint64_t before, std::span<const int32_t> ids);

  std::vector<Entry> entries_;                                  // [block]
  std::unordered_multimap<uint64_t, int32_t> by_key_;           // hash of (before, ids) -> block
  std::unordered_map<uint64_t, std::vector<int32_t>> after_;    // before -> blocks, oldest first
  Beginnings roots_;                                            // of those that have blocks: the serial of their root
  std::unordered_map<uint64_t, Beginnings::iterator> root_of_;  // the way back
  uint64_t next_serial_ = 1;
};

}  // namespace pangea
