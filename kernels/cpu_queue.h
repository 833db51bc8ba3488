// The CPU's queue, for the front ends of the ops: a pool of threads and the pieces of one instruction set.
#pragma once
#include "kernels/backend.h"
#include "kernels/queue.h"
#include "kernels/threads.h"

namespace pangea {

struct CpuQueue final : Queue {
  CpuQueue(int threads, Isa isa, bool spin) : pool(threads, spin), backend(BackendOf(isa)) {}
  void Finish() override {}
  void OnHost(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)>& f) override {
    pool.For(n, grain, f);
  }
  ThreadPool pool;
  const Backend& backend;
};

inline CpuQueue& Cpu(Queue& queue) { return static_cast<CpuQueue&>(queue); }

}  // namespace pangea
