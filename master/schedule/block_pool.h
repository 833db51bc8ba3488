// Which KV blocks are free, how many users each of the others has, and which keep their content for the prefix cache
// when nobody uses them. Integers only: the pages are the agents'.
#pragma once
#include <cstdint>
#include <list>
#include <utility>
#include <vector>

namespace pangea {

// A block is in exactly one state: used (one user or more), idle (no user, but cached) or free. Not thread safe. Every
// misuse (a block released too often, taken from an empty pool, that the pool does not have) aborts.
class BlockPool {
 public:
  explicit BlockPool(int blocks);
  ~BlockPool();  // CHECKs that every block came home
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  int size() const { return static_cast<int>(blocks_.size()); }
  int free() const { return static_cast<int>(free_.size()); }
  int idle() const { return static_cast<int>(idle_.size()); }
  int available() const { return free() + idle(); }
  int users(int32_t block) const { return At(block).users; }
  bool cached(int32_t block) const { return At(block).cached; }

  int32_t Take();               // a free block, now with one user; free() > 0
  void Share(int32_t block);    // one user more, of a used or idle block; its full rows are read-only for as long as it
                                // has several
  void Release(int32_t block);  // one user less; idle or free when it was the last
  void Cache(int32_t block);    // keep the content of a used block beyond its last user
  void Uncache(int32_t block);  // an idle one becomes free
  // The idle block to give up first; idle() > 0. Least recently released: as sequences release their tables from the
  // back, no block comes before one that continues it, so this is also a leaf.
  int32_t Oldest() const;
  void CheckInvariants() const;

 private:
  struct Block {
    int32_t users = 0;
    bool cached = false;
    std::list<int32_t>::iterator place;  // in idle_, when idle
  };
  const Block& At(int32_t block) const;
  Block& At(int32_t block) { return const_cast<Block&>(std::as_const(*this).At(block)); }

  std::vector<Block> blocks_;
  std::vector<int32_t> free_;  // a stack: the block freed last is warm in the agents' caches
  std::list<int32_t> idle_;    // oldest first
};

}  // namespace pangea
