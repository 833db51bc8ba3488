// Layout of KV extents and of attention partials, for the front end and the reference (cpu/ has its own typed view of
// the same).
#pragma once
#include "kernels/backend.h"
#include "kernels/half.h"

namespace pangea {

PANGEA_INLINE int64_t KvElementBytes(DType dtype) { return dtype == DType::kI8 || dtype == DType::kF8E4M3 ? 1 : 2; }

PANGEA_INLINE std::byte* KExtent(const KvLayer& kv, int kv_head, int64_t block) {
  return kv.base + kv_head * kv.head_stride + block * kv.block_stride;
}

// Offset in bytes of the f32 scales of an int8 extent.
PANGEA_INLINE int64_t KvScaleOffset(const KvLayer& kv) { return static_cast<int64_t>(kv.block_tokens) * kv.head_dim; }

}  // namespace pangea
