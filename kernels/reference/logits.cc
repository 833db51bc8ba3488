// Log-sum-exp and draws as plain scalar loops: docs/exactness.md section 5.
#include <cmath>
#include <limits>

#include "kernels/exact_math.h"
#include "kernels/reference/reference.h"
#include "kernels/reference/scalar.h"

namespace pangea::reference {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
void Philox(const uint32_t counter[4], uint64_t seed, uint32_t out[4]) {
  uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
  for (int i = 0; i < 4; ++i) out[i] = counter[i];
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = 0xD2511F53ull * out[0];
    const uint64_t p1 = 0xCD9E8D57ull * out[2];
    const uint32_t next[4] = {static_cast<uint32_t>(p1 >> 32) ^ out[1] ^ key0, static_cast<uint32_t>(p1),
                              static_cast<uint32_t>(p0 >> 32) ^ out[3] ^ key1, static_cast<uint32_t>(p0)};
    for (int i = 0; i < 4; ++i) out[i] = next[i];
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
}

}  // namespace

void LseChunks(const float* x, int64_t n, float* out) {
  for (int64_t begin = 0; begin < n; begin += kLseChunk, out += 2) {
    const int64_t end = begin + kLseChunk < n ? begin + kLseChunk : n;
    const F32 m = LaneMax(x + begin, end - begin);
    float lanes[16] = {};
    // A chunk of -inf alone has m = -inf: it adds nothing, and -inf - -inf must not make a NaN of it.
    if (m.v != -kInfinity) {
      for (int64_t i = begin; i < end; ++i) lanes[(i - begin) % 16] = lanes[(i - begin) % 16] + Exp(F32(x[i] - m.v)).v;
    }
    out[0] = m.v;
    out[1] = LaneSum(lanes);
  }
}

float LseFold(const float* pairs, int64_t chunks) {
  F32 m(-kInfinity);
  for (int64_t c = 0; c < chunks; ++c) m = Max(m, F32(pairs[2 * c]));
  if (m.v == -kInfinity) return -kInfinity;
  float sum = 0;
  for (int64_t c = 0; c < chunks; ++c) sum = sum + pairs[2 * c + 1] * Exp(F32(pairs[2 * c] - m.v)).v;
  return Log(F32(sum)).v + m.v;
}

float ExpOne(float x) { return Exp(F32(x)).v; }
float LogOne(float x) { return Log(F32(x)).v; }

int64_t GumbelArgmax(const float* x, int64_t n, int64_t first, uint64_t seed, uint32_t position, uint32_t choice,
                     float* value) {
  int64_t best = 0;
  *value = -kInfinity;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t id = first + i;
    const uint32_t counter[4] = {static_cast<uint32_t>(id / 4), position, choice, 0};
    uint32_t random[4];
    Philox(counter, seed, random);
    const float sum = x[i] + Gumbel<F32>(I32(static_cast<int32_t>(random[id % 4]))).v;
    if (sum > *value) {
      *value = sum;
      best = i;
    }
  }
  return best;
}

int64_t Argmax(const float* x, int64_t n, float* value) {
  int64_t best = 0;
  *value = -kInfinity;
  for (int64_t i = 0; i < n; ++i) {
    if (x[i] > *value) {
      *value = x[i];
      best = i;
    }
  }
  return best;
}

bool AllFinite(const float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    if ((__builtin_bit_cast(uint32_t, x[i]) & 0x7f800000u) == 0x7f800000u) return false;
  }
  return true;
}

}  // namespace pangea::reference
