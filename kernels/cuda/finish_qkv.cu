// Norms over heads, rotation, the query's scale, and keys and values into their pages: docs/exactness.md.
#include "kernels/cuda/device_math.h"

namespace pangea::cuda {
namespace {

PANGEA_DEVICE void NormOfHead(float* x, int d, const float* w, float eps) {
  const int lane = static_cast<int>(ThreadIndex().x) % 32;
  float squares = 0;
  for (int j = lane; j < d && lane < kLanes; j += kLanes) squares = Fma(x[j], x[j], squares);
  const float root = SquareRoot(Shuffle(LaneSumOf(squares), 0) / static_cast<float>(d) + eps);
#pragma unroll 1
  for (int j = lane; j < d; j += 32) x[j] = x[j] / root * w[j];
  SyncWarp();
}

PANGEA_DEVICE void Rotate(float* x, const FinishQkvKernelArgs& a, int64_t position) {
  const int half = a.rot / 2;
  const bool halves = a.pairs == RopePairs::kHalves;
  for (int p = static_cast<int>(ThreadIndex().x) % 32; p < half; p += 32) {
    float& first = x[halves ? p : 2 * p];
    float& second = x[halves ? p + half : 2 * p + 1];
    const float u = first, v = second, c = a.cos[position * half + p], s = a.sin[position * half + p];
    first = Fma(u, c, -(v * s));
    second = Fma(v, c, u * s);
  }
  SyncWarp();
}

// A token's keys (K pages: [d][16 tokens]) or values ([token][d]) into their extent.
PANGEA_DEVICE void Store(const float* x, const Pages& pages, std::byte* extent, int64_t token, bool keys) {
  const int lane = static_cast<int>(ThreadIndex().x) % 32, d = pages.head_dim;
  Scales scales{};
  if (pages.dtype == DType::kI8) {
    uint32_t largest = 0;
    for (int j = lane; j < d; j += 32) {
      const uint32_t bits = Bits(x[j]) & 0x7fffffffu;
      largest = bits > largest ? bits : largest;
    }
    scales = ScalesOf(WarpMax(largest), 127.0f);
    if (lane == 0) reinterpret_cast<float*>(extent + int64_t{pages.block_tokens} * d)[token] = scales.scale;
  }
  for (int j = lane; j < d; j += 32) {
    const int64_t at = keys ? token / 16 * 16 * d + j * 16 + token % 16 : token * d + j;
    if (pages.dtype == DType::kI8) {
      reinterpret_cast<int8_t*>(extent)[at] =
          static_cast<int8_t>(scales.inverse == 0 ? 0 : RoundToInt(x[j] * scales.inverse));
    } else if (pages.dtype == DType::kF8E4M3) {
      reinterpret_cast<uint8_t*>(extent)[at] = F32ToF8(x[j]);
    } else {
      reinterpret_cast<uint16_t*>(extent)[at] = pages.dtype == DType::kF16 ? F32ToF16(x[j]) : F32ToBf16(x[j]);
    }
  }
}

}  // namespace

// A block a row, a warp a head. Shared: head_dim floats a warp.
PANGEA_KERNEL_FOR(FinishQkv, FinishQkvKernelArgs, 128, 8) {
  const int64_t row = BlockIndex().x;
  const int32_t slot = a.slots[row];
  if (slot < 0) return;
  const int d = a.pages.head_dim, kv = a.pages.kv_heads, lane = static_cast<int>(ThreadIndex().x) % 32;
  const int64_t position = a.positions[row];
  float* const x = Shared<float>(int64_t{ThreadIndex().x / 32} * d * 4);
  for (int head = static_cast<int>(ThreadIndex().x) / 32; head < a.heads + 2 * kv;
       head += static_cast<int>(BlockThreads()) / 32) {
    const bool query = head < a.heads, keys = !query && head < a.heads + kv;
    const int of_kv = query ? 0 : (head - a.heads) % kv;
    float* const at = query ? a.q + row * a.ldq + head * d : (keys ? a.k : a.v) + row * a.ld + of_kv * d;
    for (int j = lane; j < d; j += 32) x[j] = at[j];
    SyncWarp();
    const auto does = [&](uint32_t of_query, uint32_t of_key) {
      return (query && (a.parts & of_query) != 0) || (keys && (a.parts & of_key) != 0);
    };
    const float* const w = query ? a.q_norm : a.k_norm;
    if (does(kNormQuery, kNormKey) && w != nullptr) NormOfHead(x, d, w, a.eps);
    if (does(kRotateQuery, kRotateKey) && a.rot > 0) Rotate(x, a, position);
    const bool scaled = query && (a.parts & kScaleQuery) != 0;
    for (int j = lane; j < d && (query || keys); j += 32) at[j] = scaled ? x[j] * a.scale : x[j];
    if (!query && (a.parts & kStore) != 0) {
      const int32_t block = a.tables[slot * a.stride + position / a.pages.block_tokens];
      std::byte* const extent = a.pages.base + of_kv * a.pages.head_stride + block * a.pages.block_stride;
      Store(x, a.pages, keys ? extent : extent + a.pages.v_offset, position % a.pages.block_tokens, keys);
    }
    SyncWarp();  // the head is read before the next one lies there
  }
}

}  // namespace pangea::cuda
