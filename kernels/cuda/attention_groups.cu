// Attention of many queries by the tensor cores of Hopper (sm_90a): the four warps of a block multiply together, the
// other side being read from shared memory as it lies there. Taken at kernels.fusion 3 where the device has them; the
// same numbers within the roundings of their sums as attention_many.cu.
#include "kernels/cuda/attention_many.h"

namespace pangea::cuda {
namespace {

template <DType type>
struct ByGroups {
  PANGEA_DEVICE static void Ready() { ShowToGroups(); }

  template <int D>
  PANGEA_DEVICE static void Scores(const KvTile<D>& tile, uint32_t (&q)[D / 16][4], float (&s)[kTile / 8][4]) {
    BeginGroup(s, q);
#pragma unroll
    for (int part = 0; part < D / 16; ++part)
      GroupMultiplyAdd<type, kTile>(s, q[part], {tile.k + part * 16 * 128, kTile * 128});
    EndGroup(s, q);
  }

  template <int D>
  PANGEA_DEVICE static void Values(const KvTile<D>& tile, const float (&s)[kTile / 8][4], float (&o)[D / 8][4]) {
    uint32_t p[kTile / 16][4];
#pragma unroll
    for (int group = 0; group < kTile / 16; ++group) Probabilities<type>(s, group, p[group]);
    BeginGroup(o, p);
#pragma unroll
    for (int group = 0; group < kTile / 16; ++group)
      GroupMultiplyAdd<type, D>(o, p[group], {tile.v + group * 16 * 128, kTile * 128});
    EndGroup(o, p);
  }
};

}  // namespace

// As attention_many.cu's.
PANGEA_KERNEL(AttentionGroups64F16, AttentionKernelArgs, 128) {
  AttentionManyOf<ByGroups<DType::kF16>, DType::kF16, 64>(a);
}
PANGEA_KERNEL(AttentionGroups64Bf16, AttentionKernelArgs, 128) {
  AttentionManyOf<ByGroups<DType::kBF16>, DType::kBF16, 64>(a);
}
PANGEA_KERNEL(AttentionGroups128F16, AttentionKernelArgs, 128) {
  AttentionManyOf<ByGroups<DType::kF16>, DType::kF16, 128>(a);
}
PANGEA_KERNEL(AttentionGroups128Bf16, AttentionKernelArgs, 128) {
  AttentionManyOf<ByGroups<DType::kBF16>, DType::kBF16, 128>(a);
}

}  // namespace pangea::cuda
