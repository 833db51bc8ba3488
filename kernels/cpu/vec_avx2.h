// vec.h on AVX2, FMA and F16C: two registers of 8 lanes.
#pragma once
#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/f8_halves.h"
#include "kernels/half.h"

namespace pangea::avx2 {

struct I32 {
  __m256i lo, hi;
  I32() = default;
  PANGEA_INLINE I32(__m256i l, __m256i h) : lo(l), hi(h) {}
  PANGEA_INLINE explicit I32(int32_t x) : lo(_mm256_set1_epi32(x)), hi(lo) {}
};

struct F32 {
  using Int = I32;
  __m256 lo, hi;
  F32() = default;
  PANGEA_INLINE F32(__m256 l, __m256 h) : lo(l), hi(h) {}
  PANGEA_INLINE explicit F32(float x) : lo(_mm256_set1_ps(x)), hi(lo) {}
};

struct Mask {
  __m256 lo, hi;
};

inline constexpr int kAccumulators = 4;  // of two registers each
inline constexpr int kAttentionAccumulators = 4;
inline constexpr int kAttentionQueries = 4;

PANGEA_INLINE F32 Load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
PANGEA_INLINE void Store(float* p, F32 a) {
  _mm256_storeu_ps(p, a.lo);
  _mm256_storeu_ps(p + 8, a.hi);
}
PANGEA_INLINE I32 Iota() {
  return {_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15)};
}
PANGEA_INLINE Mask LessInt(I32 a, I32 b) {
  return {_mm256_castsi256_ps(_mm256_cmpgt_epi32(b.lo, a.lo)), _mm256_castsi256_ps(_mm256_cmpgt_epi32(b.hi, a.hi))};
}
PANGEA_INLINE Mask FirstN(int64_t n) { return LessInt(Iota(), I32(static_cast<int32_t>(n))); }
PANGEA_INLINE F32 LoadPartial(const float* p, int64_t n) {
  const Mask m = FirstN(n);
  return {_mm256_maskload_ps(p, _mm256_castps_si256(m.lo)), _mm256_maskload_ps(p + 8, _mm256_castps_si256(m.hi))};
}
PANGEA_INLINE void StorePartial(float* p, F32 a, int64_t n) {
  const Mask m = FirstN(n);
  _mm256_maskstore_ps(p, _mm256_castps_si256(m.lo), a.lo);
  _mm256_maskstore_ps(p + 8, _mm256_castps_si256(m.hi), a.hi);
}

PANGEA_INLINE F32 Add(F32 a, F32 b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
PANGEA_INLINE F32 Sub(F32 a, F32 b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
PANGEA_INLINE F32 Mul(F32 a, F32 b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
PANGEA_INLINE F32 Div(F32 a, F32 b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
PANGEA_INLINE F32 Fma(F32 a, F32 b, F32 c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
PANGEA_INLINE F32 Min(F32 a, F32 b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
PANGEA_INLINE F32 Max(F32 a, F32 b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
PANGEA_INLINE F32 RoundEven(F32 a) {
  return {_mm256_round_ps(a.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
          _mm256_round_ps(a.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
// By MXCSR, which every compute thread has at nearest even.
PANGEA_INLINE I32 ToInt(F32 a) { return {_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi)}; }
PANGEA_INLINE F32 ToFloat(I32 a) { return {_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)}; }
PANGEA_INLINE F32 AsFloat(I32 a) { return {_mm256_castsi256_ps(a.lo), _mm256_castsi256_ps(a.hi)}; }
PANGEA_INLINE I32 AsInt(F32 a) { return {_mm256_castps_si256(a.lo), _mm256_castps_si256(a.hi)}; }

PANGEA_INLINE I32 LoadInt(const void* p) {
  const __m256i* q = static_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1)};
}
PANGEA_INLINE void StoreInt(void* p, I32 a) {
  __m256i* q = static_cast<__m256i*>(p);
  _mm256_storeu_si256(q, a.lo);
  _mm256_storeu_si256(q + 1, a.hi);
}
PANGEA_INLINE I32 AddInt(I32 a, I32 b) { return {_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)}; }
PANGEA_INLINE I32 SubInt(I32 a, I32 b) { return {_mm256_sub_epi32(a.lo, b.lo), _mm256_sub_epi32(a.hi, b.hi)}; }
PANGEA_INLINE I32 AndInt(I32 a, I32 b) { return {_mm256_and_si256(a.lo, b.lo), _mm256_and_si256(a.hi, b.hi)}; }
PANGEA_INLINE I32 OrInt(I32 a, I32 b) { return {_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)}; }
PANGEA_INLINE I32 XorInt(I32 a, I32 b) { return {_mm256_xor_si256(a.lo, b.lo), _mm256_xor_si256(a.hi, b.hi)}; }
PANGEA_INLINE I32 MaxInt(I32 a, I32 b) { return {_mm256_max_epi32(a.lo, b.lo), _mm256_max_epi32(a.hi, b.hi)}; }
// Unsigned products of 64 bits: b is the same in all lanes.
PANGEA_INLINE void MulWide8(__m256i a, __m256i b, __m256i* high, __m256i* low) {
  const __m256i even = _mm256_mul_epu32(a, b);
  const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), b);
  *high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
  *low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
}
PANGEA_INLINE void MulWide(I32 a, I32 b, I32* high, I32* low) {
  MulWide8(a.lo, b.lo, &high->lo, &low->lo);
  MulWide8(a.hi, b.hi, &high->hi, &low->hi);
}
// Each 128-bit lane is a 4 x 4 matrix over w[0..3]: transposed.
PANGEA_INLINE void TransposeQuads8(__m256i& w0, __m256i& w1, __m256i& w2, __m256i& w3) {
  const __m256i a = _mm256_unpacklo_epi32(w0, w1), b = _mm256_unpackhi_epi32(w0, w1);
  const __m256i c = _mm256_unpacklo_epi32(w2, w3), d = _mm256_unpackhi_epi32(w2, w3);
  w0 = _mm256_unpacklo_epi64(a, c);
  w1 = _mm256_unpackhi_epi64(a, c);
  w2 = _mm256_unpacklo_epi64(b, d);
  w3 = _mm256_unpackhi_epi64(b, d);
}
PANGEA_INLINE void TransposeQuads(I32* w) {
  TransposeQuads8(w[0].lo, w[1].lo, w[2].lo, w[3].lo);
  TransposeQuads8(w[0].hi, w[1].hi, w[2].hi, w[3].hi);
}
template <int n>
PANGEA_INLINE I32 ShiftLeft(I32 a) {
  return {_mm256_slli_epi32(a.lo, n), _mm256_slli_epi32(a.hi, n)};
}
template <int n>
PANGEA_INLINE I32 ShiftRight(I32 a) {
  return {_mm256_srli_epi32(a.lo, n), _mm256_srli_epi32(a.hi, n)};
}
template <int n>
PANGEA_INLINE I32 ShiftRightSigned(I32 a) {
  return {_mm256_srai_epi32(a.lo, n), _mm256_srai_epi32(a.hi, n)};
}

PANGEA_INLINE F32 Neg(F32 a) { return AsFloat(XorInt(AsInt(a), I32(static_cast<int32_t>(0x80000000u)))); }
PANGEA_INLINE F32 Abs(F32 a) { return AsFloat(AndInt(AsInt(a), I32(0x7fffffff))); }
PANGEA_INLINE F32 CopySign(F32 a, F32 sign) {
  return AsFloat(OrInt(AsInt(Abs(a)), AndInt(AsInt(sign), I32(static_cast<int32_t>(0x80000000u)))));
}
PANGEA_INLINE Mask Less(F32 a, F32 b) {
  return {_mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ)};
}
PANGEA_INLINE F32 Select(Mask m, F32 yes, F32 no) {
  return {_mm256_blendv_ps(no.lo, yes.lo, m.lo), _mm256_blendv_ps(no.hi, yes.hi, m.hi)};
}
PANGEA_INLINE I32 SelectInt(Mask m, I32 yes, I32 no) { return AsInt(Select(m, AsFloat(yes), AsFloat(no))); }
PANGEA_INLINE bool Any(Mask m) { return _mm256_movemask_ps(_mm256_or_ps(m.lo, m.hi)) != 0; }

// Lanes 8+8, 4+4, 2+2, 1+1.
PANGEA_INLINE float First(F32 a) { return _mm256_cvtss_f32(a.lo); }
PANGEA_INLINE float LaneSum(F32 a) {
  const __m256 b = _mm256_add_ps(a.lo, a.hi);
  const __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
  const __m128 d = _mm_add_ps(c, _mm_movehl_ps(c, c));
  return _mm_cvtss_f32(_mm_add_ss(d, _mm_movehdup_ps(d)));
}
PANGEA_INLINE float LaneMax(F32 a) {
  const __m256 b = _mm256_max_ps(a.lo, a.hi);
  const __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
  const __m128 d = _mm_max_ps(c, _mm_movehl_ps(c, c));
  return _mm_cvtss_f32(_mm_max_ss(d, _mm_movehdup_ps(d))) + 0.0f;  // flushes a subnormal
}
PANGEA_INLINE int32_t LaneSumInt(I32 a) {
  const __m256i b = _mm256_add_epi32(a.lo, a.hi);
  const __m128i c = _mm_add_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
  const __m128i d = _mm_add_epi32(c, _mm_shuffle_epi32(c, 0x4E));
  return _mm_cvtsi128_si32(_mm_add_epi32(d, _mm_shuffle_epi32(d, 0xB1)));
}
PANGEA_INLINE int32_t LaneMaxInt(I32 a) {
  const __m256i b = _mm256_max_epi32(a.lo, a.hi);
  const __m128i c = _mm_max_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
  const __m128i d = _mm_max_epi32(c, _mm_shuffle_epi32(c, 0x4E));
  return _mm_cvtsi128_si32(_mm_max_epi32(d, _mm_shuffle_epi32(d, 0xB1)));
}

// 16 narrow elements widened.
PANGEA_INLINE F32 LoadF16(const void* p) {
  const __m128i* q = static_cast<const __m128i*>(p);
  return {_mm256_cvtph_ps(_mm_loadu_si128(q)), _mm256_cvtph_ps(_mm_loadu_si128(q + 1))};
}
PANGEA_INLINE I32 LoadU16(const void* p) {
  const __m128i* q = static_cast<const __m128i*>(p);
  return {_mm256_cvtepu16_epi32(_mm_loadu_si128(q)), _mm256_cvtepu16_epi32(_mm_loadu_si128(q + 1))};
}
PANGEA_INLINE F32 LoadBf16(const void* p) { return AsFloat(ShiftLeft<16>(LoadU16(p))); }
PANGEA_INLINE I32 LoadS8(const void* p) {
  const __m128i q = _mm_loadu_si128(static_cast<const __m128i*>(p));
  return {_mm256_cvtepi8_epi32(q), _mm256_cvtepi8_epi32(_mm_srli_si128(q, 8))};
}
template <bool nan>
PANGEA_INLINE F32 LoadF8Of256(const void* p) {
  const __m256i half = F8AsHalves<nan>(p);
  return {_mm256_cvtph_ps(_mm256_castsi256_si128(half)), _mm256_cvtph_ps(_mm256_extracti128_si256(half, 1))};
}
// There is no masked load of narrow elements: through memory, zeros behind.
template <int bytes>
struct Narrow {
  alignas(32) unsigned char v[16 * bytes];
  PANGEA_INLINE Narrow(const void* p, int64_t n) {
    __builtin_memset(v, 0, sizeof(v));
    __builtin_memcpy(v, p, static_cast<uint64_t>(n * bytes));
  }
};
PANGEA_INLINE F32 LoadF16Partial(const void* p, int64_t n) { return LoadF16(Narrow<2>(p, n).v); }
PANGEA_INLINE I32 LoadU16Partial(const void* p, int64_t n) { return LoadU16(Narrow<2>(p, n).v); }
PANGEA_INLINE I32 LoadS8Partial(const void* p, int64_t n) { return LoadS8(Narrow<1>(p, n).v); }
PANGEA_INLINE void StoreF16(void* p, F32 a) {
  __m128i* q = static_cast<__m128i*>(p);
  _mm_storeu_si128(q, _mm256_cvtps_ph(a.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  _mm_storeu_si128(q + 1, _mm256_cvtps_ph(a.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

// (a0 b0 a1 b1 …): neighbours swapped; the sign of even lanes flipped; each of 8 values twice.
PANGEA_INLINE F32 SwapPairs(F32 a) { return {_mm256_permute_ps(a.lo, 0xB1), _mm256_permute_ps(a.hi, 0xB1)}; }
PANGEA_INLINE F32 NegEven(F32 a) {
  const __m256i sign = _mm256_set1_epi64x(0x80000000ll);
  return AsFloat(XorInt(AsInt(a), I32(sign, sign)));
}
PANGEA_INLINE F32 LoadTwice(const float* p) {
  const __m256 x = _mm256_loadu_ps(p);
  return {_mm256_permutevar8x32_ps(x, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3)),
          _mm256_permutevar8x32_ps(x, _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7))};
}

}  // namespace pangea::avx2
