// Products with Q8_0, Q4_0 and Q4_1 weights: docs/exactness.md section 1, docs/activations.md.
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/tile.h"

#include PANGEA_ISA_DOT

namespace pangea::PANGEA_ISA {
namespace {

// R rows, from row r0 of a packed tile of T, times one panel.
template <Format format, bool wide, int R>
struct Panel {
  const std::byte* w;
  const std::byte* a;
  int tile_rows;  // T
  int first;      // r0

  PANGEA_INLINE void operator()(int64_t k0, int64_t k1, F32* f) const {
    const int64_t ints = tile_rows * kBlockInts<wide>;
    const int64_t block = ints + tile_rows * kBlockTail;
    const std::byte* x = a + k0 / 32 * block;
    const std::byte* cell = w + k0 / 32 * kCellBytes<format>;
    for (int64_t b = k0 / 32; b < k1 / 32; ++b, x += block, cell += kCellBytes<format>) {
      const float* scale = reinterpret_cast<const float*>(x + ints) + first;
      const int32_t* offset = reinterpret_cast<const int32_t*>(scale + tile_rows);
      if (first == 0) {
#pragma GCC unroll 12
        for (int64_t line = 0; line < kCellBytes<format>; line += 64)
          __builtin_prefetch(cell + kAheadBytes + line, 0, 3);
      }
      I32 isum[R];
      DotBlock<format, wide, R>(cell, x + first * kBlockInts<wide>, offset, isum);
      const F32 d = LoadF16(cell + kLineBytes<format>);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) f[r] = Fma(Mul(ToFloat(isum[r]), F32(scale[r])), d, f[r]);
      if constexpr (format == Format::kQ41) {
        const F32 minimum = LoadF16(cell + kLineBytes<format> + 32);
        const float* sum = scale + 2 * tile_rows;
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) f[r] = Fma(F32(sum[r]), minimum, f[r]);
      }
    }
  }
};

template <Format format, bool wide, int R>
void Rows(const ProductArgs& args, const std::byte* panel, int64_t row, int tile_rows, int64_t column) {
  const std::byte* a = args.a + row * args.row_bytes;
  for (int first = 0; first < tile_rows; first += R) {
    RunProgram<R, 1>(args, row + first, column, Panel<format, wide, R>{panel, a, tile_rows, first});
  }
}

template <Format format, bool wide>
void Run(const ProductArgs& args, const Block2D& block) {
  for (int64_t p = block.panel_begin; p < block.panel_end; ++p) {
    const std::byte* panel = args.w + p * args.panel_bytes;
    for (int64_t row = block.row_begin; row < block.row_end;) {
      const int height = TileHeight(row, args.m);
      switch (Smaller(height, kComputeRows)) {
        case 8:
          Rows<format, wide, Smaller(8, kComputeRows)>(args, panel, row, height, p * kPanel);
          break;
        case 4:
          Rows<format, wide, 4>(args, panel, row, height, p * kPanel);
          break;
        case 2:
          Rows<format, wide, 2>(args, panel, row, height, p * kPanel);
          break;
        default:
          Rows<format, wide, 1>(args, panel, row, height, p * kPanel);
          break;
      }
      row += height;
    }
  }
}

}  // namespace

void ProductQuantised(const ProductArgs& args, const Block2D& block) {
  switch (args.dtype) {
    case DType::kQ8_0:
      return args.wide ? Run<Format::kQ8, true>(args, block) : Run<Format::kQ8, false>(args, block);
    case DType::kQ4_0:
      return args.wide ? Run<Format::kQ40, true>(args, block) : Run<Format::kQ40, false>(args, block);
    default:
      return args.wide ? Run<Format::kQ41, true>(args, block) : Run<Format::kQ41, false>(args, block);
  }
}

}  // namespace pangea::PANGEA_ISA
