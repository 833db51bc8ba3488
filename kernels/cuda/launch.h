// What the words share when they launch kernels.
#pragma once
#include "kernels/cuda/args.h"
#include "kernels/ops.h"

namespace pangea::cuda {

// Into how many pieces of `size` n falls.
inline unsigned Pieces(int64_t n, int64_t size) { return static_cast<unsigned>((n + size - 1) / size); }

inline Pages PagesOf(const KvLayer& kv) {
  return {.base = kv.base,
          .head_stride = kv.head_stride,
          .block_stride = kv.block_stride,
          .v_offset = kv.v_offset,
          .kv_heads = kv.kv_heads,
          .head_dim = kv.head_dim,
          .block_tokens = kv.block_tokens,
          .dtype = kv.dtype};
}

}  // namespace pangea::cuda
