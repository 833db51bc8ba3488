// Log-sum-exp and draws: docs/exactness.md section 5.
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/vec.h"
#include "kernels/exact_math.h"

namespace pangea::PANGEA_ISA {
namespace {

constexpr float kInfinity = __builtin_inff();

// Largest value and lowest index of it, lane by lane, then over lanes.
struct Best {
  F32 value{-kInfinity};
  I32 index{0};
  PANGEA_INLINE void Offer(F32 v, I32 i) {
    const Mask more = Less(value, v);
    value = Select(more, v, value);
    index = SelectInt(more, i, index);
  }
  // A lane that was never offered more than -inf keeps index 0, which is right when all are so.
  PANGEA_INLINE int64_t Finish(float* best) const {
    float values[16];
    int32_t indices[16];
    Store(values, value);
    StoreInt(indices, index);
    int at = 0;
    for (int i = 1; i < 16; ++i) {
      if (values[i] > values[at] || (values[i] == values[at] && indices[i] < indices[at])) at = i;
    }
    *best = values[at];
    return indices[at];
  }
};

// Philox4x32-10 on 16 counters at once (Salmon et al., 2011).
PANGEA_INLINE void Philox(I32 counter, uint32_t position, uint32_t choice, uint64_t seed, I32* word) {
  I32 c0 = counter, c1(static_cast<int32_t>(position)), c2(static_cast<int32_t>(choice)), c3(0);
  uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
  const I32 m0(static_cast<int32_t>(0xD2511F53u)), m1(static_cast<int32_t>(0xCD9E8D57u));
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
    I32 high0, low0, high1, low1;
    MulWide(c0, m0, &high0, &low0);
    MulWide(c2, m1, &high1, &low1);
    c0 = XorInt(XorInt(high1, c1), I32(static_cast<int32_t>(key0)));
    c2 = XorInt(XorInt(high0, c3), I32(static_cast<int32_t>(key1)));
    c1 = low1;
    c3 = low0;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  word[0] = c0, word[1] = c1, word[2] = c2, word[3] = c3;
}

}  // namespace

void LseChunks(const float* x, int64_t n, float* out) {
  for (; n > 0; n -= kLseChunk, x += kLseChunk, out += 2) {
    const int64_t size = Smaller<int64_t>(n, kLseChunk);
    F32 largest(-kInfinity);
    for (int64_t i = 0; i < size; i += 16) {
      largest = size - i >= 16 ? Max(largest, Load(x + i))
                               : Select(FirstN(size - i), Max(largest, LoadPartial(x + i, size - i)), largest);
    }
    const float m = LaneMax(largest);
    F32 sums(0.0f);
    if (m != -kInfinity) {
      for (int64_t i = 0; i < size; i += 16) {
        const F32 added = Add(sums, Exp(Sub(LoadSome(x + i, size - i), F32(m))));
        sums = size - i >= 16 ? added : Select(FirstN(size - i), added, sums);
      }
    }
    out[0] = m;
    out[1] = LaneSum(sums);
  }
}

float LseFold(const float* pairs, int64_t chunks) {
  float m = -kInfinity;
  for (int64_t c = 0; c < chunks; ++c) m = m > pairs[2 * c] ? m : pairs[2 * c];
  if (m == -kInfinity) return -kInfinity;
  float sum = 0;
  for (int64_t c = 0; c < chunks; ++c) sum = sum + pairs[2 * c + 1] * First(Exp(F32(pairs[2 * c] - m)));
  return First(Log(F32(sum))) + m;
}

float ExpOne(float x) { return First(Exp(F32(x))); }
float LogOne(float x) { return First(Log(F32(x))); }

int64_t GumbelArgmax(const float* x, int64_t n, int64_t first, uint64_t seed, uint32_t position, uint32_t choice,
                     float* value) {
  Best best;
  const I32 iota = Iota();
  // Lane 4a + b takes counter 4b + a: the transposed words then belong to 64 ids in a row.
  alignas(64) int32_t order[16];
  for (int i = 0; i < 16; ++i) order[i] = i % 4 * 4 + i / 4;
  const I32 lanes = LoadInt(order);
  const int64_t base =
      first / 4 * 4;  // 64 ids at a time, on counters: what lies before `first` or after the end is -inf
  for (int64_t id = base; id < first + n; id += 64) {
    I32 bits[4];
    Philox(AddInt(lanes, I32(static_cast<int32_t>(id / 4))), position, choice, seed, bits);
    TransposeQuads(bits);
#pragma GCC unroll 4
    for (int part = 0; part < 4; ++part) {
      const int64_t begin = id + 16 * part - first;  // index into x
      if (begin >= n) break;
      alignas(64) float edge[16];
      const float* values = x + begin;
      if (begin < 0 || begin + 16 > n) {
        for (int i = 0; i < 16; ++i) edge[i] = begin + i >= 0 && begin + i < n ? x[begin + i] : -kInfinity;
        values = edge;
      }
      best.Offer(Add(Load(values), Gumbel<F32>(bits[part])), AddInt(iota, I32(static_cast<int32_t>(begin))));
    }
  }
  return best.Finish(value);
}

int64_t Argmax(const float* x, int64_t n, float* value) {
  Best best;
  const I32 iota = Iota();
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) best.Offer(Load(x + i), AddInt(iota, I32(static_cast<int32_t>(i))));
  if (i < n)
    best.Offer(Select(FirstN(n - i), LoadPartial(x + i, n - i), F32(-kInfinity)),
               AddInt(iota, I32(static_cast<int32_t>(i))));
  return best.Finish(value);
}

bool AllFinite(const float* x, int64_t n) {
  I32 largest(0);
  const I32 mask(0x7fffffff);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) largest = MaxInt(largest, AndInt(LoadInt(x + i), mask));
  if (i < n) largest = MaxInt(largest, AndInt(AsInt(LoadPartial(x + i, n - i)), mask));
  return LaneMaxInt(largest) < 0x7f800000;
}

}  // namespace pangea::PANGEA_ISA
