// The threads of one agent's kernels.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>

namespace pangea {

// Sets the floating-point mode that exactness is defined in (MXCSR 0x9FC0: FTZ, DAZ, round to nearest, all masked).
// Every thread that computes calls this at its start; ops CHECK it in debug builds.
void SetComputeFloatMode();
bool HasComputeFloatMode();

// A fixed set of threads. Not reentrant; one caller at a time (the executor thread), which works too as thread 0.
class ThreadPool {
 public:
  // threads >= 1, the caller included. spin: who waits, a worker for the next call or the caller for the end of this
  // one, spins for some microseconds before it sleeps on a futex (only where the host has a core for every agent
  // thread), otherwise it sleeps at once.
  explicit ThreadPool(int threads, bool spin = false);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  int threads() const;
  // Of the thread that asks, inside For: 0 is the caller's, the workers' are 1 to threads() - 1.
  static int Index();
  // Calls f(begin, end) on disjoint ranges that cover [0, n), each a multiple of `grain` long (the last may be short).
  // Returns when all are done. Which thread gets what must not matter to the result.
  void For(int64_t n, int64_t grain, const std::function<void(int64_t begin, int64_t end)>& f);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pangea
