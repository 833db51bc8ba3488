// Integer dot products on AVX-512 VNNI. Activations are two int8 planes (docs/activations.md, variant B): for every
// weight line loaded, vpdpbusd with the high and with the low plane.
#pragma once
#include <cstddef>

#include "kernels/cpu/formats.h"
#include "kernels/cpu/vec.h"

namespace pangea::avx512 {

inline constexpr int kComputeRows = 8;  // rows of a tile that one kernel call holds in registers

// Bytes of integers a row and block of 32 in packed activations.
template <bool wide>
inline constexpr int kBlockInts = wide ? 64 : 32;

// x[0..31] of one row: high plane, low plane; 8 bit: one plane.
template <bool wide>
PANGEA_INLINE void StoreBlock(std::byte* to, I32 x0, I32 x1) {
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

// The 8 lines of a cell as unsigned bytes: line j holds k 4j..4j+3 of 16 columns.
template <Format format>
PANGEA_INLINE void LoadLines(const std::byte* cell, __m512i* lines) {
  if constexpr (format == Format::kQ8) {
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) lines[j] = _mm512_loadu_si512(cell + 64 * j);
  } else {
    const __m512i low = _mm512_set1_epi8(15);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const __m512i both = _mm512_loadu_si512(cell + 64 * j);
      lines[j] = _mm512_and_si512(both, low);
      lines[j + 4] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
    }
  }
}

// isum[r] = offset[r] + sum of stored weight * x over the block, for 16 columns. ints: row r at r * kBlockInts.
template <Format format, bool wide, int R>
PANGEA_INLINE void DotBlock(const std::byte* cell, const std::byte* ints, const int32_t* offset, I32* isum) {
  __m512i w[8];
  LoadLines<format>(cell, w);
  constexpr int kChains = R == 1 ? 2 : 1;  // a single row needs more of them
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    const std::byte* x = ints + r * kBlockInts<wide>;
    __m512i high[kChains], low[kChains];
#pragma GCC unroll 2
    for (int c = 0; c < kChains; ++c) high[c] = low[c] = _mm512_setzero_si512();
    if constexpr (format != Format::kQ41) low[0] = _mm512_set1_epi32(offset[r]);
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      if constexpr (wide) high[j % kChains] = _mm512_dpbusd_epi32(high[j % kChains], w[j], Quad(x + 4 * j));
      low[j % kChains] = _mm512_dpbusd_epi32(low[j % kChains], w[j], Quad(x + (wide ? 32 : 0) + 4 * j));
    }
    if constexpr (kChains == 2) {
      low[0] = _mm512_add_epi32(low[0], low[1]);
      high[0] = _mm512_add_epi32(high[0], high[1]);
    }
    isum[r] = wide ? _mm512_add_epi32(_mm512_slli_epi32(high[0], 8), low[0]) : low[0];
  }
}

}  // namespace pangea::avx512
