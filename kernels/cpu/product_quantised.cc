// Products with quantised weights: docs/exactness.md section 1, docs/activations.md.
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/tile.h"

#include PANGEA_ISA_DOT

namespace pangea::PANGEA_ISA {
namespace {

// R rows, from row r0 of a packed tile of T, times one panel.
template <DType dtype, bool wide, int R>
struct Panel {
  static constexpr QuantFormat kRow = kFormat<dtype>;
  static constexpr int64_t kCellBytes = kRow.cell_bytes();
  static_assert(kRow.bits == 8 || (kRow.bits >= 4 && kRow.bits <= 6), "no lines for so many bits (kernels/weight.h)");

  const std::byte* w;
  const std::byte* a;
  int tile_rows;  // T
  int first;      // r0

  PANGEA_INLINE void operator()(int64_t k0, int64_t k1, F32* f) const {
    const int64_t group = tile_rows * (kGroupInts<wide> + kGroupTail);
    const std::byte* x = a + k0 / kQuantGroup * group;
    const std::byte* at = w + k0 / kRow.block * kRow.packed_bytes();
    for (int64_t k = k0; k < k1; k += kRow.block) {
      F32 d(0), m(0);
      if constexpr (kRow.two_level) d = LoadF16(at);
      if constexpr (kRow.two_level && kRow.minima) m = LoadF16(at + 2 * kPanel);
      at += kRow.head_bytes();
      for (int cell = 0; cell < kRow.block / kQuantGroup; ++cell, x += group, at += kCellBytes) {
        if (first == 0) {
#pragma GCC unroll 12
          for (int64_t line = 0; line < kCellBytes; line += 64) __builtin_prefetch(at + kAheadBytes + line, 0, 3);
        }
        AddCell(at, x, d, m, f);
      }
    }
  }

  // x: the group's packed activations; d and m: the block's, of a two-level format.
  PANGEA_INLINE void AddCell(const std::byte* cell, const std::byte* x, F32 d, F32 m, F32* f) const {
    const Lines<dtype> lines(cell);
    const float* scale = reinterpret_cast<const float*>(x + tile_rows * kGroupInts<wide>) + first;
    AddRun<0>(cell, lines, x, scale, d, f);
    if constexpr (kRow.runs() == 2) AddRun<1>(cell, lines, x, scale, d, f);
    if constexpr (kRow.minima) {
      const F32 minimum = CellNumber<dtype>(cell, kRow.runs(), m);
      const float* sum = scale + 2 * tile_rows;
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) f[r] = Fma(F32(sum[r]), minimum, f[r]);
    }
  }

  template <int run>
  PANGEA_INLINE void AddRun(const std::byte* cell, const Lines<dtype>& lines, const std::byte* x, const float* scale,
                            F32 d, F32* f) const {
    I32 isum[R];
    const int32_t* offset = reinterpret_cast<const int32_t*>(scale) + (1 + run) * tile_rows;
    lines.template Dot<run, wide, R>(x + first * kGroupInts<wide>, offset, isum);
    const F32 ws = CellNumber<dtype>(cell, run, d);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) f[r] = Fma(Mul(ToFloat(isum[r]), F32(scale[r])), ws, f[r]);
  }
};

template <DType dtype, bool wide, int R>
void Rows(const ProductArgs& args, const std::byte* panel, int64_t row, int tile_rows, int64_t column) {
  const std::byte* a = args.a + row * args.row_bytes;
  for (int first = 0; first < tile_rows; first += R) {
    RunProgram<R, 1>(args, row + first, column, Panel<dtype, wide, R>{panel, a, tile_rows, first});
  }
}

template <DType dtype, bool wide>
void Run(const ProductArgs& args, const Block2D& block) {
  for (int64_t p = block.panel_begin; p < block.panel_end; ++p) {
    const std::byte* panel = args.w + p * args.panel_bytes;
    for (int64_t row = block.row_begin; row < block.row_end;) {
      const int height = TileHeight(row, args.m);
      switch (Smaller(height, kComputeRows)) {
        case 8:
          Rows<dtype, wide, Smaller(8, kComputeRows)>(args, panel, row, height, p * kPanel);
          break;
        case 4:
          Rows<dtype, wide, 4>(args, panel, row, height, p * kPanel);
          break;
        case 2:
          Rows<dtype, wide, 2>(args, panel, row, height, p * kPanel);
          break;
        default:
          Rows<dtype, wide, 1>(args, panel, row, height, p * kPanel);
          break;
      }
      row += height;
    }
  }
}

}  // namespace

void ProductQuantised(const ProductArgs& args, const Block2D& block) {
  WithFormat(args.dtype,
             [&]<DType dtype>() { args.wide ? Run<dtype, true>(args, block) : Run<dtype, false>(args, block); });
}

}  // namespace pangea::PANGEA_ISA
