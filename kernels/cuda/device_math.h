// What several kernels share: lanes and their fixed order (docs/exactness.md, section 1), the text of exact_math.h, and
// numbers as they are stored.
#pragma once
#include PANGEA_CUDA_LAYER
#include "kernels/exact_math.h"
#include "kernels/reference/scalar.h"

namespace pangea::cuda {

using reference::F32;

inline constexpr float kMinusInfinity = -__builtin_huge_valf();
inline constexpr int kLanes = 16;  // of a row's sum; a warp holds two rows' lanes

PANGEA_DEVICE float ExpOf(float x) { return Exp(F32(x)).v; }
PANGEA_DEVICE float LogOf(float x) { return Log(F32(x)).v; }
// As maxps: the second when equal or unordered.
PANGEA_DEVICE float MaxOf(float a, float b) { return a > b ? a : b; }

// The fixed tree over 16 neighbouring lanes of a warp, 8+8, 4+4, 2+2, 1+1; every lane gets the sum. (An addition gives
// the same whichever side is first, so the lanes beyond each half compute what those below do.)
PANGEA_DEVICE float LaneSumOf(float v) {
  const int lane = static_cast<int>(ThreadIndex().x) % 32;
  for (int half = kLanes / 2; half > 0; half /= 2) v = v + Shuffle(v, lane ^ half);
  return v;
}
// As above for the largest; here the side matters for NaN, so all take lane 0's.
PANGEA_DEVICE float LaneMaxOf(float v) {
  const int lane = static_cast<int>(ThreadIndex().x) % 32;
  for (int half = kLanes / 2; half > 0; half /= 2) v = MaxOf(v, Shuffle(v, lane ^ half));
  return Shuffle(v, lane / kLanes * kLanes) + 0.0f;
}
// The largest of a warp.
PANGEA_DEVICE uint32_t WarpMax(uint32_t v) {
  const int lane = static_cast<int>(ThreadIndex().x) % 32;
  for (int half = 16; half > 0; half /= 2) {
    const uint32_t other = Shuffle(v, lane ^ half);
    v = other > v ? other : v;
  }
  return v;
}
PANGEA_DEVICE int WarpSum(int v) {
  const int lane = static_cast<int>(ThreadIndex().x) % 32;
  for (int half = 16; half > 0; half /= 2) v += Shuffle(v, lane ^ half);
  return v;
}

PANGEA_DEVICE uint32_t Bits(float f) { return __builtin_bit_cast(uint32_t, f); }
PANGEA_DEVICE float FromBits(uint32_t u) { return __builtin_bit_cast(float, u); }
PANGEA_DEVICE float NotANumber() { return FromBits(0x7fc00000u); }

// A scale by which numbers up to `amax` (its bits, without sign) become integers up to `top`, and its inverse
// (docs/activations.md): both 0 where all count as zero, the scale NaN where one is not finite.
struct Scales {
  float scale, inverse;
};
PANGEA_DEVICE Scales ScalesOf(uint32_t amax, float top) {
  if (amax >= 0x7f800000u) return {NotANumber(), 0};
  const float largest = FromBits(amax);
  if (largest < 0x1p-96f) return {0, 0};
  return {largest / top, top / largest};
}

PANGEA_DEVICE float LoadBf16(const void* p) { return Bf16ToF32(*static_cast<const uint16_t*>(p)); }
// A 256th of a number of E4M3 (half.h), which is not NaN.
PANGEA_DEVICE float LoadF8Of256(const std::byte* p) { return FromF16(F8AsF16(static_cast<uint8_t>(*p))); }
template <DType type>
PANGEA_DEVICE float LoadPlain(const std::byte* at, int64_t i) {
  if constexpr (type == DType::kF32) return reinterpret_cast<const float*>(at)[i];
  if constexpr (type == DType::kF16) return LoadF16(at + 2 * i);
  return LoadBf16(at + 2 * i);
}

PANGEA_DEVICE uint16_t RoundToHalf(float f, DType type) { return type == DType::kF16 ? F32ToF16(f) : F32ToBf16(f); }

// One group of 32 activations, one a lane of the warp, as product_quantised.cu reads it.
PANGEA_DEVICE void PackGroup(float v, const PackedRows& out, int64_t row, int group) {
  const int lane = static_cast<int>(ThreadIndex().x) % 32;
  const Scales s = ScalesOf(WarpMax(Bits(v) & 0x7fffffffu), out.wide ? 32639.0f : 127.0f);
  const int x = s.inverse == 0 ? 0 : RoundToInt(v * s.inverse);
  std::byte* const at = out.data + row * out.row_bytes;
  int8_t* const bytes = reinterpret_cast<int8_t*>(at) + 64 * group;
  if (out.wide) bytes[lane] = static_cast<int8_t>((x + 128) >> 8);
  bytes[32 + lane] = static_cast<int8_t>(x);
  const int upper = Shuffle(WarpSum(lane < 16 ? 0 : x), 0), all = WarpSum(x);
  if (lane != 0) return;
  reinterpret_cast<float*>(at + int64_t{64} * out.groups)[group] = s.scale;
  int32_t* const sums = reinterpret_cast<int32_t*>(at + int64_t{68} * out.groups) + 2 * group;
  sums[0] = all - upper;
  sums[1] = upper;
}

}  // namespace pangea::cuda
