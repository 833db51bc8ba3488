// Packing of activations: docs/activations.md, "Definition" and "Layout".
#include "kernels/cpu/kernels.h"

#include PANGEA_ISA_DOT

namespace pangea::PANGEA_ISA {
namespace {

// One row's block of 32 into the packed tile: integers at `ints`, and lane `r` of the scales, offsets and sums at
// `tail`.
template <bool wide>
PANGEA_INLINE void QuantiseBlock(const float* v, int weight_offset, std::byte* ints, std::byte* tail, int tile_rows) {
  const F32 v0 = Load(v), v1 = Load(v + 16);
  const int32_t bits = LaneMaxInt(MaxInt(AsInt(Abs(v0)), AsInt(Abs(v1))));
  I32 x0(0), x1(0);
  float scale = 0;
  int32_t sum = 0;
  if (bits >= 0x7f800000) {
    scale = __builtin_nanf("");
  } else if (bits >= (127 - 96) << 23) {
    constexpr float kTop = wide ? 32639.0f : 127.0f;
    const float amax = __builtin_bit_cast(float, bits);
    scale = amax / kTop;
    const F32 inverse(kTop / amax);
    x0 = ToInt(Mul(v0, inverse));
    x1 = ToInt(Mul(v1, inverse));
    sum = LaneSumInt(AddInt(x0, x1));
  }
  StoreBlock<wide>(ints, x0, x1);
  const int32_t offset = -weight_offset * sum;
  const float scaled = static_cast<float>(sum) * scale;
  __builtin_memcpy(tail, &scale, 4);
  __builtin_memcpy(tail + 4 * tile_rows, &offset, 4);
  __builtin_memcpy(tail + 8 * tile_rows, &scaled, 4);
}

int WeightOffset(DType dtype) {
  return dtype == DType::kQ8_0 ? kWeightOffset<Format::kQ8> : dtype == DType::kQ4_0 ? kWeightOffset<Format::kQ40> : 0;
}

template <bool wide>
void PackQuantised(const PackArgs& args, int64_t row, int height) {
  const int offset = WeightOffset(args.dtype);
  const int64_t block = height * (kBlockInts<wide> + kBlockTail);
  for (int r = 0; r < height; ++r) {
    const float* x = args.x + (row + r) * args.ldx;
    std::byte* out = args.out + row * args.row_bytes;
    for (int64_t k = 0; k < args.k; k += 32, out += block) {
      QuantiseBlock<wide>(x + k, offset, out + r * kBlockInts<wide>, out + height * kBlockInts<wide> + 4 * r, height);
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
      return k * 4;
    default:
      return k / 32 * ((wide ? kBlockInts<true> : kBlockInts<false>)+kBlockTail);
  }
}

void PackActivations(const PackArgs& args, int64_t row_begin, int64_t row_end) {
  for (int64_t row = row_begin; row < row_end;) {
    const int height = TileHeight(row, args.m);
    switch (args.dtype) {
      case DType::kF32:
      case DType::kF16:
      case DType::kBF16:
        PackPlain(args, row, height);
        break;
      default:
        args.wide ? PackQuantised<true>(args, row, height) : PackQuantised<false>(args, row, height);
    }
    row += height;
  }
}

}  // namespace pangea::PANGEA_ISA
