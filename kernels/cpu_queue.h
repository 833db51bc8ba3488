// The CPU's queue, for the front ends of the ops: a pool of threads and the pieces of one instruction set.
#pragma once
#include "kernels/backend.h"
#include "kernels/device_ops.h"
#include "kernels/queue.h"
#include "kernels/threads.h"

namespace pangea {

inline constexpr int64_t kGrainElements = 16 * 1024;  // below this another thread is not worth waking

struct CpuQueue final : Queue {
  CpuQueue(int threads, Isa isa, bool spin, int fusion)
      : Queue(on_cpu::kOps, isa), pool(threads, spin), backend(BackendOf(isa)), fusion(fusion) {}
  void Finish() override {}
  void OnHost(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)>& f) override {
    pool.For(n, grain, f);
  }
  DeviceMemory Allocate(int64_t bytes) override;
  bool host_memory() const override { return true; }
  void Upload(void* to, const void* from, int64_t bytes) override;
  void Download(void* to, const void* from, int64_t bytes) override { Upload(to, from, bytes); }
  ThreadPool pool;
  const Backend& backend;
  const int fusion;
};

// Sets out what PackActivations does, and notes it in *out; the rows may then be packed in runs of whole tiles.
PackArgs PackInto(const Rows& x, const Weight& w, ActivationBits bits, PackedActivations* out, CpuQueue& cpu);

inline CpuQueue& Cpu(Queue& queue) { return static_cast<CpuQueue&>(queue); }

}  // namespace pangea
