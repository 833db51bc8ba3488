// Where a test runs CUDA's kernels: on fibers in each order, and on a GPU where there is one.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/make_queue.h"

namespace pangea {

struct CudaKind {
  const char* name;
  bool gpu;
  cuda::fibers::Order order;
  bool groups = false;  // multiplies as Hopper does
  int fusion = kMaxFusion;

  std::unique_ptr<Queue> Make(CudaOptions options, uint32_t seed) const {
    std::string why;
    options.fusion = fusion;
    return gpu ? MakeCudaQueue(options, 0, &why).queue : MakeCudaOnCpuQueue(options, {order, seed, groups});
  }
};

inline std::vector<CudaKind> CudaKinds(const CudaOptions& options) {
  using cuda::fibers::Order;
  std::vector<CudaKind> kinds = {{"cuda_on_cpu_forward", false, Order::kForward},
                                 {"cuda_on_cpu_reverse", false, Order::kReverse},
                                 {"cuda_on_cpu_shuffled", false, Order::kShuffled}};
  if (!options.exact) kinds.push_back({"cuda_on_cpu_groups", false, Order::kShuffled, true});
  const CudaKind gpu{"cuda", true, Order::kForward};
  if (gpu.Make(options, 0) == nullptr) return kinds;
  kinds.push_back(gpu);
  // Where a GPU multiplies in groups, it does not at this level.
  if (!options.exact) kinds.push_back({"cuda_by_warps", true, Order::kForward, false, kMaxFusion - 1});
  return kinds;
}

}  // namespace pangea
