// Products with quantised weights on AMX: tiles of 8 rows, from the packed weights and activations that dot_avx512.h
// reads. The sums of integers of a run are exact, so the instruction that adds them up is free (docs/exactness.md,
// section 1); what is done with them in f32 is AVX-512's text.
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/tile.h"

#include PANGEA_ISA_DOT

namespace pangea::avx512 {
namespace {

constexpr int kTile = kTileRows;

// The tile registers: sums and activations of rows' tile t (0 or 1), and the weights of a cell.
template <int t>
constexpr int kSums = t;
template <int t>
constexpr int kActivations = 2 + t;
constexpr int kWeights = 4;

// The two planes of a row's integers are rows of their own: one product has both.
template <bool wide>
constexpr int kTileHeight = wide ? 2 * kTile : kTile;

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

template <bool wide>
void Configure() {
  TileConfig config;
  for (const int tile : {kSums<0>, kSums<1>, kActivations<0>, kActivations<1>}) {
    config.rows[tile] = kTileHeight<wide>;
    config.row_bytes[tile] = tile < kActivations<0> ? 64 : kQuantGroup;
  }
  config.rows[kWeights] = kQuantGroup / 4;
  config.row_bytes[kWeights] = 64;
  __asm__ volatile("ldtilecfg %0" ::"m"(config));
}

// The compiler's own intrinsics do not say that they read memory.
template <int tile>
PANGEA_INLINE void LoadTile(const void* p, int64_t pitch) {
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(p), "r"(pitch), "i"(tile) : "memory");
}
template <int tile>
PANGEA_INLINE void StoreTile(void* p) {
  __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(p), "r"(int64_t{64}), "i"(tile) : "memory");
}
template <int t>
PANGEA_INLINE void MultiplyTile() {
  __asm__ volatile("tilezero %%tmm%c0\n\ttdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSums<t>), "i"(kActivations<t>),
                   "i"(kWeights));
}

// T packed tiles, one after the other from `a`, times one panel.
template <DType dtype, bool wide, int T>
struct AmxPanel {
  static constexpr QuantFormat kRow = kFormat<dtype>;
  static constexpr int64_t kGroup = kTile * (kGroupInts<wide> + kGroupTail);
  static constexpr int kSumsPitch = wide ? 32 : 16;  // of a row
  static_assert(kRow.runs() == 1 && T <= 2);

  const std::byte* w;
  const std::byte* a;
  int64_t tile_bytes;
  const std::byte* lines;  // of the panel, as bytes

  struct alignas(64) Sums {
    int32_t of[T][kTileHeight<wide> * 16];
  };
  // f while a leaf is computed: with indices that are constants before loops are unrolled it stays in registers, which
  // the tiles' instructions, as they name memory, would keep it from.
  struct Registers {
    F32 f[T * kTile];
    template <int i = 0>
    PANGEA_INLINE void Load(const F32* from) {
      f[i] = from[i];
      if constexpr (i + 1 < T * kTile) Load<i + 1>(from);
    }
    template <int i = 0>
    PANGEA_INLINE void Store(F32* to) const {
      to[i] = f[i];
      if constexpr (i + 1 < T * kTile) Store<i + 1>(to);
    }
  };

  // While the tiles multiply one cell, the vector units finish the one before it.
  PANGEA_INLINE void operator()(int64_t k0, int64_t k1, F32* f) const {
    const std::byte* x = a + k0 / kQuantGroup * kGroup;
    const std::byte* at = w + k0 / kRow.block * kRow.packed_bytes();
    const std::byte* line = kRow.bits == 8 ? nullptr : lines + k0 * kPanel;
    Registers held;
    held.Load(f);
    Sums sums;
    const std::byte* before = nullptr;
    F32 d(0), m(0);
    for (int64_t k = k0; k < k1; k += kRow.block) {
      const F32 last_d = d, last_m = m;
      if constexpr (kRow.two_level) d = LoadF16(at);
      if constexpr (kRow.two_level && kRow.minima) m = LoadF16(at + 2 * kPanel);
      at += kRow.head_bytes();
      for (int cell = 0; cell < kRow.block / kQuantGroup; ++cell, x += kGroup, at += kRow.cell_bytes()) {
        LoadTile<kWeights>(kRow.bits == 8 ? at : line, 64);
        if constexpr (kRow.bits < 8) line += kQuantGroup * kPanel;
        Multiply(x);
        if (before == nullptr) {
          KeepSums<0>(&sums);
          KeepSums<T - 1>(&sums);
        } else {
          Finish<true>(before, x - kGroup, &sums, cell == 0 ? last_d : d, cell == 0 ? last_m : m, &held);
        }
        before = at;
      }
    }
    if (before != nullptr) Finish<false>(before, x - kGroup, &sums, d, m, &held);
    held.Store(f);
  }

  PANGEA_INLINE void Multiply(const std::byte* x) const {
    LoadTile<kActivations<0>>(x, kQuantGroup);
    MultiplyTile<0>();
    if constexpr (T == 2) {
      LoadTile<kActivations<1>>(x + tile_bytes, kQuantGroup);
      MultiplyTile<1>();
    }
  }

  template <int t>
  static PANGEA_INLINE void KeepSums(Sums* sums) {
    StoreTile<kSums<t>>(sums->of[t]);
  }

  // As Panel::AddCell of product_quantised.cc. more: the tile registers have the next cell's sums, which take the place
  // of these as soon as a tile's are used.
  template <bool more>
  PANGEA_INLINE void Finish(const std::byte* cell, const std::byte* x, Sums* sums, F32 d, F32 m,
                            Registers* held) const {
    F32 minimum(0);
    if constexpr (kRow.minima) minimum = CellNumber<dtype>(cell, 1, m);
    FinishRow<more, 0>(x, sums, CellNumber<dtype>(cell, 0, d), minimum, held);
  }

  template <bool more, int i>
  PANGEA_INLINE void FinishRow(const std::byte* x, Sums* sums, F32 ws, F32 minimum, Registers* held) const {
    if constexpr (i < T * kTile) {
      constexpr int t = i / kTile, r = i % kTile;
      const std::byte* tail = x + t * tile_bytes + kTile * kGroupInts<wide>;
      const float* scale = reinterpret_cast<const float*>(tail) + r;
      const int32_t* sum = sums->of[t] + r * kSumsPitch;
      I32 isum = LoadInt(sum);
      if constexpr (wide) isum = AddInt(ShiftLeft<8>(isum), LoadInt(sum + 16));
      if constexpr (kRow.offset != 0) isum = AddInt(isum, I32(reinterpret_cast<const int32_t*>(scale)[kTile]));
      held->f[i] = Fma(Mul(ToFloat(isum), F32(*scale)), ws, held->f[i]);
      if constexpr (kRow.minima) held->f[i] = Fma(F32(scale[2 * kTile]), minimum, held->f[i]);
      if constexpr (more && r == kTile - 1) KeepSums<t>(sums);
      FinishRow<more, i + 1>(x, sums, ws, minimum, held);
    }
  }
};

// A panel's weights as the bytes that tiles are loaded from, once for all rows of the block.
template <DType dtype>
void Unpack(const std::byte* panel, int64_t k, std::byte* lines) {
  constexpr QuantFormat kRow = kFormat<dtype>;
  for (const std::byte* end = lines + k * kPanel; lines < end; panel += kRow.head_bytes()) {
    for (int cell = 0; cell < kRow.block / kQuantGroup; ++cell, panel += kRow.cell_bytes()) {
      const Lines<dtype> unpacked(panel + kRow.head_bytes());
      for (int64_t ahead = 0; ahead < kRow.cell_bytes(); ahead += 64)
        __builtin_prefetch(panel + kAheadBytes + ahead, 0, 3);
#pragma GCC unroll 8
      for (int j = 0; j < 8; ++j, lines += 64) _mm512_store_si512(lines, unpacked.line[j]);
    }
  }
}

template <DType dtype, bool wide>
void Run(const ProductArgs& args, const Block2D& block) {
  Configure<wide>();
  const int64_t tile_bytes = kTile * args.row_bytes;
  for (int64_t p = block.panel_begin; p < block.panel_end; ++p) {
    const std::byte* panel = args.w + p * args.panel_bytes;
    if constexpr (kFormat<dtype>.bits < 8) Unpack<dtype>(panel, args.k, args.scratch);
    int64_t row = block.row_begin;
    for (; row + 2 * kTile <= block.row_end; row += 2 * kTile) {
      const std::byte* a = args.a + row * args.row_bytes;
      RunProgram<2 * kTile, 1>(args, row, p * kPanel, AmxPanel<dtype, wide, 2>{panel, a, tile_bytes, args.scratch});
    }
    if (row < block.row_end) {
      const std::byte* a = args.a + row * args.row_bytes;
      RunProgram<kTile, 1>(args, row, p * kPanel, AmxPanel<dtype, wide, 1>{panel, a, tile_bytes, args.scratch});
    }
  }
  __asm__ volatile("tilerelease");
}

}  // namespace

int64_t TileScratch(DType dtype, int64_t k, int64_t m) {
  int64_t bytes = 0;
  WithFormat(dtype, [&]<DType known>() {
    if (kFormat<known>.bits < 8 && kFormat<known>.runs() == 1 && m >= kTile) bytes = k * kPanel;
  });
  return bytes;
}

// Whole tiles of 8 rows here, what is left over with AVX-512's other rows. So are formats with two runs a cell: a tile
// of 16 k takes as long as one of 32, and gains nothing over vpdpbusd.
void ProductOnTiles(const ProductArgs& args, const Block2D& block) {
  Block2D tiles = block, rest = block;
  WithFormat(args.dtype, [&]<DType dtype>() {
    if constexpr (kFormat<dtype>.runs() == 1) {
      rest.row_begin = tiles.row_end = block.row_begin + (block.row_end - block.row_begin) / kTile * kTile;
      if (tiles.row_begin < tiles.row_end) args.wide ? Run<dtype, true>(args, tiles) : Run<dtype, false>(args, tiles);
    }
  });
  if (rest.row_begin < rest.row_end) ProductQuantised(args, rest);
}

}  // namespace pangea::avx512
