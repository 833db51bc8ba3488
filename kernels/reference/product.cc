// Products as plain scalar loops: docs/exactness.md section 1, docs/activations.md "Definition".
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/half.h"
#include "kernels/reference/reference.h"
#include "kernels/weight.h"

namespace pangea::reference {
namespace {

// A packed block of a row: scale, then 32 integers.
struct Block {
  float scale;
  int32_t x[32];
};

void QuantiseBlock(const float* v, bool wide, Block* out) {
  const float top = wide ? 32639.0f : 127.0f;
  uint32_t largest = 0;
  for (int i = 0; i < 32; ++i) {
    const uint32_t bits = __builtin_bit_cast(uint32_t, v[i]) & 0x7fffffffu;
    if (bits > largest) largest = bits;
  }
  const float amax = __builtin_bit_cast(float, largest);
  *out = Block{};
  if (largest >= 0x7f800000u) {
    out->scale = std::numeric_limits<float>::quiet_NaN();
    return;
  }
  if (amax < 0x1p-96f) return;
  out->scale = amax / top;
  const float inverse = top / amax;
  for (int i = 0; i < 32; ++i) out->x[i] = static_cast<int32_t>(std::lrintf(v[i] * inverse));
}

uint16_t Half(const std::byte* p) {
  uint16_t h;
  std::memcpy(&h, p, 2);
  return h;
}

// Integer of weight (k = 0..31) of a column in a cell, without its offset.
int QuantisedWeight(DType dtype, const std::byte* cell, int column, int k) {
  if (dtype == DType::kQ8_0) return static_cast<int>(cell[k / 4 * 64 + column * 4 + k % 4]) - 128;
  const int byte = static_cast<int>(cell[k % 16 / 4 * 64 + column * 4 + k % 4]);
  const int q = k < 16 ? byte & 15 : byte >> 4;
  return dtype == DType::kQ4_0 ? q - 8 : q;
}

float QuantisedLeaf(const ProductArgs& args, const Block* a, int64_t column, int64_t k0, int64_t k1) {
  const std::byte* panel = args.w + column / kPanel * args.panel_bytes;
  const int c = static_cast<int>(column % kPanel);
  const int64_t cell_bytes = Info(args.dtype).cell;
  const int lines = args.dtype == DType::kQ8_0 ? 512 : 256;
  float f = 0;
  for (int64_t b = k0 / 32; b < k1 / 32; ++b) {
    const std::byte* cell = panel + b * cell_bytes;
    int64_t isum = 0, asum = 0;
    for (int i = 0; i < 32; ++i) {
      isum += static_cast<int64_t>(QuantisedWeight(args.dtype, cell, c, i)) * a[b].x[i];
      asum += a[b].x[i];
    }
    const float d = F16ToF32(Half(cell + lines + 2 * c));
    f = std::fmaf(static_cast<float>(static_cast<int32_t>(isum)) * a[b].scale, d, f);
    if (args.dtype == DType::kQ4_1) {
      const float minimum = F16ToF32(Half(cell + lines + 32 + 2 * c));
      f = std::fmaf(static_cast<float>(static_cast<int32_t>(asum)) * a[b].scale, minimum, f);
    }
  }
  return f;
}

float PlainLeaf(const ProductArgs& args, const float* a, int64_t column, int64_t k0, int64_t k1) {
  const std::byte* panel = args.w + column / kSuperPanel * args.panel_bytes;
  const int64_t padded = (args.n + kPanel - 1) / kPanel * kPanel;
  const int64_t first = column / kSuperPanel * kSuperPanel;
  const int64_t width = padded - first < kSuperPanel ? padded - first : kSuperPanel;
  const int64_t c = column % kSuperPanel;
  float f = 0;
  for (int64_t k = k0; k < k1; ++k) {
    float w;
    if (args.dtype == DType::kF32) {
      std::memcpy(&w, panel + (k * width + c) * 4, 4);
    } else {
      const uint16_t h = Half(panel + (k * width + c) * 2);
      w = args.dtype == DType::kF16 ? F16ToF32(h) : Bf16ToF32(h);
    }
    f = std::fmaf(w, a[k], f);
  }
  return f;
}

bool Quantised(DType dtype) { return dtype != DType::kF32 && dtype != DType::kF16 && dtype != DType::kBF16; }

}  // namespace

int64_t ActivationRowBytes(DType dtype, int64_t k, bool) {
  return Quantised(dtype) ? k / 32 * static_cast<int64_t>(sizeof(Block)) : k * 4;
}

void PackActivations(const PackArgs& args, int64_t row_begin, int64_t row_end) {
  for (int64_t i = row_begin; i < row_end; ++i) {
    const float* x = args.x + i * args.ldx;
    std::byte* out = args.out + i * args.row_bytes;
    if (Quantised(args.dtype)) {
      for (int64_t b = 0; b < args.k / 32; ++b) QuantiseBlock(x + b * 32, args.wide, reinterpret_cast<Block*>(out) + b);
      continue;
    }
    std::memcpy(out, x, static_cast<size_t>(args.k) * 4);
  }
}

void Product(const ProductArgs& args, const Block2D& block) {
  const int64_t width = PanelColumns(args.dtype);
  const int64_t column_end = block.panel_end * width < args.n ? block.panel_end * width : args.n;
  float* stack = args.stack;
  for (int64_t i = block.row_begin; i < block.row_end; ++i) {
    const std::byte* a = args.a + i * args.row_bytes;
    for (int64_t j = block.panel_begin * width; j < column_end; ++j) {
      int top = 0;
      for (int leaf = 0; leaf < args.leaves; ++leaf) {
        const int64_t k0 = args.cuts[leaf], k1 = args.cuts[leaf + 1];
        stack[top++] = Quantised(args.dtype) ? QuantisedLeaf(args, reinterpret_cast<const Block*>(a), j, k0, k1)
                                             : PlainLeaf(args, reinterpret_cast<const float*>(a), j, k0, k1);
        for (int merge = 0; merge < args.merges[leaf]; ++merge, --top) stack[top - 2] = stack[top - 2] + stack[top - 1];
      }
      for (int v = 0; v < args.vectors; ++v) args.y[(v * args.m + i) * args.ldy + j] = stack[v];
    }
  }
}

}  // namespace pangea::reference
