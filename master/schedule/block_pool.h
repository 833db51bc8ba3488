// Which KV blocks are free and how many users each of the others has. Integers only: the pages are the agents'.
#pragma once
#include <cstdint>
#include <vector>

namespace pangea {

// Not thread safe. Every misuse (a block released too often, taken from an empty pool) aborts.
class BlockPool {
 public:
  explicit BlockPool(int blocks);
  ~BlockPool();  // CHECKs that every block came home
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  int size() const { return static_cast<int>(users_.size()); }
  int free() const { return static_cast<int>(free_.size()); }
  int users(int32_t block) const { return users_[block]; }

  int32_t Take();               // a free block, now with one user; free() > 0
  void Share(int32_t block);    // one user more; the block is read-only for as long as it has several
  void Release(int32_t block);  // one user less; free when it was the last
  void CheckInvariants() const;

 private:
  std::vector<int32_t> users_;  // [block]
  std::vector<int32_t> free_;   // a stack: the block freed last is warm in the agents' caches
};

}  // namespace pangea
