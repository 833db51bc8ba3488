// vec.h on AVX-512 (F, BW, VL, DQ).
#pragma once
#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/f8_halves.h"
#include "kernels/half.h"

namespace pangea::avx512 {

struct I32 {
  __m512i v;
  I32() = default;
  PANGEA_INLINE I32(__m512i x) : v(x) {}
  PANGEA_INLINE explicit I32(int32_t x) : v(_mm512_set1_epi32(x)) {}
};

struct F32 {
  using Int = I32;
  __m512 v;
  F32() = default;
  PANGEA_INLINE F32(__m512 x) : v(x) {}
  PANGEA_INLINE explicit F32(float x) : v(_mm512_set1_ps(x)) {}
};

struct Mask {
  __mmask16 v;
};

inline constexpr int kAccumulators = 16;  // registers that a tile of a product may use as accumulators
inline constexpr int kAttentionAccumulators = 24;
inline constexpr int kAttentionQueries = 12;

PANGEA_INLINE F32 Load(const float* p) { return _mm512_loadu_ps(p); }
PANGEA_INLINE void Store(float* p, F32 a) { _mm512_storeu_ps(p, a.v); }
PANGEA_INLINE Mask FirstN(int64_t n) { return {static_cast<__mmask16>((1u << n) - 1u)}; }  // n <= 16
PANGEA_INLINE F32 LoadPartial(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(FirstN(n).v, p); }
PANGEA_INLINE void StorePartial(float* p, F32 a, int64_t n) { _mm512_mask_storeu_ps(p, FirstN(n).v, a.v); }

PANGEA_INLINE F32 Add(F32 a, F32 b) { return _mm512_add_ps(a.v, b.v); }
PANGEA_INLINE F32 Sub(F32 a, F32 b) { return _mm512_sub_ps(a.v, b.v); }
PANGEA_INLINE F32 Mul(F32 a, F32 b) { return _mm512_mul_ps(a.v, b.v); }
PANGEA_INLINE F32 Div(F32 a, F32 b) { return _mm512_div_ps(a.v, b.v); }
PANGEA_INLINE F32 Fma(F32 a, F32 b, F32 c) { return _mm512_fmadd_ps(a.v, b.v, c.v); }
PANGEA_INLINE F32 Min(F32 a, F32 b) { return _mm512_min_ps(a.v, b.v); }
PANGEA_INLINE F32 Max(F32 a, F32 b) { return _mm512_max_ps(a.v, b.v); }
PANGEA_INLINE F32 RoundEven(F32 a) { return _mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
PANGEA_INLINE I32 ToInt(F32 a) { return _mm512_cvt_roundps_epi32(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
PANGEA_INLINE F32 ToFloat(I32 a) { return _mm512_cvtepi32_ps(a.v); }
PANGEA_INLINE F32 AsFloat(I32 a) { return _mm512_castsi512_ps(a.v); }
PANGEA_INLINE I32 AsInt(F32 a) { return _mm512_castps_si512(a.v); }

PANGEA_INLINE I32 LoadInt(const void* p) { return _mm512_loadu_si512(p); }
PANGEA_INLINE void StoreInt(void* p, I32 a) { _mm512_storeu_si512(p, a.v); }
PANGEA_INLINE I32 AddInt(I32 a, I32 b) { return _mm512_add_epi32(a.v, b.v); }
PANGEA_INLINE I32 SubInt(I32 a, I32 b) { return _mm512_sub_epi32(a.v, b.v); }
PANGEA_INLINE I32 AndInt(I32 a, I32 b) { return _mm512_and_si512(a.v, b.v); }
PANGEA_INLINE I32 OrInt(I32 a, I32 b) { return _mm512_or_si512(a.v, b.v); }
PANGEA_INLINE I32 XorInt(I32 a, I32 b) { return _mm512_xor_si512(a.v, b.v); }
PANGEA_INLINE I32 MaxInt(I32 a, I32 b) { return _mm512_max_epi32(a.v, b.v); }
// Unsigned products of 64 bits: b is the same in all lanes.
PANGEA_INLINE void MulWide(I32 a, I32 b, I32* high, I32* low) {
  const __m512i even = _mm512_mul_epu32(a.v, b.v);
  const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(a.v, 32), b.v);
  *high = _mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64(even, 32), odd);
  *low = _mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64(odd, 32));
}
// Each 128-bit lane is a 4 x 4 matrix over w[0..3]: transposed.
PANGEA_INLINE void TransposeQuads(I32* w) {
  const __m512i a = _mm512_unpacklo_epi32(w[0].v, w[1].v), b = _mm512_unpackhi_epi32(w[0].v, w[1].v);
  const __m512i c = _mm512_unpacklo_epi32(w[2].v, w[3].v), d = _mm512_unpackhi_epi32(w[2].v, w[3].v);
  w[0] = _mm512_unpacklo_epi64(a, c);
  w[1] = _mm512_unpackhi_epi64(a, c);
  w[2] = _mm512_unpacklo_epi64(b, d);
  w[3] = _mm512_unpackhi_epi64(b, d);
}
template <int n>
PANGEA_INLINE I32 ShiftLeft(I32 a) {
  return _mm512_slli_epi32(a.v, n);
}
template <int n>
PANGEA_INLINE I32 ShiftRight(I32 a) {
  return _mm512_srli_epi32(a.v, n);
}
template <int n>
PANGEA_INLINE I32 ShiftRightSigned(I32 a) {
  return _mm512_srai_epi32(a.v, n);
}
PANGEA_INLINE I32 Iota() { return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); }

PANGEA_INLINE F32 Neg(F32 a) { return AsFloat(XorInt(AsInt(a), I32(static_cast<int32_t>(0x80000000u)))); }
PANGEA_INLINE F32 Abs(F32 a) { return AsFloat(AndInt(AsInt(a), I32(0x7fffffff))); }
PANGEA_INLINE F32 CopySign(F32 a, F32 sign) {
  return AsFloat(OrInt(AsInt(Abs(a)), AndInt(AsInt(sign), I32(static_cast<int32_t>(0x80000000u)))));
}
PANGEA_INLINE Mask Less(F32 a, F32 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
PANGEA_INLINE Mask LessInt(I32 a, I32 b) { return {_mm512_cmplt_epi32_mask(a.v, b.v)}; }
PANGEA_INLINE F32 Select(Mask m, F32 yes, F32 no) { return _mm512_mask_blend_ps(m.v, no.v, yes.v); }
PANGEA_INLINE I32 SelectInt(Mask m, I32 yes, I32 no) { return _mm512_mask_blend_epi32(m.v, no.v, yes.v); }
PANGEA_INLINE bool Any(Mask m) { return m.v != 0; }

// Lanes 8+8, 4+4, 2+2, 1+1.
PANGEA_INLINE float First(F32 a) { return _mm512_cvtss_f32(a.v); }
PANGEA_INLINE float LaneSum(F32 a) {
  const __m256 b = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  const __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
  const __m128 d = _mm_add_ps(c, _mm_movehl_ps(c, c));
  return _mm_cvtss_f32(_mm_add_ss(d, _mm_movehdup_ps(d)));
}
PANGEA_INLINE float LaneMax(F32 a) {
  const __m256 b = _mm256_max_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  const __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
  const __m128 d = _mm_max_ps(c, _mm_movehl_ps(c, c));
  return _mm_cvtss_f32(_mm_max_ss(d, _mm_movehdup_ps(d))) + 0.0f;  // flushes a subnormal
}
PANGEA_INLINE int32_t LaneSumInt(I32 a) { return _mm512_reduce_add_epi32(a.v); }
PANGEA_INLINE int32_t LaneMaxInt(I32 a) { return _mm512_reduce_max_epi32(a.v); }

// 16 narrow elements widened.
PANGEA_INLINE F32 LoadF16(const void* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p))); }
PANGEA_INLINE I32 LoadU16(const void* p) {
  return _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
}
// Word i goes to the upper half of lane i: one permutation instead of a widening and a shift.
PANGEA_INLINE F32 LoadBf16(const void* p) {
  const __m512i narrow = _mm512_castsi256_si512(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
  return AsFloat(_mm512_maskz_permutexvar_epi16(0xAAAAAAAAu, ShiftLeft<16>(Iota()).v, narrow));
}
PANGEA_INLINE I32 LoadS8(const void* p) {
  return _mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
template <bool nan>
PANGEA_INLINE F32 LoadF8Of256(const void* p) {
  const __m256i half = F8AsHalves<nan>(p);
  return _mm512_cvtph_ps(half);
}
PANGEA_INLINE F32 LoadF16Partial(const void* p, int64_t n) {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(FirstN(n).v, p));
}
PANGEA_INLINE I32 LoadU16Partial(const void* p, int64_t n) {
  return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(FirstN(n).v, p));
}
PANGEA_INLINE I32 LoadS8Partial(const void* p, int64_t n) {
  return _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(FirstN(n).v, p));
}
PANGEA_INLINE void StoreF16(void* p, F32 a) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

// (a0 b0 a1 b1 …): neighbours swapped; the sign of even lanes flipped; each of 8 values twice.
PANGEA_INLINE F32 SwapPairs(F32 a) { return _mm512_permute_ps(a.v, 0xB1); }
PANGEA_INLINE F32 NegEven(F32 a) { return AsFloat(XorInt(AsInt(a), I32(_mm512_set1_epi64(0x80000000ll)))); }
PANGEA_INLINE F32 LoadTwice(const float* p) {
  const __m512i index = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  return _mm512_permutexvar_ps(index, _mm512_castps256_ps512(_mm256_loadu_ps(p)));
}

}  // namespace pangea::avx512
