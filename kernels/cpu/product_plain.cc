// Products with f32, f16 and bf16 weights: docs/exactness.md section 1.
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/tile.h"

#include PANGEA_ISA_DOT

namespace pangea::PANGEA_ISA {
namespace {

// How one step of K is read: k itself (f32, f16) or a pair (bf16). Activations: 4 bytes a row and step.
struct StepF32 {
  static constexpr int kBytes = 4, kGroup = 1;
  using Weight = F32;
  static PANGEA_INLINE F32 LoadWeight(const std::byte* p) { return Load(reinterpret_cast<const float*>(p)); }
  static PANGEA_INLINE F32 Step(F32 f, F32 w, const float* x) { return Fma(w, F32(*x), f); }
};
struct StepF16 {
  static constexpr int kBytes = 2, kGroup = 1;
  using Weight = F32;
  static PANGEA_INLINE F32 LoadWeight(const std::byte* p) { return LoadF16(p); }
  static PANGEA_INLINE F32 Step(F32 f, F32 w, const float* x) { return Fma(w, F32(*x), f); }
};
PANGEA_INLINE I32 BroadcastPair(const float* x) {
  int32_t pair;
  __builtin_memcpy(&pair, x, 4);
  return I32(pair);
}
struct StepBf16Native {
  static constexpr int kBytes = 4, kGroup = 2;
  using Weight = I32;
  static PANGEA_INLINE I32 LoadWeight(const std::byte* p) { return LoadInt(p); }
  static PANGEA_INLINE F32 Step(F32 f, I32 w, const float* x) { return DotBf16Native(f, w, BroadcastPair(x)); }
};
PANGEA_INLINE F32 DotBf16Plain(F32 f, I32 w, I32 x) {
  const I32 upper(static_cast<int32_t>(0xffff0000u));
  f = Fma(AsFloat(AndInt(w, upper)), AsFloat(AndInt(x, upper)), f);
  return Fma(AsFloat(ShiftLeft<16>(w)), AsFloat(ShiftLeft<16>(x)), f);
}
struct StepBf16Plain : StepBf16Native {
  static PANGEA_INLINE F32 Step(F32 f, I32 w, const float* x) { return DotBf16Plain(f, w, BroadcastPair(x)); }
};

// R rows from row `first` of a packed tile of `tile_rows`, times C vectors of columns of a super-panel `width` columns
// wide.
template <class S, int R, int C>
struct Panel {
  const std::byte* w;  // at the first of the columns
  int64_t width;
  const std::byte* a;
  int tile_rows;
  int first;

  PANGEA_INLINE void operator()(int64_t k0, int64_t k1, F32* f) const {
    const int64_t line = width * S::kBytes;
    const int64_t begin = k0 / S::kGroup;
    const int64_t end = (k1 + S::kGroup - 1) / S::kGroup;
    const std::byte* p = w + begin * line;
    const float* x = reinterpret_cast<const float*>(a) + begin * tile_rows + first;
    for (int64_t step = begin; step < end; ++step, p += line, x += tile_rows) {
      typename S::Weight wv[C];
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) wv[c] = S::LoadWeight(p + c * 16 * S::kBytes);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) f[r * C + c] = S::Step(f[r * C + c], wv[c], x + r);
      }
    }
  }
};

template <class S, int R, int C>
void Columns(const ProductArgs& args, int64_t panel, int64_t row, int tile_rows, int from) {
  const int64_t padded = (args.n + kPanel - 1) / kPanel * kPanel;
  const int64_t width = Smaller<int64_t>(kSuperPanel, padded - panel * kSuperPanel);
  const std::byte* w = args.w + panel * args.panel_bytes + from * S::kBytes;
  const std::byte* a = args.a + row * args.row_bytes;
  for (int first = 0; first < tile_rows; first += R) {
    RunProgram<R, C>(args, row + first, panel * kSuperPanel + from, Panel<S, R, C>{w, width, a, tile_rows, first});
  }
}

// All columns of one super-panel: C vectors at a time, then one.
template <class S, int R>
void Rows(const ProductArgs& args, int64_t panel, int64_t row, int tile_rows) {
  constexpr int kVectors = Smaller(4, Larger(1, kAccumulators / R));
  const int64_t padded = (args.n + kPanel - 1) / kPanel * kPanel;
  const int width = static_cast<int>(Smaller<int64_t>(kSuperPanel, padded - panel * kSuperPanel));
  int from = 0;
  for (; from + 16 * kVectors <= width; from += 16 * kVectors)
    Columns<S, R, kVectors>(args, panel, row, tile_rows, from);
  for (; from < width; from += 16) Columns<S, R, 1>(args, panel, row, tile_rows, from);
}

template <class S>
void Run(const ProductArgs& args, const Block2D& block) {
  for (int64_t p = block.panel_begin; p < block.panel_end; ++p) {
    for (int64_t row = block.row_begin; row < block.row_end;) {
      const int height = TileHeight(row, args.m);
      switch (Smaller(height, kComputeRows)) {
        case 8:
          Rows<S, Smaller(8, kComputeRows)>(args, p, row, height);
          break;
        case 4:
          Rows<S, 4>(args, p, row, height);
          break;
        case 2:
          Rows<S, 2>(args, p, row, height);
          break;
        default:
          Rows<S, 1>(args, p, row, height);
          break;
      }
      row += height;
    }
  }
}

// Another vendor's vdpbf16ps might round otherwise: compared once with the two FMAs, on numbers of every size.
bool NativeBf16IsExact() {
  uint32_t state = 12345;
  for (int round = 0; round < 4096; ++round) {
    int32_t w[16], x[16];
    float f[16];
    for (int i = 0; i < 16; ++i) {
      int32_t* const words[3] = {&w[i], &x[i], reinterpret_cast<int32_t*>(&f[i])};
      for (int32_t* word : words) {
        state = state * 1664525u + 1013904223u;
        uint32_t bits = state;
        // Half of the rounds near one, where roundings meet; the others anywhere but NaN and infinity.
        if (round % 2 == 0) bits = (bits & 0x83ff83ffu) | 0x3c003c00u;
        if ((bits & 0x7f800000u) == 0x7f800000u) bits &= ~0x40000000u;
        if ((bits & 0x7f80u) == 0x7f80u) bits &= ~0x4000u;
        __builtin_memcpy(word, &bits, 4);
      }
    }
    float native[16], plain[16];
    Store(native, DotBf16Native(Load(f), LoadInt(w), LoadInt(x)));
    Store(plain, DotBf16Plain(Load(f), LoadInt(w), LoadInt(x)));
    if (__builtin_memcmp(native, plain, sizeof(plain)) != 0) return false;
  }
  return true;
}

bool UseNativeBf16() {
  static const bool exact = kHasNativeBf16 && NativeBf16IsExact();
  return exact;
}

}  // namespace

void ProductPlain(const ProductArgs& args, const Block2D& block) {
  switch (args.dtype) {
    case DType::kF32:
      return Run<StepF32>(args, block);
    case DType::kF16:
      return Run<StepF16>(args, block);
    default:
      return UseNativeBf16() ? Run<StepBf16Native>(args, block) : Run<StepBf16Plain>(args, block);
  }
}

}  // namespace pangea::PANGEA_ISA
