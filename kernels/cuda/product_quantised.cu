// Products with quantised weights: exact integer sums of 32 k each, and one chain of fma over them for every output, as
// docs/exactness.md defines it. The integer sums of eight groups are made at a time, by a warp each; then each row's
// chain goes on over them.
#include "kernels/cuda/device_math.h"

namespace pangea::cuda {
namespace {

constexpr int kWarps = kProductWarps, kColumns = 32;

// Eight words of four packed weights each, of one column and 32 k.
template <int format>
struct Cell {
  static constexpr QuantFormat kFormat = kQuantFormats[format];
  static constexpr int kTerms = kFormat.runs() + (kFormat.minima ? 1 : 0);  // fma a group
  int q[8];
  float numbers[kTerms];

  PANGEA_DEVICE Cell(const std::byte* panel, int64_t group, int column) {
    constexpr int kCells = kFormat.block / kQuantGroup;
    const std::byte* const block = panel + group / kCells * kFormat.packed_bytes();
    const std::byte* const cell = block + kFormat.head_bytes() + group % kCells * kFormat.cell_bytes();
    const auto line = [&](int i) { return *reinterpret_cast<const int*>(cell + i * 64 + column * 4); };
    if constexpr (kFormat.bits == 8) {
#pragma unroll
      for (int i = 0; i < 8; ++i) q[i] = line(i) ^ static_cast<int>(0x80808080u);  // signed again
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int four = line(i);
        q[i] = four & 0x0f0f0f0f;
        q[4 + i] = four >> 4 & 0x0f0f0f0f;
      }
      constexpr int kHigh = kFormat.bits - 4;
      if constexpr (kHigh > 0) {
        constexpr int kWords = 8 / kHigh;  // whose upper bits one line has
#pragma unroll
        for (int plane = 0; plane < kHigh; ++plane) {
          const int bits = line(4 + plane);
#pragma unroll
          for (int i = 0; i < kWords; ++i)
            q[plane * kWords + i] |= (bits >> (kHigh * i) & (0x01010101 * ((1 << kHigh) - 1))) << 4;
        }
      }
    }
    const std::byte* const stored = cell + kFormat.line_bytes();
#pragma unroll
    for (int i = 0; i < kTerms; ++i) {
      if constexpr (kFormat.two_level) {
        const int level = i >= kFormat.runs() ? 1 : 0;
        numbers[i] = static_cast<float>(static_cast<int8_t>(stored[i * kPanel + column])) *
                     LoadF16(block + 2 * (level * kPanel + column));
      } else {
        numbers[i] = LoadF16(stored + 2 * (i * kPanel + column));
      }
    }
  }

  // What the chain multiplies by each number: the integer sums times the activations' scale.
  PANGEA_DEVICE void Terms(const std::byte* row, int groups, int group, bool wide, float* terms) const {
    const float scale = reinterpret_cast<const float*>(row + int64_t{64} * groups)[group];
    const int32_t* const sums = reinterpret_cast<const int32_t*>(row + int64_t{68} * groups) + 2 * group;
    constexpr int kOffset = kFormat.bits == 8 ? 0 : kFormat.offset;
    int x[16];  // upper bytes, lower bytes
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i < 2 && !wide) continue;
      const Int4 four = LoadInt4(row + int64_t{64} * group + 16 * i);
      x[4 * i] = four.x, x[4 * i + 1] = four.y, x[4 * i + 2] = four.z, x[4 * i + 3] = four.w;
    }
    constexpr int kWords = kFormat.run / 4;
#pragma unroll
    for (int run = 0; run < kFormat.runs(); ++run) {
      int upper = 0, lower = 0;
#pragma unroll
      for (int i = run * kWords; i < (run + 1) * kWords; ++i) {
        if (wide) upper = Dot4(q[i], x[i], upper);
        lower = Dot4(q[i], x[8 + i], lower);
      }
      const int of_run = kFormat.run == kQuantGroup ? sums[0] + sums[1] : sums[run];
      terms[run] = static_cast<float>(256 * upper + lower - kOffset * of_run) * scale;
    }
    if constexpr (kFormat.minima) terms[kFormat.runs()] = static_cast<float>(sums[0] + sums[1]) * scale;
  }
};

template <int format>
PANGEA_DEVICE void ProductOf(const ProductKernelArgs& a) {
  constexpr int kTerms = Cell<format>::kTerms;
  const int warp = static_cast<int>(ThreadIndex().x) / 32, lane = static_cast<int>(ThreadIndex().x) % 32;
  const int64_t panels = (int64_t{a.n} + kPanel - 1) / kPanel, panel = int64_t{BlockIndex().y} * 2 + lane / kPanel;
  const std::byte* const w = a.w + (panel < panels ? panel : panels - 1) * a.panel_bytes;
  const int64_t row = int64_t{BlockIndex().x} * a.rows, column = int64_t{BlockIndex().y} * kColumns + lane;
  const int rows = static_cast<int>(a.m - row < a.rows ? a.m - row : a.rows);
  const int groups = a.k / kQuantGroup;
  // Twice, so that a round is made while a slow warp still reads the one before.
  const int round_floats = kWarps * kTerms * (a.rows + 1) * kColumns;
  float stack[kMostDepth];
  float f = 0;
  int top = 0, leaf = 0, cut = a.leaves.cuts[1];

  for (int begin = 0; begin < groups; begin += kWarps) {
    float* const terms =
        Shared<float>() + begin / kWarps % 2 * round_floats;  // [group][term][rows, then the number][column]
    if (begin + warp < groups) {
      const Cell<format> cell(w, begin + warp, lane % kPanel);
      float* const mine = terms + warp * kTerms * (a.rows + 1) * kColumns + lane;
#pragma unroll
      for (int i = 0; i < kTerms; ++i) mine[(i * (a.rows + 1) + a.rows) * kColumns] = cell.numbers[i];
      for (int r = 0; r < rows; ++r) {
        float made[kTerms];
        cell.Terms(a.a + (row + r) * a.row_bytes, groups, begin + warp, a.wide, made);
#pragma unroll
        for (int i = 0; i < kTerms; ++i) mine[(i * (a.rows + 1) + r) * kColumns] = made[i];
      }
    }
    Sync();
    if (warp >= rows) continue;  // this warp's row is none
    const int end = groups - begin < kWarps ? groups - begin : kWarps;
    for (int g = 0; g < end; ++g) {
#pragma unroll
      for (int i = 0; i < kTerms; ++i) {
        const float* const at = terms + (g * kTerms + i) * (a.rows + 1) * kColumns + lane;
        f = Fma(at[warp * kColumns], at[a.rows * kColumns], f);
      }
      if ((begin + g + 1) * kQuantGroup < cut) continue;
      stack[top++] = f;
      f = 0;
      for (int merge = 0; merge < a.leaves.merges[leaf]; ++merge, --top)
        stack[top - 2] = stack[top - 2] + stack[top - 1];
      if (++leaf < a.leaves.count) cut = a.leaves.cuts[leaf + 1];
    }
  }
  if (warp >= rows || column >= a.n) return;
  for (int v = 0; v < a.vectors; ++v) {
    const float y = stack[v];
    a.y[(int64_t{v} * a.m + row + warp) * a.ldy + column] = a.bias != nullptr ? y + a.bias[column] : y;
  }
}

constexpr int FormatOf(DType dtype) {
  for (int i = 0; i < static_cast<int>(std::size(kQuantFormats)); ++i) {
    if (kQuantFormats[i].dtype == dtype) return i;
  }
  return -1;
}

}  // namespace

// Grid: (rows / a.rows, columns / 32); a.rows at most kWarps. Shared: two rounds of terms.
PANGEA_KERNEL_FOR(ProductQ8_0, ProductKernelArgs, 256, 4) { ProductOf<FormatOf(DType::kQ8_0)>(a); }
PANGEA_KERNEL_FOR(ProductQ4_0, ProductKernelArgs, 256, 4) { ProductOf<FormatOf(DType::kQ4_0)>(a); }
PANGEA_KERNEL_FOR(ProductQ4_1, ProductKernelArgs, 256, 4) { ProductOf<FormatOf(DType::kQ4_1)>(a); }
PANGEA_KERNEL_FOR(ProductQ5_0, ProductKernelArgs, 256, 4) { ProductOf<FormatOf(DType::kQ5_0)>(a); }
PANGEA_KERNEL_FOR(ProductQ5_1, ProductKernelArgs, 256, 4) { ProductOf<FormatOf(DType::kQ5_1)>(a); }
PANGEA_KERNEL_FOR(ProductQ4K, ProductKernelArgs, 256, 4) { ProductOf<FormatOf(DType::kQ4_K)>(a); }
PANGEA_KERNEL_FOR(ProductQ5K, ProductKernelArgs, 256, 4) { ProductOf<FormatOf(DType::kQ5_K)>(a); }
PANGEA_KERNEL_FOR(ProductQ6K, ProductKernelArgs, 256, 4) { ProductOf<FormatOf(DType::kQ6_K)>(a); }

}  // namespace pangea::cuda
