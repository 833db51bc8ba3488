// KV pages and attention: docs/exactness.md section 4. Lanes of a score are 16 tokens (a K page is a weight panel),
// lanes of an output are 16 elements of the head; queries that share pages share every load.
#include "kernels/attention.h"

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/vec.h"
#include "kernels/exact_math.h"

namespace pangea::PANGEA_ISA {
namespace {

constexpr int kPages = kPartition / 16;
constexpr float kInfinity = __builtin_inff();

// Queries that one inner loop serves, and how many vectors (pages, or parts of the head) it takes at a time: as many
// independent chains as registers hold.
constexpr int kGroup = kAttentionQueries;
template <int Q>
inline constexpr int kVectors = Q * 4 <= kAttentionAccumulators   ? 4
                                : Q * 2 <= kAttentionAccumulators ? 2
                                                                  : 1;

PANGEA_INLINE float Exp1(float x) { return First(Exp(F32(x))); }

struct KvF16 {
  static constexpr int kBytes = 2;
  static constexpr bool kScaled = false;
  static PANGEA_INLINE F32 Full(const std::byte* p) { return LoadF16(p); }
  static PANGEA_INLINE F32 Partial(const std::byte* p, int64_t n) { return LoadF16Partial(p, n); }
};
struct KvBf16 {
  static constexpr int kBytes = 2;
  static constexpr bool kScaled = false;
  static PANGEA_INLINE F32 Full(const std::byte* p) { return LoadBf16(p); }
  static PANGEA_INLINE F32 Partial(const std::byte* p, int64_t n) { return LoadBf16Partial(p, n); }
};
struct KvI8 {
  static constexpr int kBytes = 1;
  static constexpr bool kScaled = true;  // float(k) * scale, one product, then the text of the others
  static PANGEA_INLINE F32 Full(const std::byte* p) { return LoadI8(p); }
  static PANGEA_INLINE F32 Partial(const std::byte* p, int64_t n) { return LoadI8Partial(p, n); }
};
struct KvF8 {
  static constexpr int kBytes = 1;
  static constexpr bool kScaled = false;
  static PANGEA_INLINE F32 Full(const std::byte* p) { return LoadF8(p); }
  static PANGEA_INLINE F32 Partial(const std::byte* p, int64_t n) {
    alignas(16) std::byte some[16] = {};
    __builtin_memcpy(some, p, static_cast<uint64_t>(n));
    return LoadF8(some);
  }
};

// Where the 8 pages of a partition lie; only those in [first, last] are set.
struct Pages {
  int first, last;
  const std::byte* k[kPages];
  const float* k_scale[kPages];  // of the page's 16 tokens
  const std::byte* v[kPages];
  const float* v_scale[kPages];
};

// The tokens of the partition that any query of the tile sees: [low, high], relative to its start; false: none.
bool VisibleTokens(const AttentionTile& tile, int64_t partition, int* low, int* high) {
  int64_t newest = tile.position[0], oldest = tile.position[0];
  for (int q = 1; q < tile.queries; ++q) {
    newest = Larger<int64_t>(newest, tile.position[q]);
    oldest = Smaller<int64_t>(oldest, tile.position[q]);
  }
  const int64_t start = partition * kPartition;
  const int64_t first = tile.window > 0 ? Larger<int64_t>(0, oldest - tile.window + 1 - start) : 0;
  const int64_t last = Smaller<int64_t>(kPartition - 1, newest - start);
  if (first > last) return false;
  *low = static_cast<int>(first);
  *high = static_cast<int>(last);
  return true;
}

Pages FindPages(const AttentionTile& tile, int64_t partition, int low, int high, int bytes) {
  const KvLayer& kv = *tile.kv;
  Pages pages;
  pages.first = low / 16;
  pages.last = high / 16;
  for (int p = pages.first; p <= pages.last; ++p) {
    const int64_t position = partition * kPartition + p * 16;
    const int64_t token = position % kv.block_tokens;
    const std::byte* extent = KExtent(kv, tile.kv_head, tile.table[position / kv.block_tokens]);
    const int64_t values = token * kv.head_dim * bytes;
    pages.k[p] = extent + values;
    pages.v[p] = extent + kv.v_offset + values;
    pages.k_scale[p] = reinterpret_cast<const float*>(extent + KvScaleOffset(kv)) + token;
    pages.v_scale[p] = reinterpret_cast<const float*>(extent + kv.v_offset + KvScaleOffset(kv)) + token;
  }
  return pages;
}

// Scores of Q queries, from query q0, against P pages from page p: s[q][128].
template <class T, int Q, int P>
PANGEA_INLINE void ScorePages(const Pages& pages, int p, const float* packed, int64_t d, float* s) {
  F32 acc[Q * P];
  F32 scale[P];
#pragma GCC unroll 24
  for (int i = 0; i < Q * P; ++i) acc[i] = F32(0.0f);
#pragma GCC unroll 4
  for (int i = 0; i < P; ++i) scale[i] = T::kScaled ? Load(pages.k_scale[p + i]) : F32(1.0f);
  for (int64_t e = 0; e < d; ++e) {
    F32 k[P];
#pragma GCC unroll 4
    for (int i = 0; i < P; ++i) {
      k[i] = T::Full(pages.k[p + i] + e * 16 * T::kBytes);
      if constexpr (T::kScaled) k[i] = Mul(k[i], scale[i]);
    }
#pragma GCC unroll 12
    for (int q = 0; q < Q; ++q) {
      const F32 x(packed[e * kMaxQueries + q]);
#pragma GCC unroll 4
      for (int i = 0; i < P; ++i) acc[q * P + i] = Fma(k[i], x, acc[q * P + i]);
    }
  }
#pragma GCC unroll 12
  for (int q = 0; q < Q; ++q) {
#pragma GCC unroll 4
    for (int i = 0; i < P; ++i) Store(s + q * kPartition + (p + i) * 16, acc[q * P + i]);
  }
}

template <class T, int Q>
void Scores(const Pages& pages, const float* packed, int64_t d, float* s) {
  constexpr int P = kVectors<Q>;
  int p = pages.first;
  for (; p + P <= pages.last + 1; p += P) ScorePages<T, Q, P>(pages, p, packed, d, s);
  for (; p <= pages.last; ++p) ScorePages<T, Q, 1>(pages, p, packed, d, s);
}

// o = fma(v[t], p[t], o) over tokens [low, high] for Q queries and C vectors of the head from element e; C = 1 may be
// partial.
template <class T, int Q, int C>
PANGEA_INLINE void WeighValues(const Pages& pages, int low, int high, const float* s, int64_t d, int64_t e, float* o) {
  const int64_t stride = AttentionStride(d);
  const bool whole = e + 16 * C <= d;
  F32 acc[Q * C];
#pragma GCC unroll 24
  for (int i = 0; i < Q * C; ++i) acc[i] = F32(0.0f);
  for (int t = low; t <= high; ++t) {
    const std::byte* row = pages.v[t / 16] + (t % 16 * d + e) * T::kBytes;
    F32 v[C];
#pragma GCC unroll 4
    for (int i = 0; i < C; ++i) {
      v[i] = C > 1 || whole ? T::Full(row + i * 16 * T::kBytes) : T::Partial(row, d - e);
      if constexpr (T::kScaled) v[i] = Mul(v[i], F32(pages.v_scale[t / 16][t % 16]));
    }
#pragma GCC unroll 12
    for (int q = 0; q < Q; ++q) {
      const F32 p(s[q * kPartition + t]);
#pragma GCC unroll 4
      for (int i = 0; i < C; ++i) acc[q * C + i] = Fma(v[i], p, acc[q * C + i]);
    }
  }
#pragma GCC unroll 12
  for (int q = 0; q < Q; ++q) {
#pragma GCC unroll 4
    for (int i = 0; i < C; ++i) Store(o + q * stride + e + 16 * i, Add(acc[q * C + i], F32(0.0f)));
  }
}

template <class T, int Q>
void Values(const Pages& pages, int low, int high, const float* s, int64_t d, float* o) {
  constexpr int C = kVectors<Q>;
  int64_t e = 0;
  for (; e + 16 * C <= d; e += 16 * C) WeighValues<T, Q, C>(pages, low, high, s, d, e, o);
  for (; e < d; e += 16) WeighValues<T, Q, 1>(pages, low, high, s, d, e, o);
}

// One query: masks, maximum, exponentials in place; writes m and l. A query that sees nothing gets m = -inf and zeros.
void Softmax(const AttentionTile& tile, int q, int64_t partition, const Pages& pages, float* s, float* partial) {
  const int64_t start = partition * kPartition;
  const int64_t newest = tile.position[q] - start;
  const int64_t oldest = tile.window > 0 ? newest - tile.window + 1 : 0;
  const I32 last(static_cast<int32_t>(Smaller<int64_t>(kPartition, Larger<int64_t>(-1, newest))));
  const I32 first(static_cast<int32_t>(Smaller<int64_t>(kPartition, Larger<int64_t>(0, oldest))));
  F32 largest(-kInfinity);
  const bool all = oldest <= pages.first * 16 && newest >= pages.last * 16 + 15;
  for (int p = pages.first; p <= pages.last && all; ++p) largest = Max(largest, Load(s + 16 * p));
  for (int p = pages.first; p <= pages.last && !all; ++p) {
    const I32 token = AddInt(Iota(), I32(16 * p));
    F32 v = Load(s + 16 * p);
    v = Select(LessInt(last, token), F32(-kInfinity), Select(LessInt(token, first), F32(-kInfinity), v));
    Store(s + 16 * p, v);
    largest = Max(largest, v);
  }
  const float m = LaneMax(largest);
  partial[0] = m;
  F32 sums(0.0f);
  for (int p = pages.first; p <= pages.last; ++p) {
    const F32 e = m == -kInfinity ? F32(0.0f) : Exp(Sub(Load(s + 16 * p), F32(m)));
    Store(s + 16 * p, e);
    sums = Add(sums, e);
  }
  partial[1] = LaneSum(sums);
}

template <class T, int Q>
void Group(const AttentionTile& tile, int q0, int64_t partition, const Pages& pages, int low, int high,
           float* partial) {
  const int64_t d = tile.kv->head_dim;
  const int64_t stride = AttentionStride(d);
  alignas(64) float s[Q * kPartition];
  Scores<T, Q>(pages, tile.packed + q0, d, s);
  for (int q = 0; q < Q; ++q) Softmax(tile, q0 + q, partition, pages, s + q * kPartition, partial + (q0 + q) * stride);
  Values<T, Q>(pages, low, high, s, d, partial + q0 * stride + 16);
}

// What is left of a tile: at most Q queries.
template <class T, int Q>
void Rest(const AttentionTile& tile, int q0, int64_t partition, const Pages& pages, int low, int high, float* partial) {
  if constexpr (Q > 8) {
    if (tile.queries - q0 <= 8) return Rest<T, 8>(tile, q0, partition, pages, low, high, partial);
    Group<T, 8>(tile, q0, partition, pages, low, high, partial);
    return Rest<T, Q - 8>(tile, q0 + 8, partition, pages, low, high, partial);
  } else if constexpr (Q > 0) {
    if (tile.queries - q0 == Q) return Group<T, Q>(tile, q0, partition, pages, low, high, partial);
    return Rest<T, Q - 1>(tile, q0, partition, pages, low, high, partial);
  }
}

template <class T>
void Partial(const AttentionTile& tile, int64_t partition, float* partial) {
  int low, high;
  if (!VisibleTokens(tile, partition, &low, &high)) {
    for (int q = 0; q < tile.queries; ++q) partial[q * AttentionStride(tile.kv->head_dim)] = -kInfinity;
    return;
  }
  const Pages pages = FindPages(tile, partition, low, high, T::kBytes);
  int q = 0;
  for (; q + kGroup <= tile.queries; q += kGroup) Group<T, kGroup>(tile, q, partition, pages, low, high, partial);
  Rest<T, kGroup - 1>(tile, q, partition, pages, low, high, partial);
}

// Scale of an int8 token, by the rules of 8-bit activations; inverse 0: store zeros.
void Int8Scale(const float* x, int64_t d, float* scale, float* inverse) {
  int32_t bits = 0;
  for (int64_t i = 0; i < d; ++i) bits = Larger(bits, __builtin_bit_cast(int32_t, x[i]) & 0x7fffffff);
  *scale = *inverse = 0;
  if (bits >= 0x7f800000) {
    *scale = __builtin_nanf("");
  } else if (bits >= (127 - 96) << 23) {
    const float amax = __builtin_bit_cast(float, bits);
    *scale = amax / 127.0f;
    *inverse = 127.0f / amax;
  }
}

// 16 elements in the storage type, as 32-bit integers.
PANGEA_INLINE I32 Stored(DType dtype, F32 v, float inverse) {
  if (dtype == DType::kI8) return inverse == 0 ? I32(0) : ToInt(Mul(v, F32(inverse)));
  if (dtype == DType::kF8E4M3) return F8Bits(v);
  alignas(64) uint16_t half[16];
  if (dtype == DType::kBF16) return Bf16Bits(v);
  StoreF16(half, v);
  return LoadU16(half);
}

void WriteToken(const KvLayer& kv, std::byte* extent, int64_t token, bool key, const float* x) {
  const int64_t d = kv.head_dim;
  float inverse = 0;
  if (kv.dtype == DType::kI8) Int8Scale(x, d, reinterpret_cast<float*>(extent + KvScaleOffset(kv)) + token, &inverse);
  const int64_t first = key ? token / 16 * 16 * d + token % 16 : token * d;
  const int64_t step = key ? 16 : 1;
  for (int64_t e = 0; e < d; e += 16) {
    alignas(64) int32_t stored[16];
    StoreInt(stored, Stored(kv.dtype, LoadSome(x + e, d - e), inverse));
    const int64_t n = Smaller<int64_t>(16, d - e);
    if (kv.dtype == DType::kI8 || kv.dtype == DType::kF8E4M3) {
      int8_t* to = reinterpret_cast<int8_t*>(extent) + first + e * step;
      for (int64_t i = 0; i < n; ++i) to[i * step] = static_cast<int8_t>(stored[i]);
    } else {
      uint16_t* to = reinterpret_cast<uint16_t*>(extent) + first + e * step;
      for (int64_t i = 0; i < n; ++i) to[i * step] = static_cast<uint16_t>(stored[i]);
    }
  }
}

}  // namespace

void KvWrite(const KvLayer& kv, int kv_head, const int32_t* table, int64_t position, const float* k, const float* v) {
  std::byte* extent = KExtent(kv, kv_head, table[position / kv.block_tokens]);
  WriteToken(kv, extent, position % kv.block_tokens, true, k);
  WriteToken(kv, extent + kv.v_offset, position % kv.block_tokens, false, v);
}

// packed[e][query]: the elements of all queries side by side.
void AttentionPrepare(const AttentionTile& tile, float* packed) {
  const int64_t d = tile.kv->head_dim;
  for (int q = 0; q < tile.queries; ++q) {
    for (int64_t e = 0; e < d; ++e) packed[e * kMaxQueries + q] = tile.q[q][e];
  }
}

void AttentionPartial(const AttentionTile& tile, int64_t partition, float* partial) {
  switch (tile.kv->dtype) {
    case DType::kF16:
      return Partial<KvF16>(tile, partition, partial);
    case DType::kBF16:
      return Partial<KvBf16>(tile, partition, partial);
    case DType::kF8E4M3:
      return Partial<KvF8>(tile, partition, partial);
    default:
      return Partial<KvI8>(tile, partition, partial);
  }
}

void AttentionFold(const AttentionTile& tile, const float* partial, float* state) {
  const int64_t d = tile.kv->head_dim;
  const int64_t stride = AttentionStride(d);
  for (int q = 0; q < tile.queries; ++q, partial += stride, state += stride) {
    if (partial[0] == -kInfinity) continue;
    const float m = state[0] > partial[0] ? state[0] : partial[0];
    const float mine = Exp1(partial[0] - m);
    const float before = Exp1(state[0] - m);
    state[0] = m;
    state[1] = __builtin_fmaf(partial[1], mine, state[1] * before);
    for (int64_t e = 16; e < stride; e += 16) {
      Store(state + e, Fma(Load(partial + e), F32(mine), Mul(Load(state + e), F32(before))));
    }
  }
}

void AttentionFinish(const AttentionTile& tile, const float* state) {
  const int64_t d = tile.kv->head_dim;
  for (int q = 0; q < tile.queries; ++q, state += AttentionStride(d)) {
    const F32 l(state[1]);
    for (int64_t e = 0; e < d; e += 16) StoreSome(tile.out[q] + e, Div(Load(state + 16 + e), l), d - e);
  }
}

}  // namespace pangea::PANGEA_ISA
