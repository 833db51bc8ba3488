// Queues of CUDA devices.
#pragma once
#include <memory>
#include <string>

#include "kernels/cuda/device.h"
#include "kernels/queue.h"

namespace pangea {

// CUDA's kernels on the host: the same text, threads as fibers. threads: of the host's own part of the work.
std::unique_ptr<Queue> MakeCudaOnCpuQueue(int threads, const cuda::FiberOptions& options = {});
struct GpuQueue {
  std::unique_ptr<Queue> queue;  // null: the GPU cannot be had
  std::string name;
  int64_t free_bytes = 0;  // that the queue may still allocate
};
// GPU number `ordinal` of this host; or a sentence in *why. library: of the driver, as OpenGpu's.
GpuQueue MakeCudaQueue(int threads, int ordinal, std::string* why, const std::string& library = "");
int64_t CudaBytes(const Queue& queue);  // of the device's memory that is allocated; of either queue

}  // namespace pangea
