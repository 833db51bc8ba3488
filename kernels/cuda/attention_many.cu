// Attention of many queries by the tensor cores that every GPU since Ampere has: each warp multiplies its 16 queries.
#include "kernels/cuda/attention_many.h"

namespace pangea::cuda {
namespace {

template <DType type>
struct ByWarps {
  PANGEA_DEVICE static void Ready() {}

  template <int D>
  PANGEA_DEVICE static void Scores(const KvTile<D>& tile, const uint32_t (&q)[D / 16][4], float (&s)[kTile / 8][4]) {
    const int lane = static_cast<int>(ThreadIndex().x) % 32;
#pragma unroll
    for (int part = 0; part < D / 16; ++part) {
#pragma unroll
      for (int pair = 0; pair < kTile / 16; ++pair) {
        uint32_t k[4];
        const int row = part * 16 + lane / 8 % 2 * 8 + lane % 8;
        LoadMatrices(k, Chunk(tile.k, row, pair * 2 + lane / 16));
        MultiplyAdd<type>(s[pair * 2], q[part], k);
        MultiplyAdd<type>(s[pair * 2 + 1], q[part], k + 2);
      }
    }
  }

  template <int D>
  PANGEA_DEVICE static void Values(const KvTile<D>& tile, const float (&s)[kTile / 8][4], float (&o)[D / 8][4]) {
    const int lane = static_cast<int>(ThreadIndex().x) % 32;
#pragma unroll
    for (int group = 0; group < kTile / 16; ++group) {
      uint32_t p[4];
      Probabilities<type>(s, group, p);
#pragma unroll
      for (int pair = 0; pair < D / 16; ++pair) {
        uint32_t v[4];
        const int row = group * 16 + lane / 8 % 2 * 8 + lane % 8;
        LoadMatrices(v, Chunk(tile.v, row, pair * 2 + lane / 16));
        MultiplyAdd<type>(o[pair * 2], p, v);
        MultiplyAdd<type>(o[pair * 2 + 1], p, v + 2);
      }
    }
  }
};

}  // namespace

// Grid: item. Shared: two tiles of keys and values. The number: elements of a head, at most.
PANGEA_KERNEL(AttentionMany64F16, AttentionKernelArgs, 128) {
  AttentionManyOf<ByWarps<DType::kF16>, DType::kF16, 64>(a);
}
PANGEA_KERNEL(AttentionMany64Bf16, AttentionKernelArgs, 128) {
  AttentionManyOf<ByWarps<DType::kBF16>, DType::kBF16, 64>(a);
}
PANGEA_KERNEL(AttentionMany128F16, AttentionKernelArgs, 128) {
  AttentionManyOf<ByWarps<DType::kF16>, DType::kF16, 128>(a);
}
PANGEA_KERNEL(AttentionMany128Bf16, AttentionKernelArgs, 128) {
  AttentionManyOf<ByWarps<DType::kBF16>, DType::kBF16, 128>(a);
}

}  // namespace pangea::cuda
