// Products of one to eight rows with weights of 16 bits, [n][k], whose sums may have any order (kernels.exact: false).
// They are bound by reading the weights, once: a warp has two columns, and its lanes have 16 bytes of each at a time.
#include "kernels/cuda/device_math.h"

namespace pangea::cuda {
namespace {

constexpr int kColumnsAWarp = 2;

// Eight numbers of 16 bits.
template <DType type>
PANGEA_DEVICE void Widen(const Int4& packed, float* to) {
  const int words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint32_t bits = static_cast<uint32_t>(words[i]);
    if constexpr (type == DType::kF16) {
      to[2 * i] = FromF16(static_cast<uint16_t>(bits));
      to[2 * i + 1] = FromF16(static_cast<uint16_t>(bits >> 16));
    } else {
      to[2 * i] = FromBits(bits << 16);
      to[2 * i + 1] = FromBits(bits & 0xffff0000u);
    }
  }
}

template <DType type, int rows>
PANGEA_DEVICE void FewRowsOf(const FewRowsArgs& a) {
  const int lane = static_cast<int>(ThreadIndex().x) % 32, warp = static_cast<int>(ThreadIndex().x) / 32;
  const int first = (static_cast<int>(BlockIndex().x) * 8 + warp) * kColumnsAWarp;
  const std::byte* w[kColumnsAWarp];
#pragma unroll
  for (int c = 0; c < kColumnsAWarp; ++c) w[c] = a.w + int64_t{first + c < a.n ? first + c : a.n - 1} * a.w_pitch;
  float f[kColumnsAWarp][rows] = {};
  const bool whole = a.k % 8 == 0;  // else the weights' rows are not aligned
  const int pieces = whole ? a.k / 8 : 0;
#pragma unroll 4
  for (int i = lane; i < pieces; i += 32) {
    float weight[kColumnsAWarp][8];
#pragma unroll
    for (int c = 0; c < kColumnsAWarp; ++c) Widen<type>(StreamInt4(w[c] + int64_t{i} * 16), weight[c]);
#pragma unroll
    for (int r = 0; r < rows; ++r) {
      float x[8];
      Widen<type>(LoadInt4(a.x + (r < a.m ? r : 0) * a.x_pitch + int64_t{i} * 16), x);
#pragma unroll
      for (int c = 0; c < kColumnsAWarp; ++c) {
#pragma unroll
        for (int e = 0; e < 8; ++e) f[c][r] = Fma(weight[c][e], x[e], f[c][r]);
      }
    }
  }
  for (int k = lane; k < a.k && !whole; k += 32) {
    for (int r = 0; r < rows; ++r) {
      const float x = LoadPlain<type>(a.x + (r < a.m ? r : 0) * a.x_pitch, k);
      for (int c = 0; c < kColumnsAWarp; ++c) f[c][r] = Fma(LoadPlain<type>(w[c], k), x, f[c][r]);
    }
  }
#pragma unroll
  for (int c = 0; c < kColumnsAWarp; ++c) {
#pragma unroll
    for (int r = 0; r < rows; ++r) {
      float sum = f[c][r];
      for (int half = 16; half > 0; half /= 2) sum = sum + Shuffle(sum, lane ^ half);
      if (lane != 0 || r >= a.m || first + c >= a.n) continue;
      a.y[r * a.ldy + first + c] = a.bias != nullptr ? sum + a.bias[first + c] : sum;
    }
  }
}

}  // namespace

// Grid: (columns / 16); eight warps.
PANGEA_KERNEL(FewRows1F16, FewRowsArgs, 256) { FewRowsOf<DType::kF16, 1>(a); }
PANGEA_KERNEL(FewRows2F16, FewRowsArgs, 256) { FewRowsOf<DType::kF16, 2>(a); }
PANGEA_KERNEL(FewRows4F16, FewRowsArgs, 256) { FewRowsOf<DType::kF16, 4>(a); }
PANGEA_KERNEL(FewRows8F16, FewRowsArgs, 256) { FewRowsOf<DType::kF16, 8>(a); }
PANGEA_KERNEL(FewRows1Bf16, FewRowsArgs, 256) { FewRowsOf<DType::kBF16, 1>(a); }
PANGEA_KERNEL(FewRows2Bf16, FewRowsArgs, 256) { FewRowsOf<DType::kBF16, 2>(a); }
PANGEA_KERNEL(FewRows4Bf16, FewRowsArgs, 256) { FewRowsOf<DType::kBF16, 4>(a); }
PANGEA_KERNEL(FewRows8Bf16, FewRowsArgs, 256) { FewRowsOf<DType::kBF16, 8>(a); }

}  // namespace pangea::cuda
