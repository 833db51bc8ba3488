// The lane type of the reference and of CUDA's threads: one float. Same functions as the vector classes of cpu/, so
// that exact_math.h serves all.
#pragma once
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/half.h"

namespace pangea::reference {

struct I32 {
  int32_t v;
  PANGEA_INLINE explicit I32(int32_t x) : v(x) {}
};

struct F32 {
  using Int = I32;
  float v;
  PANGEA_INLINE explicit F32(float x) : v(x) {}
};

PANGEA_INLINE F32 Add(F32 a, F32 b) { return F32(a.v + b.v); }
PANGEA_INLINE F32 Sub(F32 a, F32 b) { return F32(a.v - b.v); }
PANGEA_INLINE F32 Mul(F32 a, F32 b) { return F32(a.v * b.v); }
PANGEA_INLINE F32 Div(F32 a, F32 b) { return F32(a.v / b.v); }
PANGEA_INLINE F32 Fma(F32 a, F32 b, F32 c) { return F32(std::fmaf(a.v, b.v, c.v)); }
// As minps and maxps: the second operand when equal or unordered.
PANGEA_INLINE F32 Min(F32 a, F32 b) { return a.v < b.v ? a : b; }
PANGEA_INLINE F32 Max(F32 a, F32 b) { return a.v > b.v ? a : b; }
PANGEA_INLINE F32 AsFloat(I32 a) { return F32(__builtin_bit_cast(float, a.v)); }
PANGEA_INLINE I32 AsInt(F32 a) { return I32(__builtin_bit_cast(int32_t, a.v)); }
PANGEA_INLINE F32 Neg(F32 a) {
  return AsFloat(I32(static_cast<int32_t>(static_cast<uint32_t>(AsInt(a).v) ^ 0x80000000u)));
}
PANGEA_INLINE F32 Abs(F32 a) { return AsFloat(I32(AsInt(a).v & 0x7fffffff)); }
PANGEA_INLINE F32 CopySign(F32 a, F32 sign) {
  return AsFloat(I32(static_cast<int32_t>((static_cast<uint32_t>(AsInt(a).v) & 0x7fffffffu) |
                                          (static_cast<uint32_t>(AsInt(sign).v) & 0x80000000u))));
}
PANGEA_INLINE bool Less(F32 a, F32 b) { return a.v < b.v; }
PANGEA_INLINE F32 Select(bool m, F32 yes, F32 no) { return m ? yes : no; }
PANGEA_INLINE F32 RoundEven(F32 a) { return F32(std::nearbyintf(a.v)); }
// cvtps2dq: what does not fit gives the smallest integer.
PANGEA_INLINE I32 ToInt(F32 a) {
  return I32(a.v >= -2147483648.0f && a.v < 2147483648.0f ? static_cast<int32_t>(std::lrintf(a.v))
                                                          : std::numeric_limits<int32_t>::min());
}
PANGEA_INLINE F32 ToFloat(I32 a) { return F32(static_cast<float>(a.v)); }
PANGEA_INLINE I32 AddInt(I32 a, I32 b) {
  return I32(static_cast<int32_t>(static_cast<uint32_t>(a.v) + static_cast<uint32_t>(b.v)));
}
PANGEA_INLINE I32 SubInt(I32 a, I32 b) {
  return I32(static_cast<int32_t>(static_cast<uint32_t>(a.v) - static_cast<uint32_t>(b.v)));
}
PANGEA_INLINE I32 AndInt(I32 a, I32 b) { return I32(a.v & b.v); }
template <int n>
PANGEA_INLINE I32 ShiftLeft(I32 a) {
  return I32(static_cast<int32_t>(static_cast<uint32_t>(a.v) << n));
}
template <int n>
PANGEA_INLINE I32 ShiftRightSigned(I32 a) {
  return I32(a.v >> n);
}

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), one counter at a time.
struct PhiloxWords {
  uint32_t word[4];
};
PANGEA_INLINE PhiloxWords Philox(PhiloxWords counter, uint64_t key) {
  uint32_t key0 = static_cast<uint32_t>(key), key1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = 0xD2511F53ull * counter.word[0], b = 0xCD9E8D57ull * counter.word[2];
    counter = {{static_cast<uint32_t>(b >> 32) ^ counter.word[1] ^ key0, static_cast<uint32_t>(b),
                static_cast<uint32_t>(a >> 32) ^ counter.word[3] ^ key1, static_cast<uint32_t>(a)}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

// Sum of 16 lanes in the fixed order: 8+8, 4+4, 2+2, 1+1.
inline float LaneSum(const float* lanes) {
  float s[16];
  for (int i = 0; i < 16; ++i) s[i] = lanes[i];
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) s[i] = s[i] + s[i + half];
  }
  return s[0];
}

// Largest of n, lane i % 16 first, then the same tree (the order shows only in the sign of a zero and in NaN).
inline F32 LaneMax(const float* x, int64_t n) {
  float lanes[16];
  for (float& lane : lanes) lane = -std::numeric_limits<float>::infinity();
  for (int64_t i = 0; i < n; ++i) lanes[i % 16] = Max(F32(lanes[i % 16]), F32(x[i])).v;
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] = Max(F32(lanes[i]), F32(lanes[i + half])).v;
  }
  return F32(lanes[0] + 0.0f);  // flushes a subnormal, which max may or may not hand through
}

}  // namespace pangea::reference
