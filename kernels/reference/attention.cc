// KV pages and attention as plain scalar loops: docs/exactness.md section 4.
#include "kernels/attention.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/exact_math.h"
#include "kernels/reference/reference.h"
#include "kernels/reference/scalar.h"

namespace pangea::reference {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

float Exp1(float x) { return Exp(F32(x)).v; }

void StoreValue(DType dtype, float f, float inverse, std::byte* to) {
  if (dtype == DType::kI8) {
    const int8_t q = static_cast<int8_t>(std::lrintf(f * inverse));
    std::memcpy(to, &q, 1);
    return;
  }
  if (dtype == DType::kF8E4M3) {
    *to = static_cast<std::byte>(F32ToF8(f));
    return;
  }
  const uint16_t h = dtype == DType::kF16 ? F32ToF16(f) : F32ToBf16(f);
  std::memcpy(to, &h, 2);
}

float LoadValue(DType dtype, const std::byte* from, const float* scale) {
  if (dtype == DType::kI8) return static_cast<float>(static_cast<int8_t>(*from)) * *scale;
  if (dtype == DType::kF8E4M3) return F8ToF32(std::to_integer<uint8_t>(*from));
  uint16_t h;
  std::memcpy(&h, from, 2);
  return dtype == DType::kF16 ? F16ToF32(h) : Bf16ToF32(h);
}

// Scale of an int8 token, by the rules of 8-bit activations.
void Int8Scale(const float* x, int64_t d, float* scale, float* inverse) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < d; ++i) {
    const uint32_t bits = __builtin_bit_cast(uint32_t, x[i]) & 0x7fffffffu;
    if (bits > largest) largest = bits;
  }
  const float amax = __builtin_bit_cast(float, largest);
  *scale = *inverse = 0;
  if (largest >= 0x7f800000u) {
    *scale = std::numeric_limits<float>::quiet_NaN();
  } else if (amax >= 0x1p-96f) {
    *scale = amax / 127.0f;
    *inverse = 127.0f / amax;
  }
}

// Element d of a token.
float KeyAt(const KvLayer& kv, const std::byte* extent, int64_t token, int64_t d) {
  const int64_t page = token / 16 * 16 * kv.head_dim;
  const float* scales = reinterpret_cast<const float*>(extent + KvScaleOffset(kv));
  return LoadValue(kv.dtype, extent + (page + d * 16 + token % 16) * KvElementBytes(kv.dtype), scales + token);
}
float ValueAt(const KvLayer& kv, const std::byte* extent, int64_t token, int64_t d) {
  const float* scales = reinterpret_cast<const float*>(extent + KvScaleOffset(kv));
  return LoadValue(kv.dtype, extent + (token * kv.head_dim + d) * KvElementBytes(kv.dtype), scales + token);
}

}  // namespace

void KvWrite(const KvLayer& kv, int kv_head, const int32_t* table, int64_t position, const float* k, const float* v) {
  std::byte* extent = KExtent(kv, kv_head, table[position / kv.block_tokens]);
  const int64_t token = position % kv.block_tokens;
  const int64_t d = kv.head_dim;
  for (int which = 0; which < 2; ++which, extent += kv.v_offset) {
    const float* x = which == 0 ? k : v;
    float inverse = 0;
    if (kv.dtype == DType::kI8) Int8Scale(x, d, reinterpret_cast<float*>(extent + KvScaleOffset(kv)) + token, &inverse);
    for (int64_t i = 0; i < d; ++i) {
      const int64_t element = which == 0 ? token / 16 * 16 * d + i * 16 + token % 16 : token * d + i;
      // A token that is not finite has a NaN scale; its integers do not matter, zero is representable.
      StoreValue(kv.dtype, inverse == 0 && kv.dtype == DType::kI8 ? 0.0f : x[i], inverse,
                 extent + element * KvElementBytes(kv.dtype));
    }
  }
}

void AttentionPrepare(const AttentionTile&, float*) {}

void AttentionPartial(const AttentionTile& tile, int64_t partition, float* partial) {
  const KvLayer& kv = *tile.kv;
  const int64_t d = kv.head_dim;
  for (int q = 0; q < tile.queries; ++q, partial += AttentionStride(d)) {
    float* o = partial + 16;
    partial[0] = -kInfinity;
    const int64_t high = tile.position[q];
    const int64_t low = tile.window > 0 ? high - tile.window + 1 : 0;
    float s[kPartition];
    bool any = false;
    for (int t = 0; t < kPartition; ++t) {
      const int64_t position = partition * kPartition + t;
      s[t] = -kInfinity;
      if (position > high || position < low) continue;
      any = true;
      const std::byte* extent = KExtent(kv, tile.kv_head, tile.table[position / kv.block_tokens]);
      float f = 0;
      for (int64_t i = 0; i < d; ++i) f = std::fmaf(KeyAt(kv, extent, position % kv.block_tokens, i), tile.q[q][i], f);
      s[t] = f;
    }
    if (!any) continue;
    const float m = LaneMax(s, kPartition).v;
    float sums[16] = {};
    for (int t = 0; t < kPartition; ++t) {
      s[t] = Exp1(s[t] - m);
      sums[t % 16] = sums[t % 16] + s[t];
    }
    partial[0] = m;
    partial[1] = LaneSum(sums);
    for (int64_t i = 0; i < d; ++i) o[i] = 0;
    for (int t = 0; t < kPartition; ++t) {
      const int64_t position = partition * kPartition + t;
      if (position > high || position < low) continue;
      const std::byte* extent = KExtent(kv, tile.kv_head, tile.table[position / kv.block_tokens]) + kv.v_offset;
      for (int64_t i = 0; i < d; ++i) o[i] = std::fmaf(ValueAt(kv, extent, position % kv.block_tokens, i), s[t], o[i]);
    }
    for (int64_t i = 0; i < d; ++i) o[i] = o[i] + 0.0f;
  }
}

void AttentionFold(const AttentionTile& tile, const float* partial, float* state) {
  const int64_t d = tile.kv->head_dim;
  const int64_t stride = AttentionStride(d);
  for (int q = 0; q < tile.queries; ++q, partial += stride, state += stride) {
    if (partial[0] == -kInfinity) continue;
    const float m = Max(F32(state[0]), F32(partial[0])).v;
    const float mine = Exp1(partial[0] - m);
    const float before = Exp1(state[0] - m);
    state[0] = m;
    state[1] = std::fmaf(partial[1], mine, state[1] * before);
    for (int64_t i = 16; i < 16 + d; ++i) state[i] = std::fmaf(partial[i], mine, state[i] * before);
  }
}

void AttentionFinish(const AttentionTile& tile, const float* state) {
  const int64_t d = tile.kv->head_dim;
  for (int q = 0; q < tile.queries; ++q, state += AttentionStride(d)) {
    for (int64_t i = 0; i < d; ++i) tile.out[q][i] = state[16 + i] / state[1];
  }
}

}  // namespace pangea::reference
