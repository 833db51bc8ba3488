// The CPU's queue, for the front ends of the ops: a pool of threads and the pieces of one instruction set.
#pragma once
#include <utility>
#include <vector>

#include "kernels/backend.h"
#include "kernels/device_ops.h"
#include "kernels/queue.h"
#include "kernels/threads.h"
#include "kernels/weight.h"

namespace pangea {

inline constexpr int64_t kGrainElements = 16 * 1024;  // below this another thread is not worth waking

struct CpuQueue final : Queue {
  CpuQueue(int threads, Isa isa, bool spin, int fusion)
      : Queue(on_cpu::kOps, isa), pool(threads, spin), backend(BackendOf(isa)), fusion(fusion), scratch(threads) {}
  void Finish() override {}
  void OnHost(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)>& f) override {
    pool.For(n, grain, f);
  }
  DeviceMemory Allocate(int64_t bytes) override;
  bool host_memory() const override { return true; }
  void Upload(void* to, const void* from, int64_t bytes) override;
  void Download(void* to, const void* from, int64_t bytes) override { Upload(to, from, bytes); }
  // At least so many bytes of the pool's thread that asks, kept from call to call. What is in them is nobody's.
  std::byte* Scratch(int64_t bytes) {
    auto& [memory, held] = scratch[ThreadPool::Index()];
    if (held < bytes) memory = AllocateAligned(held = bytes);
    return memory.get();
  }
  ThreadPool pool;
  const Backend& backend;
  const int fusion;

 private:
  std::vector<std::pair<AlignedBytes, int64_t>> scratch;  // [thread]
};

// Sets out what PackActivations does, and notes it in *out; the rows may then be packed in runs of whole tiles.
PackArgs PackInto(const Rows& x, const Weight& w, ActivationBits bits, PackedActivations* out, CpuQueue& cpu);

inline CpuQueue& Cpu(Queue& queue) { return static_cast<CpuQueue&>(queue); }

}  // namespace pangea
