// Products with f32, f16, bf16 and f8 weights, all in f32: docs/exactness.md section 1.
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/tile.h"

#include PANGEA_ISA_DOT

namespace pangea::PANGEA_ISA {
namespace {

// Bytes of a stored weight, and 16 of them widened to f32, which is exact.
struct WeightF32 {
  static constexpr int kBytes = 4;
  static constexpr bool kScaled = false;
  static PANGEA_INLINE F32 Widen(const std::byte* p) { return Load(reinterpret_cast<const float*>(p)); }
};
struct WeightF16 {
  static constexpr int kBytes = 2;
  static constexpr bool kScaled = false;
  static PANGEA_INLINE F32 Widen(const std::byte* p) { return LoadF16(p); }
};
struct WeightBf16 {
  static constexpr int kBytes = 2;
  static constexpr bool kScaled = false;
  static PANGEA_INLINE F32 Widen(const std::byte* p) { return LoadBf16(p); }
};
struct WeightF8 {  // weight.h says how these lie
  static constexpr int kBytes = 1;
  static constexpr bool kScaled = true;
  static PANGEA_INLINE F32 Widen(const std::byte* p) { return LoadF8Of256<false>(p); }
};

// R rows from row `first` of a packed tile of `tile_rows`, times C vectors of columns, from column `from`, of a
// super-panel `width` columns wide.
template <class W, int R, int C>
struct Panel {
  const std::byte* panel;
  int64_t width;
  int from;
  const std::byte* a;
  int tile_rows;
  int first;

  PANGEA_INLINE void operator()(int64_t k0, int64_t k1, F32* f) const {
    F32 scale[C];
    if constexpr (W::kScaled) {
      while (k0 < k1) {
        const std::byte* const run = panel + k0 / kScaleRun * (width * (4 + kScaleRun));  // F8RunBytes
        const int64_t end = Smaller<int64_t>(k1, (k0 / kScaleRun + 1) * kScaleRun);
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) scale[c] = Load(reinterpret_cast<const float*>(run) + from + 16 * c);
        Walk(run + width * 4 + k0 % kScaleRun * width + from, {k0, end}, scale, f);
        k0 = end;
      }
    } else {
      Walk(panel + (k0 * width + from) * W::kBytes, {k0, k1}, scale, f);
    }
  }

 private:
  struct Span {
    int64_t begin, end;  // k
  };
  PANGEA_INLINE void Walk(const std::byte* p, const Span& ks, [[maybe_unused]] const F32* scale, F32* f) const {
    const int64_t line = width * W::kBytes;
    const float* x = reinterpret_cast<const float*>(a) + ks.begin * tile_rows + first;
    for (int64_t k = ks.begin; k < ks.end; ++k, p += line, x += tile_rows) {
      if (first == 0) {
#pragma GCC unroll 4
        for (int b = 0; b < C * 16 * W::kBytes; b += 64) __builtin_prefetch(p + kAheadBytes + b, 0, 3);
      }
      F32 wv[C];
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) {
        wv[c] = W::Widen(p + c * 16 * W::kBytes);
        if constexpr (W::kScaled) wv[c] = Mul(wv[c], scale[c]);
      }
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) f[r * C + c] = Fma(wv[c], F32(x[r]), f[r * C + c]);
      }
    }
  }
};

template <class W, int R, int C>
void Columns(const ProductArgs& args, int64_t panel, int64_t row, int tile_rows, int from) {
  const int64_t padded = (args.n + kPanel - 1) / kPanel * kPanel;
  const int64_t width = Smaller<int64_t>(kSuperPanel, padded - panel * kSuperPanel);
  const std::byte* w = args.w + panel * args.panel_bytes;
  const std::byte* a = args.a + row * args.row_bytes;
  for (int first = 0; first < tile_rows; first += R) {
    RunProgram<R, C>(args, row + first, panel * kSuperPanel + from,
                     Panel<W, R, C>{w, width, from, a, tile_rows, first});
  }
}

// All columns of one super-panel: C vectors at a time, then one.
template <class W, int R>
void Rows(const ProductArgs& args, int64_t panel, int64_t row, int tile_rows) {
  constexpr int kVectors = Smaller(4, Larger(1, kAccumulators / R));
  const int64_t padded = (args.n + kPanel - 1) / kPanel * kPanel;
  const int width = static_cast<int>(Smaller<int64_t>(kSuperPanel, padded - panel * kSuperPanel));
  int from = 0;
  for (; from + 16 * kVectors <= width; from += 16 * kVectors)
    Columns<W, R, kVectors>(args, panel, row, tile_rows, from);
  for (; from < width; from += 16) Columns<W, R, 1>(args, panel, row, tile_rows, from);
}

template <class W>
void Run(const ProductArgs& args, const Block2D& block) {
  for (int64_t p = block.panel_begin; p < block.panel_end; ++p) {
    for (int64_t row = block.row_begin; row < block.row_end;) {
      const int height = TileHeight(row, args.m);
      switch (Smaller(height, kComputeRows)) {
        case 8:
          Rows<W, Smaller(8, kComputeRows)>(args, p, row, height);
          break;
        case 4:
          Rows<W, 4>(args, p, row, height);
          break;
        case 2:
          Rows<W, 2>(args, p, row, height);
          break;
        default:
          Rows<W, 1>(args, p, row, height);
          break;
      }
      row += height;
    }
  }
}

}  // namespace

void ProductPlain(const ProductArgs& args, const Block2D& block) {
  switch (args.dtype) {
    case DType::kF32:
      return Run<WeightF32>(args, block);
    case DType::kF16:
      return Run<WeightF16>(args, block);
    case DType::kF8E4M3:
      return Run<WeightF8>(args, block);
    default:
      return Run<WeightBf16>(args, block);
  }
}

}  // namespace pangea::PANGEA_ISA
