// Products of one to eight rows with weights of 16 and 8 bits, [n][k], whose sums may have any order (kernels.exact:
// false), and weights of 8 bits made ready for a library's products of more rows.
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

// What the lanes of a warp came to, added up: columns from `first` on.
template <int rows>
PANGEA_DEVICE void StoreSums(const FewRowsArgs& a, int first, const float (&f)[kColumnsAWarp][rows]) {
  const int lane = static_cast<int>(ThreadIndex().x) % 32;
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
  StoreSums(a, first, f);
}

// Four numbers of E4M3, a 256th of each.
PANGEA_DEVICE void WidenF8Word(uint32_t word, float* to) {
#pragma unroll
  for (int i = 0; i < 4; ++i) to[i] = FromF16(F8AsF16(static_cast<uint8_t>(word >> 8 * i)));
}
PANGEA_DEVICE void WidenF8Sixteen(const Int4& packed, float* to) {
  WidenF8Word(static_cast<uint32_t>(packed.x), to);
  WidenF8Word(static_cast<uint32_t>(packed.y), to + 4);
  WidenF8Word(static_cast<uint32_t>(packed.z), to + 8);
  WidenF8Word(static_cast<uint32_t>(packed.w), to + 12);
}

// As FewRowsOf; sixteen numbers have one scale.
template <int rows>
PANGEA_DEVICE void FewRowsOfF8(const FewRowsArgs& a) {
  const int lane = static_cast<int>(ThreadIndex().x) % 32, warp = static_cast<int>(ThreadIndex().x) / 32;
  const int first = (static_cast<int>(BlockIndex().x) * 8 + warp) * kColumnsAWarp;
  const int runs = (a.k + kScaleRun - 1) / kScaleRun;
  const std::byte* w[kColumnsAWarp];
  const float* scales[kColumnsAWarp];
#pragma unroll
  for (int c = 0; c < kColumnsAWarp; ++c) {
    const int64_t column = first + c < a.n ? first + c : a.n - 1;
    w[c] = a.w + column * a.w_pitch;
    scales[c] = a.scales + column * runs;
  }
  float f[kColumnsAWarp][rows] = {};
  const bool whole = a.k % 16 == 0;  // else the weights' rows are not aligned
  const int pieces = whole ? a.k / 16 : 0;
#pragma unroll(rows <= 2 ? 2 : 1)
  for (int i = lane; i < pieces; i += 32) {
    float weight[kColumnsAWarp][16];
#pragma unroll
    for (int c = 0; c < kColumnsAWarp; ++c) WidenF8Sixteen(StreamInt4(w[c] + int64_t{i} * 16), weight[c]);
#pragma unroll
    for (int r = 0; r < rows; ++r) {
      const std::byte* const row = a.x + (r < a.m ? r : 0) * a.x_pitch + int64_t{i} * 32;
      float x[16];
      Widen<DType::kBF16>(LoadInt4(row), x);
      Widen<DType::kBF16>(LoadInt4(row + 16), x + 8);
#pragma unroll
      for (int c = 0; c < kColumnsAWarp; ++c) {
        float sum = 0;
#pragma unroll
        for (int e = 0; e < 16; ++e) sum = Fma(weight[c][e], x[e], sum);
        f[c][r] = Fma(sum, scales[c][i * 16 / kScaleRun], f[c][r]);
      }
    }
  }
  for (int k = lane; k < a.k && !whole; k += 32) {
    for (int r = 0; r < rows; ++r) {
      const float x = LoadPlain<DType::kBF16>(a.x + (r < a.m ? r : 0) * a.x_pitch, k);
      for (int c = 0; c < kColumnsAWarp; ++c)
        f[c][r] = Fma(LoadF8Of256(w[c] + k) * scales[c][k / kScaleRun], x, f[c][r]);
    }
  }
  StoreSums(a, first, f);
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
PANGEA_KERNEL(FewRows1F8, FewRowsArgs, 256) { FewRowsOfF8<1>(a); }
PANGEA_KERNEL(FewRows2F8, FewRowsArgs, 256) { FewRowsOfF8<2>(a); }
PANGEA_KERNEL(FewRows4F8, FewRowsArgs, 256) { FewRowsOfF8<4>(a); }
PANGEA_KERNEL(FewRows8F8, FewRowsArgs, 256) { FewRowsOfF8<8>(a); }

// A block a row.
PANGEA_KERNEL(WidenF8, WidenArgs, 256) {
  const int64_t row = BlockIndex().x;
  const std::byte* const from = a.w + row * a.k;
  const float* const scales = a.scales + row * ((a.k + kScaleRun - 1) / kScaleRun);
  uint16_t* const to = a.out + row * a.k;
  const int sixteens = a.k % 16 == 0 ? a.k / 16 : 0, threads = static_cast<int>(BlockThreads());
  for (int i = static_cast<int>(ThreadIndex().x); i < sixteens; i += threads) {
    const float scale = scales[i * 16 / kScaleRun];
    float weight[16];
    WidenF8Sixteen(StreamInt4(from + int64_t{i} * 16), weight);
    uint32_t halves[8];
#pragma unroll
    for (int e = 0; e < 8; ++e) halves[e] = Halves<DType::kBF16>(weight[2 * e] * scale, weight[2 * e + 1] * scale);
    const auto four = [&](int e) {
      return Int4{static_cast<int>(halves[e]), static_cast<int>(halves[e + 1]), static_cast<int>(halves[e + 2]),
                  static_cast<int>(halves[e + 3])};
    };
    StoreInt4(to + int64_t{i} * 16, four(0));
    StoreInt4(to + int64_t{i} * 16 + 8, four(4));
  }
  for (int k = static_cast<int>(ThreadIndex().x); k < a.k && sixteens == 0; k += threads)
    to[k] = F32ToBf16(LoadF8Of256(from + k) * scales[k / kScaleRun]);
}

}  // namespace pangea::cuda
