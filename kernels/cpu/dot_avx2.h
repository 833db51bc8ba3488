// Integer dot products on AVX2. vpmaddubsw saturates with these operands, so bytes are widened: of each 16-bit half the
// even byte and the odd byte meet the activations as int16 in the order k 0, 2, 1, 3 of every four
// (docs/activations.md, traps 7 and 8).
#pragma once
#include <cstddef>

#include "kernels/cpu/formats.h"
#include "kernels/cpu/vec.h"

namespace pangea::avx2 {

inline constexpr int kComputeRows = 4;

template <bool wide>
inline constexpr int kBlockInts = 64;

template <bool wide>
PANGEA_INLINE void StoreBlock(std::byte* to, I32 x0, I32 x1) {
  int32_t x[32];
  StoreInt(x, x0);
  StoreInt(x + 16, x1);
  int16_t out[32];
  for (int i = 0; i < 32; i += 4) {
    out[i] = static_cast<int16_t>(x[i]);
    out[i + 1] = static_cast<int16_t>(x[i + 2]);
    out[i + 2] = static_cast<int16_t>(x[i + 1]);
    out[i + 3] = static_cast<int16_t>(x[i + 3]);
  }
  __builtin_memcpy(to, out, 64);
}

PANGEA_INLINE __m256i Pair(const std::byte* p) {
  int32_t two;
  __builtin_memcpy(&two, p, 4);
  return _mm256_set1_epi32(two);
}

// Adds quad `quad` of every row, for 8 columns: even and odd are the bytes of a line as 16-bit numbers.
template <int R>
PANGEA_INLINE void AddQuad(__m256i even, __m256i odd, const std::byte* ints, int quad, __m256i* sum) {
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    const std::byte* x = ints + r * 64 + quad * 8;
    const __m256i a = _mm256_madd_epi16(even, Pair(x));
    const __m256i b = _mm256_madd_epi16(odd, Pair(x + 4));
    sum[r] = _mm256_add_epi32(sum[r], _mm256_add_epi32(a, b));
  }
}

template <Format format, int R>
PANGEA_INLINE void DotHalf(const std::byte* cell, const std::byte* ints, const int32_t* offset, __m256i* sum) {
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) sum[r] = format == Format::kQ41 ? _mm256_setzero_si256() : _mm256_set1_epi32(offset[r]);
  if constexpr (format == Format::kQ8) {
    const __m256i byte = _mm256_set1_epi16(0xff);
    for (int j = 0; j < 8; ++j) {
      const __m256i w = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(cell + 64 * j));
      AddQuad<R>(_mm256_and_si256(w, byte), _mm256_srli_epi16(w, 8), ints, j, sum);
    }
  } else {
    const __m256i nibble = _mm256_set1_epi16(15);
    for (int j = 0; j < 4; ++j) {
      const __m256i w = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(cell + 64 * j));
      AddQuad<R>(_mm256_and_si256(w, nibble), _mm256_and_si256(_mm256_srli_epi16(w, 8), nibble), ints, j, sum);
      AddQuad<R>(_mm256_and_si256(_mm256_srli_epi16(w, 4), nibble), _mm256_srli_epi16(w, 12), ints, j + 4, sum);
    }
  }
}

template <Format format, bool wide, int R>
PANGEA_INLINE void DotBlock(const std::byte* cell, const std::byte* ints, const int32_t* offset, I32* isum) {
  __m256i low[R], high[R];
  DotHalf<format, R>(cell, ints, offset, low);
  DotHalf<format, R>(cell + 32, ints, offset, high);
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) isum[r] = I32(low[r], high[r]);
}

}  // namespace pangea::avx2
