// Where the work of one agent is put, in order: every op of ops.h takes a queue. On the CPU it is a pool of threads and
// the ops of one instruction set, and work is done when the call returns. A device may take work and return at once;
// Finish() waits for it, and the host may read what an op wrote only after it.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>

#include "kernels/isa.h"

namespace pangea {

// One caller at a time: the agent's executor thread, or whoever loads its weights before.
class Queue {
 public:
  virtual ~Queue() = default;
  // Waits until all that was put here is done.
  virtual void Finish() = 0;
  // Work of the host itself beside the device's, on the agent's threads: after Finish(), f(begin, end) on disjoint
  // ranges that cover [0, n), each a multiple of `grain` long but for the last. Returns when all are done.
  virtual void OnHost(int64_t n, int64_t grain, const std::function<void(int64_t begin, int64_t end)>& f) = 0;
};

// threads, spin: as ThreadPool's (threads.h). The calling thread takes part, and computes in the float mode of
// exactness from now on. REQUIRES isa <= BestIsa().
std::unique_ptr<Queue> MakeCpuQueue(int threads, Isa isa, bool spin = false);

}  // namespace pangea
