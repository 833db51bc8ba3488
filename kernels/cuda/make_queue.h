// Queues of CUDA devices.
#pragma once
#include <memory>
#include <string>

#include "kernels/cuda/device.h"
#include "kernels/queue.h"

namespace pangea {

struct CudaOptions {
  int threads = 1;          // of the host's own part of the work
  bool exact = true;        // products add in the one order of docs/exactness.md
  int fusion = kMaxFusion;  // 0: every op of a word is a launch of its own; the same bytes
};

// CUDA's kernels on the host: the same text, threads as fibers.
std::unique_ptr<Queue> MakeCudaOnCpuQueue(const CudaOptions& options, const cuda::FiberOptions& fibers = {});
struct GpuQueue {
  std::unique_ptr<Queue> queue;  // null: the GPU cannot be had
  std::string name;
  int64_t free_bytes = 0;  // that the queue may still allocate
};
// GPU number `ordinal` of this host; or a sentence in *why. library: of the driver, as OpenGpu's.
GpuQueue MakeCudaQueue(const CudaOptions& options, int ordinal, std::string* why, const std::string& library = "");
int64_t CudaLaunches(const Queue& queue);  // of kernels, so far
int64_t CudaPlays(const Queue& queue);     // of steps that were done as a graph, so far
double CudaReadBandwidth(Queue& queue);    // bytes a second, by a kernel that does nothing else
double CudaMatrixRate(Queue& queue);       // operations a second of a library's large bf16 product; 0 where it is exact
int64_t CudaBytes(const Queue& queue);     // of the device's memory that is allocated; of either queue

}  // namespace pangea
