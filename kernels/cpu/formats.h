// Cells of packed quantised weights (weight.h), and what stands behind the integers of a packed block of activations.
#pragma once
#include "kernels/backend.h"
#include "kernels/cpu/vec.h"

namespace pangea::PANGEA_ISA {

enum class Format { kQ8, kQ40, kQ41 };

template <Format format>
inline constexpr int kLineBytes = format == Format::kQ8 ? 512 : 256;  // before the scales
template <Format format>
inline constexpr int kCellBytes = kLineBytes<format> + (format == Format::kQ41 ? 64 : 32);
// Stored weight minus real weight.
template <Format format>
inline constexpr int kWeightOffset = format == Format::kQ8    ? 128
                                     : format == Format::kQ40 ? 8
                                                              : 0;

// Behind the integers of T rows: T scales, T int32 -offset * sum, T f32 sum * scale.
inline constexpr int kBlockTail = 12;

// Rows of the packed tile that begins at `row` of m.
PANGEA_INLINE int TileHeight(int64_t row, int64_t m) {
  const int64_t left = m - row;
  return left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

}  // namespace pangea::PANGEA_ISA
