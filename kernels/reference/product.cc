// Products as plain scalar loops: docs/exactness.md section 1, docs/activations.md "Definition".
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/half.h"
#include "kernels/reference/reference.h"
#include "kernels/weight.h"

namespace pangea::reference {
namespace {

// A packed group of a row: scale, then integers.
struct Group {
  float scale;
  int32_t x[kQuantGroup];
};

void QuantiseGroup(const float* v, bool wide, Group* out) {
  const float top = wide ? 32639.0f : 127.0f;
  uint32_t largest = 0;
  for (int i = 0; i < kQuantGroup; ++i) {
    const uint32_t bits = __builtin_bit_cast(uint32_t, v[i]) & 0x7fffffffu;
    if (bits > largest) largest = bits;
  }
  const float amax = __builtin_bit_cast(float, largest);
  *out = Group{};
  if (largest >= 0x7f800000u) {
    out->scale = std::numeric_limits<float>::quiet_NaN();
    return;
  }
  if (amax < 0x1p-96f) return;
  out->scale = amax / top;
  const float inverse = top / amax;
  for (int i = 0; i < kQuantGroup; ++i) out->x[i] = static_cast<int32_t>(std::lrintf(v[i] * inverse));
}

uint16_t Half(const std::byte* p) {
  uint16_t h;
  std::memcpy(&h, p, 2);
  return h;
}

// Weight k of a column in a cell.
int QuantisedWeight(const QuantFormat& format, const std::byte* cell, int column, int k) {
  const int quad = k / 4;
  const auto byte = [&](int line) { return static_cast<int>(cell[line * 64 + column * 4 + k % 4]); };
  if (format.bits == 8) return byte(quad) - format.offset;
  int q = quad < 4 ? byte(quad) & 15 : byte(quad - 4) >> 4;
  const int high = format.bits - 4;
  if (high > 0) q |= (byte(4 + quad * high / 8) >> (quad * high % 8) & ((1 << high) - 1)) << 4;
  return q - format.offset;
}

float QuantisedLeaf(const ProductArgs& args, const Group* a, int64_t column, int64_t k0, int64_t k1) {
  const QuantFormat& format = *FindFormat(args.dtype);
  const std::byte* panel = args.w + column / kPanel * args.panel_bytes;
  const int c = static_cast<int>(column % kPanel);
  float f = 0;
  for (int64_t k = k0; k < k1; k += kQuantGroup) {
    const std::byte* block = panel + k / format.block * format.packed_bytes();
    const std::byte* cell = block + format.head_bytes() + k % format.block / kQuantGroup * format.cell_bytes();
    // Scale or minimum `at` of the cell; level: which of the head's numbers it is relative to.
    const auto number = [&](int at, int level) {
      const std::byte* p = cell + format.line_bytes() + (at * kPanel + c) * format.number_bytes();
      if (!format.two_level) return F16ToF32(Half(p));
      return static_cast<float>(static_cast<int8_t>(*p)) * F16ToF32(Half(block + 2 * (level * kPanel + c)));
    };
    const Group& x = a[k / kQuantGroup];
    int64_t asum = 0;
    for (int run = 0; run < format.runs(); ++run) {
      int64_t isum = 0;
      for (int i = run * format.run; i < (run + 1) * format.run; ++i) {
        isum += static_cast<int64_t>(QuantisedWeight(format, cell, c, i)) * x.x[i];
        asum += x.x[i];
      }
      f = std::fmaf(static_cast<float>(static_cast<int32_t>(isum)) * x.scale, number(run, 0), f);
    }
    if (format.minima) {
      f = std::fmaf(static_cast<float>(static_cast<int32_t>(asum)) * x.scale, number(format.runs(), 1), f);
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
    if (args.dtype == DType::kF8E4M3) {
      const std::byte* run = panel + k / kScaleRun * F8RunBytes(width);
      float scale;
      std::memcpy(&scale, run + c * 4, 4);
      w = F16ToF32(F8AsF16(std::to_integer<uint8_t>(run[width * 4 + k % kScaleRun * width + c]))) * scale;
    } else if (args.dtype == DType::kF32) {
      std::memcpy(&w, panel + (k * width + c) * 4, 4);
    } else {
      const uint16_t h = Half(panel + (k * width + c) * 2);
      w = args.dtype == DType::kF16 ? F16ToF32(h) : Bf16ToF32(h);
    }
    f = std::fmaf(w, a[k], f);
  }
  return f;
}

}  // namespace

int64_t ActivationRowBytes(DType dtype, int64_t k, bool) {
  return IsQuantised(dtype) ? k / kQuantGroup * static_cast<int64_t>(sizeof(Group)) : k * 4;
}

void PackActivations(const PackArgs& args, int64_t row_begin, int64_t row_end) {
  for (int64_t i = row_begin; i < row_end; ++i) {
    const float* x = args.x + i * args.ldx;
    std::byte* out = args.out + i * args.row_bytes;
    if (IsQuantised(args.dtype)) {
      for (int64_t b = 0; b < args.k / kQuantGroup; ++b)
        QuantiseGroup(x + b * kQuantGroup, args.wide, reinterpret_cast<Group*>(out) + b);
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
        stack[top++] = IsQuantised(args.dtype) ? QuantisedLeaf(args, reinterpret_cast<const Group*>(a), j, k0, k1)
                                               : PlainLeaf(args, reinterpret_cast<const float*>(a), j, k0, k1);
        for (int merge = 0; merge < args.merges[leaf]; ++merge, --top) stack[top - 2] = stack[top - 2] + stack[top - 1];
      }
      for (int v = 0; v < args.vectors; ++v) args.y[(v * args.m + i) * args.ldy + j] = stack[v];
    }
  }
}

}  // namespace pangea::reference
