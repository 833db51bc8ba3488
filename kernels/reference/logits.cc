// Log-sum-exp and draws as plain scalar loops: docs/exactness.md section 5.
#include <cmath>
#include <limits>

#include "kernels/exact_math.h"
#include "kernels/reference/reference.h"
#include "kernels/reference/scalar.h"

namespace pangea::reference {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

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
    const PhiloxWords random = Philox({{static_cast<uint32_t>(id / 4), position, choice, 0}}, seed);
    const float sum = x[i] + Gumbel<F32>(I32(static_cast<int32_t>(random.word[id % 4]))).v;
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
