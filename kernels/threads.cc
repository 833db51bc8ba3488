#include "kernels/threads.h"

#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "kernels/check.h"

namespace pangea {
namespace {
constexpr unsigned kComputeMode = 0x9FC0;
constexpr unsigned kStatusFlags = 0x3F;  // sticky exception flags: not a mode
}  // namespace

void SetComputeFloatMode() { _mm_setcsr(kComputeMode); }
bool HasComputeFloatMode() { return (_mm_getcsr() & ~kStatusFlags) == kComputeMode; }

// One job at a time. `gate` says who is inside it: bit 0 = open, the rest = 2 * workers inside. A worker that wakes
// late finds the gate shut and sleeps on, so the caller never waits for a thread that took no part.
struct ThreadPool::State {
  int threads = 1;
  bool spin = false;
  std::atomic<uint32_t> epoch{0};
  std::atomic<uint32_t> gate{0};
  std::atomic<bool> stop{false};
  const std::function<void(int64_t, int64_t)>* f = nullptr;
  int64_t n = 0;
  int64_t grain = 1;
  std::atomic<int64_t> next{0};
  std::vector<std::thread> workers;

  // Chunks shrink as the end nears: long runs for the memory streams, short ones to level the finish.
  void Take() {
    int64_t begin = next.load(std::memory_order_relaxed);
    while (begin < n) {
      const int64_t share = (n - begin) / (2 * threads);
      const int64_t chunk = std::max<int64_t>(1, share / grain) * grain;
      const int64_t end = std::min(n, begin + chunk);
      if (!next.compare_exchange_weak(begin, end, std::memory_order_relaxed)) continue;
      (*f)(begin, end);
      begin = next.load(std::memory_order_relaxed);
    }
  }

  void Work() {
    SetComputeFloatMode();
    uint32_t seen = 0;
    while (true) {
      uint32_t now = epoch.load(std::memory_order_acquire);
      while (now == seen) {
        if (spin) {
          _mm_pause();
        } else {
          epoch.wait(seen, std::memory_order_acquire);
        }
        now = epoch.load(std::memory_order_acquire);
      }
      seen = now;
      if (stop.load(std::memory_order_acquire)) return;
      uint32_t g = gate.load(std::memory_order_relaxed);
      while ((g & 1u) != 0 &&
             !gate.compare_exchange_weak(g, g + 2, std::memory_order_acquire, std::memory_order_relaxed)) {
      }
      if ((g & 1u) == 0) continue;
      Take();
      if (gate.fetch_sub(2, std::memory_order_release) == 2) gate.notify_one();
    }
  }
};

ThreadPool::ThreadPool(int threads, bool spin) : state_(std::make_unique<State>()) {
  PANGEA_CHECK(threads >= 1);
  SetComputeFloatMode();  // the caller is thread 0
  state_->threads = threads;
  state_->spin = spin;
  state_->workers.reserve(threads - 1);
  for (int i = 1; i < threads; ++i) state_->workers.emplace_back([s = state_.get()] { s->Work(); });
}

ThreadPool::~ThreadPool() {
  state_->stop.store(true, std::memory_order_release);
  state_->epoch.fetch_add(1, std::memory_order_release);
  state_->epoch.notify_all();
  for (std::thread& t : state_->workers) t.join();
}

int ThreadPool::threads() const { return state_->threads; }

void ThreadPool::For(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)>& f) {
  PANGEA_DCHECK(grain >= 1);
  if (n <= 0) return;
  State& s = *state_;
  if (s.threads == 1 || n <= grain) {
    f(0, n);
    return;
  }
  s.f = &f;
  s.n = n;
  s.grain = grain;
  s.next.store(0, std::memory_order_relaxed);
  s.gate.store(1, std::memory_order_release);
  s.epoch.fetch_add(1, std::memory_order_release);
  s.epoch.notify_all();
  s.Take();
  uint32_t g = s.gate.fetch_and(~1u, std::memory_order_acquire) & ~1u;
  for (int i = 0; g != 0; g = s.gate.load(std::memory_order_acquire)) {
    if (s.spin || ++i < 500) {
      _mm_pause();
    } else {
      s.gate.wait(g, std::memory_order_acquire);
    }
  }
}

}  // namespace pangea
