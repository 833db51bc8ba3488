// Packing of activations: docs/activations.md, "Definition" and "Layout".
#include "kernels/cpu/kernels.h"

#include PANGEA_ISA_DOT

namespace pangea::PANGEA_ISA {
namespace {

// One row's group into the packed tile: integers at `ints`, and lane `r` of what stands behind them at `tail`.
template <DType dtype, bool wide>
PANGEA_INLINE void QuantiseGroup(const float* v, std::byte* ints, std::byte* tail, int tile_rows) {
  static_assert(kQuantGroup == 2 * 16);
  const F32 v0 = Load(v), v1 = Load(v + 16);
  const int32_t bits = LaneMaxInt(MaxInt(AsInt(Abs(v0)), AsInt(Abs(v1))));
  I32 x0(0), x1(0);
  float scale = 0;
  if (bits >= 0x7f800000) {
    scale = __builtin_nanf("");
  } else if (bits >= (127 - 96) << 23) {
    constexpr float kTop = wide ? 32639.0f : 127.0f;
    const float amax = __builtin_bit_cast(float, bits);
    scale = amax / kTop;
    const F32 inverse(kTop / amax);
    x0 = ToInt(Mul(v0, inverse));
    x1 = ToInt(Mul(v1, inverse));
  }
  StoreGroup<wide>(ints, x0, x1);
  __builtin_memcpy(tail, &scale, 4);
  constexpr QuantFormat kRow = kFormat<dtype>;
  if constexpr (kRow.runs() == 2) {
    static_assert(!kRow.minima);
    const int32_t offsets[] = {-kRow.offset * LaneSumInt(x0), -kRow.offset * LaneSumInt(x1)};
    __builtin_memcpy(tail + 4 * tile_rows, &offsets[0], 4);
    __builtin_memcpy(tail + 8 * tile_rows, &offsets[1], 4);
  } else {
    const int32_t sum = LaneSumInt(AddInt(x0, x1));
    const int32_t offset = -kRow.offset * sum;
    const float scaled = static_cast<float>(sum) * scale;
    __builtin_memcpy(tail + 4 * tile_rows, &offset, 4);
    __builtin_memcpy(tail + 8 * tile_rows, &scaled, 4);
  }
}

template <DType dtype, bool wide>
void PackQuantised(const PackArgs& args, int64_t row, int height) {
  const int64_t group = height * (kGroupInts<wide> + kGroupTail);
  for (int r = 0; r < height; ++r) {
    const float* x = args.x + (row + r) * args.ldx;
    std::byte* out = args.out + row * args.row_bytes;
    for (int64_t k = 0; k < args.k; k += kQuantGroup, out += group) {
      QuantiseGroup<dtype, wide>(x + k, out + r * kGroupInts<wide>, out + height * kGroupInts<wide> + 4 * r, height);
    }
  }
}

void PackPlain(const PackArgs& args, int64_t row, int height) {
  for (int r = 0; r < height; ++r) {
    const float* x = args.x + (row + r) * args.ldx;
    float* out = reinterpret_cast<float*>(args.out + row * args.row_bytes) + r;
    for (int64_t k = 0; k < args.k; ++k) out[k * height] = x[k];
  }
}

}  // namespace

int64_t ActivationRowBytes(DType dtype, int64_t k, bool wide) {
  switch (dtype) {
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
    case DType::kF8E4M3:
      return k * 4;
    default:
      return k / kQuantGroup * ((wide ? kGroupInts<true> : kGroupInts<false>)+kGroupTail);
  }
}

void PackActivations(const PackArgs& args, int64_t row_begin, int64_t row_end) {
  for (int64_t row = row_begin; row < row_end;) {
    const int height = TileHeight(row, args.m);
    switch (args.dtype) {
      case DType::kF32:
      case DType::kF16:
      case DType::kBF16:
      case DType::kF8E4M3:
        PackPlain(args, row, height);
        break;
      default:
        WithFormat(args.dtype, [&]<DType dtype>() {
          args.wide ? PackQuantised<dtype, true>(args, row, height) : PackQuantised<dtype, false>(args, row, height);
        });
    }
    row += height;
  }
}

}  // namespace pangea::PANGEA_ISA
