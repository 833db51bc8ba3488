// Products with weights of f32, f16, bf16 and f8: one chain of fma over k for every output, as docs/exactness.md
// defines it. A block has 32 columns and up to 64 rows; its tiles of weights and activations arrive asynchronously,
// some ahead of the one that is computed with.
#include "kernels/cuda/device_math.h"

namespace pangea::cuda {
namespace {

constexpr int kColumns = 32, kTileK = kProductTileK, kStages = kProductStages;
constexpr int kRowsAThread = 4, kColumnsAThread = 2;

template <DType type>
struct Tiles {
  static constexpr int kElement = type == DType::kF32 ? 4 : type == DType::kF8E4M3 ? 1 : 2;
  static constexpr int kWeights = kTileK * kColumns * kElement;  // bytes
  const ProductKernelArgs& a;
  const std::byte* w;  // element (0, first column of the block); of f8 behind its scales
  int64_t w_pitch;     // bytes from one k to the next
  int w_chunks;        // of 16 bytes a k
  int64_t row;         // first of the block
  int rows;            // that are there

  // Of the weights of one k, from w.
  PANGEA_DEVICE int64_t LineAt(int64_t k) const {
    return type == DType::kF8E4M3 ? k * w_pitch + k / kScaleRun * (4 * w_pitch) : k * w_pitch;
  }
  PANGEA_DEVICE int64_t StageBytes() const { return kWeights + int64_t{a.rows} * kTileK * 4; }
  PANGEA_DEVICE std::byte* Weights(int stage) const { return Shared<std::byte>(stage * StageBytes()); }
  PANGEA_DEVICE const float* Activations(int stage) const { return Shared<float>(stage * StageBytes() + kWeights); }

  // Begins to copy a tile; one beyond the last is an empty group.
  PANGEA_DEVICE void Begin(int tile) const {
    const int stage = tile % kStages, t = static_cast<int>(ThreadIndex().x);
    const int threads = static_cast<int>(BlockThreads()), k0 = tile * kTileK;
    const int ks = a.k - k0 < kTileK ? a.k - k0 : kTileK;
    std::byte* const weights = Weights(stage);
    for (int i = t; i < ks * w_chunks; i += threads) {
      const int k = i / w_chunks, chunk = i % w_chunks;
      CopyAsync16(weights + k * kColumns * kElement + chunk * 16, w + LineAt(k0 + k) + chunk * 16);
    }
    std::byte* const activations = weights + kWeights;
    const int chunks = ks > 0 ? (ks + 3) / 4 : 0;
    for (int i = t; i < rows * chunks; i += threads) {
      const int r = i / chunks, chunk = i % chunks;
      CopyAsync16(activations + r * kTileK * 4 + chunk * 16,
                  a.a + (row + r) * a.row_bytes + int64_t{k0} * 4 + chunk * 16);
    }
    CommitCopies();
  }
};

template <DType type>
PANGEA_DEVICE float WeightAt(const std::byte* weights, int i, [[maybe_unused]] float scale) {
  if constexpr (type == DType::kF8E4M3) {
    return LoadF8Of256(weights + i) * scale;
  } else {
    return LoadPlain<type>(weights, i);
  }
}

template <DType type>
PANGEA_DEVICE void ProductOf(const ProductKernelArgs& a) {
  const int t = static_cast<int>(ThreadIndex().x);
  const int64_t padded = (int64_t{a.n} + kPanel - 1) / kPanel * kPanel, column = int64_t{BlockIndex().y} * kColumns;
  const int64_t panel = column / 64, first = panel * 64;
  const int64_t width = padded - first < 64 ? padded - first : 64;  // columns of the panel
  const int columns = static_cast<int>(first + width - column < kColumns ? first + width - column : kColumns);
  const int element = Tiles<type>::kElement;
  const int64_t row = int64_t{BlockIndex().x} * a.rows;
  constexpr bool kScaled = type == DType::kF8E4M3;
  const std::byte* const whole = a.w + panel * a.panel_bytes;
  const Tiles<type> tiles{
      a,   whole + (kScaled ? width * 4 : 0) + (column - first) * element, width * element, columns * element / 16,
      row, static_cast<int>(a.m - row < a.rows ? a.m - row : a.rows)};

  const int pair = t % (kColumns / kColumnsAThread) * kColumnsAThread;  // first column of this thread
  const int mine = t / (kColumns / kColumnsAThread) * kRowsAThread;     // first row
  const bool computes = mine < tiles.rows && pair < columns;
  float f[kRowsAThread][kColumnsAThread] = {};
  float stack[kMostDepth][kRowsAThread][kColumnsAThread];
  int top = 0, leaf = 0, cut = a.leaves.cuts[1];
  // Of f8: this thread's scales of a run of k, and of the next one, which are on their way meanwhile.
  const int runs = (a.k + kScaleRun - 1) / kScaleRun;
  const auto scale_of = [&](int run, int c) {
    if constexpr (!kScaled) return 1.0f;
    if (!computes || run >= runs) return 0.0f;
    return reinterpret_cast<const float*>(whole + run * F8RunBytes(width))[column - first + pair + c];
  };
  float scale[kColumnsAThread] = {}, coming[kColumnsAThread] = {scale_of(0, 0), scale_of(0, 1)};

  const int count = (a.k + kTileK - 1) / kTileK;
  for (int i = 0; i < kStages - 1; ++i) tiles.Begin(i);
  for (int tile = 0; tile < count; ++tile) {
    WaitCopies<kStages - 2>();
    Sync();  // this tile is there for all, and the one before it was read by all
    tiles.Begin(tile + kStages - 1);
    if (!computes) continue;
    const std::byte* const weights = tiles.Weights(tile % kStages);
    const float* const x = tiles.Activations(tile % kStages) + mine * kTileK;
    const int k0 = tile * kTileK, end = a.k - k0 < kTileK ? a.k : k0 + kTileK;
    static_assert(kScaleRun % kTileK == 0);
    if (kScaled && k0 % kScaleRun == 0) {
      for (int c = 0; c < kColumnsAThread; ++c) {
        scale[c] = coming[c];
        coming[c] = scale_of(k0 / kScaleRun + 1, c);
      }
    }
    for (int k = k0; k < end;) {
      const int stop = cut < end ? cut : end;
#pragma unroll 4
      for (; k < stop; ++k) {
        const float w0 = WeightAt<type>(weights, (k - k0) * kColumns + pair, scale[0]);
        const float w1 = WeightAt<type>(weights, (k - k0) * kColumns + pair + 1, scale[1]);
#pragma unroll
        for (int r = 0; r < kRowsAThread; ++r) {
          const float v = x[r * kTileK + k - k0];
          f[r][0] = Fma(w0, v, f[r][0]);
          f[r][1] = Fma(w1, v, f[r][1]);
        }
      }
      if (k < cut) continue;
      // The leaf is whole: onto the stack, and its merges.
#pragma unroll
      for (int r = 0; r < kRowsAThread; ++r) {
        for (int c = 0; c < kColumnsAThread; ++c) {
          stack[top][r][c] = f[r][c];
          f[r][c] = 0;
        }
      }
      ++top;
      for (int merge = 0; merge < a.leaves.merges[leaf]; ++merge, --top) {
        for (int r = 0; r < kRowsAThread; ++r) {
          for (int c = 0; c < kColumnsAThread; ++c) stack[top - 2][r][c] = stack[top - 2][r][c] + stack[top - 1][r][c];
        }
      }
      if (++leaf < a.leaves.count) cut = a.leaves.cuts[leaf + 1];
    }
  }
  if (!computes) return;
  for (int v = 0; v < a.vectors; ++v) {
    for (int r = 0; r < kRowsAThread && mine + r < tiles.rows; ++r) {
      for (int c = 0; c < kColumnsAThread; ++c) {
        const int64_t j = column + pair + c;
        if (j >= a.n) continue;
        const float y = stack[v][r][c];
        a.y[(int64_t{v} * a.m + row + mine + r) * a.ldy + j] = a.bias != nullptr ? y + a.bias[j] : y;
      }
    }
  }
}

}  // namespace

// Grid: (rows / a.rows, columns / 32); a.rows a multiple of kRowsAThread, at most 64. Shared: kStages tiles.
PANGEA_KERNEL(ProductF32, ProductKernelArgs, 256) { ProductOf<DType::kF32>(a); }
PANGEA_KERNEL(ProductF16, ProductKernelArgs, 256) { ProductOf<DType::kF16>(a); }
PANGEA_KERNEL(ProductBf16, ProductKernelArgs, 256) { ProductOf<DType::kBF16>(a); }
PANGEA_KERNEL(ProductF8, ProductKernelArgs, 256) { ProductOf<DType::kF8E4M3>(a); }

}  // namespace pangea::cuda
