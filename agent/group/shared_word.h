// A counter in memory that processes share, on which they sleep: 31 bits of count, and the lowest bit says "aborted",
// so that an abort always changes the word that a sleeper compares (a separate flag could be set between its check and
// its sleep).
#pragma once
#include <atomic>
#include <chrono>
#include <cstdint>

namespace pangea {

class SharedWord {
 public:
  static constexpr uint32_t kAborted = 1;
  static constexpr uint32_t kCountMask = 0x7fffffff;
  static bool aborted(uint32_t value) { return value & kAborted; }
  static uint32_t count(uint32_t value) { return value >> 1; }
  // How far count a is ahead of count b, modulo 2^31; negative: behind.
  static int32_t Ahead(uint32_t a, uint32_t b) { return static_cast<int32_t>((a - b) << 1) >> 1; }

  uint32_t value() const { return value_.load(std::memory_order_acquire); }
  // Adds to the count (release: what was written before is seen by who reads the new value) and wakes all sleepers.
  void Add(uint32_t n);
  // Sets the abort bit and wakes all sleepers.
  void Abort();
  // Returns the value as soon as it differs from `seen`, or `seen` when the deadline has passed. spin: spin for a while
  // first.
  uint32_t WaitChange(uint32_t seen, std::chrono::steady_clock::time_point deadline, bool spin);

 private:
  // Both sequentially consistent where they meet: either the sleeper sees the new value, or the waker sees the sleeper.
  std::atomic<uint32_t> value_{0};
  std::atomic<uint32_t> sleepers_{0};
};
static_assert(std::atomic<uint32_t>::is_always_lock_free);

}  // namespace pangea
