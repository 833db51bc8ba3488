// What CUDA's kernels can do at most: a plan for such agents is refused beyond it. Constants alone.
#pragma once
#include <cstdint>

namespace pangea::cuda {

inline constexpr int kMostHeadDim = 256;
inline constexpr int kMostLeaves = 128;  // of one K-split product
// Of a row that a norm holds in shared memory, of which a block has 99 KiB on the smallest GPUs (compute capability
// 8.6, 8.9).
inline constexpr int64_t kMostHidden = 99 * 1024 / 4 - 16;

}  // namespace pangea::cuda
