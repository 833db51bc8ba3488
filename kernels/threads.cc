#include "kernels/threads.h"

#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "kernels/check.h"

namespace pangea {
namespace {
constexpr unsigned kComputeMode = 0x9FC0;
constexpr unsigned kStatusFlags = 0x3F;  // sticky exception flags: not a mode

// Longer than what lies between two jobs of a step (microseconds: attention's bookkeeping, a norm of few rows), far
// shorter than a step: an idle pool burns nothing, and one job after another finds its workers awake. Waking a sleeping
// thread costs 30 to 60 microseconds, as much as many a job.
constexpr std::chrono::microseconds kSpin(100);

thread_local int thread_index = 0;

// Waits for `word` to differ from `old` -> its new value. Spins for a while first when `spin`.
uint32_t WaitChange(const std::atomic<uint32_t>& word, uint32_t old, bool spin) {
  uint32_t now = word.load(std::memory_order_acquire);
  if (now == old && spin) {
    const auto end = std::chrono::steady_clock::now() + kSpin;
    do {
      for (int i = 0; i < 32 && now == old; ++i) {
        _mm_pause();
        now = word.load(std::memory_order_acquire);
      }
    } while (now == old && std::chrono::steady_clock::now() < end);
  }
  while (now == old) {
    word.wait(old, std::memory_order_acquire);
    now = word.load(std::memory_order_acquire);
  }
  return now;
}
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

  void Work(int index) {
    SetComputeFloatMode();
    thread_index = index;
    uint32_t seen = 0;
    while (true) {
      seen = WaitChange(epoch, seen, spin);
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
  for (int i = 1; i < threads; ++i) state_->workers.emplace_back([s = state_.get(), i] { s->Work(i); });
}

ThreadPool::~ThreadPool() {
  state_->stop.store(true, std::memory_order_release);
  state_->epoch.fetch_add(1, std::memory_order_release);
  state_->epoch.notify_all();
  for (std::thread& t : state_->workers) t.join();
}

int ThreadPool::threads() const { return state_->threads; }
int ThreadPool::Index() { return thread_index; }

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
  while (g != 0) g = WaitChange(s.gate, g, s.spin);
}

}  // namespace pangea
