// Integer dot products on AVX-512 VNNI. Activations are two int8 planes (docs/activations.md, variant B): for every
// weight line loaded, vpdpbusd with the high and with the low plane.
#pragma once
#include <cstddef>

#include "kernels/cpu/formats.h"
#include "kernels/cpu/vec.h"

namespace pangea::avx512 {

inline constexpr int kComputeRows = 8;  // rows of a tile that one kernel call holds in registers

// Bytes of integers a row and group in packed activations.
template <bool wide>
inline constexpr int kGroupInts = wide ? 64 : 32;

// x[0..31] of one row: high plane, low plane; 8 bit: one plane.
template <bool wide>
PANGEA_INLINE void StoreGroup(std::byte* to, I32 x0, I32 x1) {
  __m128i* out = reinterpret_cast<__m128i*>(to);
  if constexpr (wide) {
    const I32 half(128);
    _mm_storeu_si128(out, _mm512_cvtepi32_epi8(ShiftRightSigned<8>(AddInt(x0, half)).v));
    _mm_storeu_si128(out + 1, _mm512_cvtepi32_epi8(ShiftRightSigned<8>(AddInt(x1, half)).v));
    out += 2;
  }
  _mm_storeu_si128(out, _mm512_cvtepi32_epi8(x0.v));
  _mm_storeu_si128(out + 1, _mm512_cvtepi32_epi8(x1.v));
}

PANGEA_INLINE __m512i Quad(const std::byte* p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return _mm512_set1_epi32(four);
}

// Bits shift.. of every byte moved to bit 4.. (what else the bytes then hold is for a mask to take off).
template <int shift>
PANGEA_INLINE __m512i ToBit4(__m512i v) {
  if constexpr (shift < 4) return _mm512_slli_epi16(v, 4 - shift);
  return _mm512_srli_epi16(v, shift - 4);
}

// The 8 lines of a cell as unsigned bytes, made once for all rows of a tile: line j holds k 4j..4j+3 of 16 columns.
template <DType dtype>
struct Lines {
  static constexpr QuantFormat kRow = kFormat<dtype>;
  static constexpr int kHigh = kRow.bits - 4;  // bits above the lower four, of formats of less than 8
  __m512i line[8];

  PANGEA_INLINE explicit Lines(const std::byte* cell) {
    if constexpr (kRow.bits == 8) {
#pragma GCC unroll 8
      for (int j = 0; j < 8; ++j) line[j] = _mm512_loadu_si512(cell + 64 * j);
    } else {
      const __m512i low = _mm512_set1_epi8(15);
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        const __m512i both = _mm512_loadu_si512(cell + 64 * j);
        line[j] = _mm512_and_si512(both, low);
        line[j + 4] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
      }
      if constexpr (kHigh > 0) AddHighBits<0>(cell);
    }
  }

  template <int j>
  PANGEA_INLINE void AddHighBits(const std::byte* cell) {
    if constexpr (j < 8) {
      const __m512i plane = _mm512_loadu_si512(cell + 64 * (4 + j * kHigh / 8));
      const __m512i mask = _mm512_set1_epi8(((1 << kHigh) - 1) << 4);
      line[j] = _mm512_ternarylogic_epi32(line[j], ToBit4<j * kHigh % 8>(plane), mask, 0xF8);  // a | (b & c)
      AddHighBits<j + 1>(cell);
    }
  }

  // isum[r] = offset[r] + sum of packed weight * x over the run, for 16 columns. ints: row r at r * kGroupInts.
  template <int run, bool wide, int R>
  PANGEA_INLINE void Dot(const std::byte* ints, const int32_t* offset, I32* isum) const {
    constexpr int kQuads = kRow.run / 4;
    constexpr int kChains = R == 1 && kRow.runs() == 1 ? 2 : 1;  // a single row needs more of them, if not two runs
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const std::byte* x = ints + r * kGroupInts<wide> + run * kRow.run;
      __m512i high[kChains], low[kChains];
#pragma GCC unroll 2
      for (int c = 0; c < kChains; ++c) high[c] = low[c] = _mm512_setzero_si512();
      if constexpr (kRow.offset != 0) low[0] = _mm512_set1_epi32(offset[r]);
#pragma GCC unroll 8
      for (int j = 0; j < kQuads; ++j) {
        const __m512i w = line[run * kQuads + j];
        if constexpr (wide) high[j % kChains] = _mm512_dpbusd_epi32(high[j % kChains], w, Quad(x + 4 * j));
        low[j % kChains] = _mm512_dpbusd_epi32(low[j % kChains], w, Quad(x + (wide ? kQuantGroup : 0) + 4 * j));
      }
      if constexpr (kChains == 2) {
        low[0] = _mm512_add_epi32(low[0], low[1]);
        high[0] = _mm512_add_epi32(high[0], high[1]);
      }
      isum[r] = wide ? _mm512_add_epi32(_mm512_slli_epi32(high[0], 8), low[0]) : low[0];
    }
  }
};

}  // namespace pangea::avx512
