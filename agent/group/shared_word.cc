#include "agent/group/shared_word.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>

namespace pangea {
namespace {

using Clock = std::chrono::steady_clock;

// Several times what a sleeping rank takes to wake; whoever waits longer loses little by sleeping, and leaves its core
// to the master.
constexpr std::chrono::microseconds kSpin(100);

void FutexWake(std::atomic<uint32_t>* word) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(word), FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

// Not the _PRIVATE operations: the word lies in a mapping shared by processes.
void FutexWait(std::atomic<uint32_t>* word, uint32_t seen, std::chrono::nanoseconds limit) {
  const timespec relative{.tv_sec = limit.count() / 1'000'000'000, .tv_nsec = limit.count() % 1'000'000'000};
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(word), FUTEX_WAIT, seen, &relative, nullptr, 0);
}

}  // namespace

void SharedWord::Add(uint32_t n) {
  value_.fetch_add(n << 1, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) != 0) FutexWake(&value_);
}

void SharedWord::Abort() {
  value_.fetch_or(kAborted, std::memory_order_seq_cst);
  FutexWake(&value_);
}

uint32_t SharedWord::WaitChange(uint32_t seen, Clock::time_point deadline, bool spin) {
  uint32_t now = value_.load(std::memory_order_acquire);
  if (now != seen) return now;
  if (spin) {
    const Clock::time_point end = std::min(deadline, Clock::now() + kSpin);
    do {
      for (int i = 0; i < 64; ++i) {
        now = value_.load(std::memory_order_acquire);
        if (now != seen) return now;
        __builtin_ia32_pause();
      }
    } while (Clock::now() < end);
  }
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  while ((now = value_.load(std::memory_order_seq_cst)) == seen) {
    const Clock::duration left = deadline - Clock::now();
    if (left <= Clock::duration::zero()) break;
    FutexWait(&value_, seen, left);
  }
  sleepers_.fetch_sub(1, std::memory_order_seq_cst);
  return now;
}

}  // namespace pangea
