// Quantised formats as constants of templates, and what stands behind the integers of a packed group of activations.
#pragma once
#include "kernels/backend.h"
#include "kernels/cpu/vec.h"

namespace pangea::PANGEA_ISA {

template <DType dtype>
inline constexpr QuantFormat kFormat = *FindFormat(dtype);

// f.operator()<dtype>() for the quantised dtype that is asked for.
template <int row = 0, class F>
PANGEA_INLINE void WithFormat(DType dtype, const F& f) {
  if constexpr (row < sizeof(kQuantFormats) / sizeof(kQuantFormats[0])) {
    constexpr DType kThis = kQuantFormats[row].dtype;
    dtype == kThis ? f.template operator()<kThis>() : WithFormat<row + 1>(dtype, f);
  }
}

// Scales (`at` = 0, or the run's number) or minima (`at` = runs) of a packed cell. unit: the block's, of a two-level
// format.
template <DType dtype>
PANGEA_INLINE F32 CellNumber(const std::byte* cell, int at, F32 unit) {
  constexpr QuantFormat kRow = kFormat<dtype>;
  const std::byte* p = cell + kRow.line_bytes() + at * kPanel * kRow.number_bytes();
  if constexpr (kRow.two_level) return Mul(LoadI8(p), unit);
  return LoadF16(p);
}

// Behind the integers of T rows: T scales, T int32 -offset * sum, and T f32 sum * scale; where two runs of weights have
// a scale each, the sums are those of the first run, and the last T are int32 -offset * sum of the second.
inline constexpr int kGroupTail = 12;

// Rows of the packed tile that begins at `row` of m.
PANGEA_INLINE int TileHeight(int64_t row, int64_t m) {
  const int64_t left = m - row;
  return left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

}  // namespace pangea::PANGEA_ISA
