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
inline constexpr int kGroupInts = 64;

template <bool wide>
PANGEA_INLINE void StoreGroup(std::byte* to, I32 x0, I32 x1) {
  int32_t x[kQuantGroup];
  StoreInt(x, x0);
  StoreInt(x + 16, x1);
  int16_t out[kQuantGroup];
  for (int i = 0; i < kQuantGroup; i += 4) {
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

// The 8 lines of a cell, line j with k 4j..4j+3 of 16 columns; taken out of memory where they are used.
template <DType dtype>
struct Lines {
  static constexpr QuantFormat kRow = kFormat<dtype>;
  static constexpr int kHigh = kRow.bits - 4;  // bits above the lower four, of formats of less than 8
  const std::byte* cell;

  PANGEA_INLINE explicit Lines(const std::byte* c) : cell(c) {}

  // Line j for 8 columns: its even and its odd bytes as 16-bit numbers.
  template <int j>
  static PANGEA_INLINE void Load(const std::byte* half, __m256i* even, __m256i* odd) {
    constexpr int kStored = kRow.bits == 8 ? j : j % 4;
    const __m256i w = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(half + 64 * kStored));
    if constexpr (kRow.bits == 8) {
      *even = _mm256_and_si256(w, _mm256_set1_epi16(0xff));
      *odd = _mm256_srli_epi16(w, 8);
      return;
    }
    const __m256i nibble = _mm256_set1_epi16(15);
    *even = _mm256_and_si256(j < 4 ? w : _mm256_srli_epi16(w, 4), nibble);
    *odd = j < 4 ? _mm256_and_si256(_mm256_srli_epi16(w, 8), nibble) : _mm256_srli_epi16(w, 12);
    if constexpr (kRow.bits < 8 && kHigh > 0) {
      constexpr int kShift = j * kHigh % 8;
      const __m256i plane = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(half + 64 * (4 + j * kHigh / 8)));
      const __m256i mask = _mm256_set1_epi16(((1 << kHigh) - 1) << 4);
      const __m256i low = kShift < 4 ? _mm256_slli_epi16(plane, kShift < 4 ? 4 - kShift : 0)
                                     : _mm256_srli_epi16(plane, kShift < 4 ? 0 : kShift - 4);
      *even = _mm256_or_si256(*even, _mm256_and_si256(low, mask));
      *odd = _mm256_or_si256(*odd, _mm256_and_si256(_mm256_srli_epi16(plane, kShift + 4), mask));
    }
  }

  // Adds the quads from number i of the run on, for 8 columns. The two lines that share bytes follow each other.
  template <int run, int R, int i = 0>
  static PANGEA_INLINE void AddQuads(const std::byte* half, const std::byte* ints, __m256i* sum) {
    constexpr int kQuads = kRow.run / 4;
    if constexpr (i < kQuads) {
      constexpr int j = kRow.bits < 8 && kQuads == 8 ? i % 2 * 4 + i / 2 : run * kQuads + i;
      __m256i even, odd;
      Load<j>(half, &even, &odd);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const std::byte* x = ints + r * 64 + j * 8;
        const __m256i a = _mm256_madd_epi16(even, Pair(x));
        const __m256i b = _mm256_madd_epi16(odd, Pair(x + 4));
        sum[r] = _mm256_add_epi32(sum[r], _mm256_add_epi32(a, b));
      }
      AddQuads<run, R, i + 1>(half, ints, sum);
    }
  }

  // isum[r] = offset[r] + sum of packed weight * x over the run, for 16 columns. ints: row r at r * kGroupInts.
  template <int run, bool wide, int R>
  PANGEA_INLINE void Dot(const std::byte* ints, const int32_t* offset, I32* isum) const {
    __m256i low[R], high[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      low[r] = high[r] = kRow.offset == 0 ? _mm256_setzero_si256() : _mm256_set1_epi32(offset[r]);
    }
    AddQuads<run, R>(cell, ints, low);
    AddQuads<run, R>(cell + 32, ints, high);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) isum[r] = I32(low[r], high[r]);
  }
};

}  // namespace pangea::avx2
