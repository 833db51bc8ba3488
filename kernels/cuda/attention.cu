// Attention over the pages: partitions of 128 positions, folded from the left (docs/exactness.md, section 4). A block
// reads each key and value once for up to kQueryChunk queries.
#include "kernels/cuda/device_math.h"

namespace pangea::cuda {
namespace {

constexpr int kThreads = kPartition;             // a thread a position, then a thread an element of the head
constexpr int kSlots = kMostHeadDim / kThreads;  // elements a thread, at most

template <DType type>
PANGEA_DEVICE float LoadPage(const std::byte* extent, int64_t element, float scale) {
  if constexpr (type == DType::kI8) return static_cast<float>(static_cast<int8_t>(extent[element])) * scale;
  if constexpr (type == DType::kF8E4M3) {
    const uint8_t q = static_cast<uint8_t>(extent[element]);
    const uint16_t nan = (q & 0x7fu) == 0x7fu ? 0x7c00u : 0;
    return FromF16(static_cast<uint16_t>(F8AsF16(q) | nan)) * 256.0f;
  }
  return LoadPlain<type>(extent, element);
}

// What a block works on, in shared memory.
struct Tile {
  float* q;       // [kQueryChunk][d]
  float* p;       // [kQueryChunk][kPartition] scores, then probabilities
  float* m;       // [kQueryChunk] of the partition
  float* l;       // [kQueryChunk]
  float* mine;    // [kQueryChunk] factors of a fold
  float* before;  // [kQueryChunk]
  int32_t* low;   // [kQueryChunk] positions that a query sees
  int32_t* high;  // [kQueryChunk]
};
PANGEA_DEVICE Tile TileOf(int d) {
  Tile tile;
  tile.q = Shared<float>();
  tile.p = tile.q + kQueryChunk * d;
  tile.m = tile.p + kQueryChunk * kPartition;
  tile.l = tile.m + kQueryChunk;
  tile.mine = tile.l + kQueryChunk;
  tile.before = tile.mine + kQueryChunk;
  tile.low = reinterpret_cast<int32_t*>(tile.before + kQueryChunk);
  tile.high = tile.low + kQueryChunk;
  return tile;
}

struct Run {
  int64_t low, high;  // positions that any query of the chunk sees
};

// Queries of the chunk into shared memory, with what each sees; those that are none see nothing.
PANGEA_DEVICE Run LoadQueries(const AttentionKernelArgs& a, const AttentionItem& item, int first, int n,
                              const Tile& tile) {
  const int t = static_cast<int>(ThreadIndex().x), d = a.pages.head_dim;
  for (int i = t; i < kQueryChunk * d; i += kThreads) {
    const int query = first + i / d;
    const int64_t row = item.row + query / item.heads, head = item.head + query % item.heads;
    tile.q[i] = i / d < n ? a.q[row * a.ldq + head * d + i % d] : 0;
  }
  if (t < kQueryChunk) {
    const int32_t high = t < n ? a.positions[item.row + (first + t) / item.heads] : -1;
    tile.high[t] = high;
    tile.low[t] = a.window > 0 && high >= a.window ? high - a.window + 1 : 0;
  }
  Sync();
  Run run{tile.low[0], tile.high[0]};
  for (int i = 1; i < n; ++i) {
    run.low = tile.low[i] < run.low ? tile.low[i] : run.low;
    run.high = tile.high[i] > run.high ? tile.high[i] : run.high;
  }
  return run;
}

// Scores of one partition: a thread a position.
template <DType type>
PANGEA_DEVICE void Scores(const AttentionKernelArgs& a, const std::byte* head, const int32_t* table, int64_t partition,
                          const Run& run, const Tile& tile) {
  const int t = static_cast<int>(ThreadIndex().x), d = a.pages.head_dim;
  const int64_t position = partition * kPartition + t;
  float f[kQueryChunk] = {};
  if (position >= run.low && position <= run.high) {
    const std::byte* const extent = head + table[position / a.pages.block_tokens] * a.pages.block_stride;
    const int64_t token = position % a.pages.block_tokens, page = token / 16 * 16 * d + token % 16;
    float scale = 1;
    if constexpr (type == DType::kI8)
      scale = reinterpret_cast<const float*>(extent + int64_t{a.pages.block_tokens} * d)[token];
    for (int i = 0; i < d; ++i) {
      const float k = LoadPage<type>(extent, page + i * 16, scale);
#pragma unroll
      for (int query = 0; query < kQueryChunk; ++query) f[query] = Fma(k, tile.q[query * d + i], f[query]);
    }
  }
#pragma unroll
  for (int query = 0; query < kQueryChunk; ++query) {
    const bool seen = position >= tile.low[query] && position <= tile.high[query];
    tile.p[query * kPartition + t] = seen ? f[query] : kMinusInfinity;
  }
}

// Scores become probabilities relative to the partition's largest, and their sum: 16 lanes a query.
PANGEA_DEVICE void Softmax(const Tile& tile) {
  const int query = static_cast<int>(ThreadIndex().x) / kLanes, lane = static_cast<int>(ThreadIndex().x) % kLanes;
  float* const p = tile.p + query * kPartition + lane;
  float m = kMinusInfinity;
  for (int j = 0; j < kPartition; j += kLanes) m = MaxOf(m, p[j]);
  m = LaneMaxOf(m);
  float sum = 0;
  for (int j = 0; j < kPartition; j += kLanes) {
    p[j] = ExpOf(p[j] - m);
    sum = sum + p[j];
  }
  sum = LaneSumOf(sum);
  if (lane == 0) {
    tile.m[query] = m;
    tile.l[query] = sum;
  }
}

// o[query] = values weighted by the probabilities, for element i of the head.
template <DType type>
PANGEA_DEVICE void Weigh(const AttentionKernelArgs& a, const std::byte* head, const int32_t* table, int64_t partition,
                         const Run& run, const Tile& tile, int i, float* o) {
  const int d = a.pages.head_dim;
  const int64_t begin = partition * kPartition, from = begin > run.low ? begin : run.low;
  const int64_t end = begin + kPartition <= run.high ? begin + kPartition : run.high + 1;
#pragma unroll
  for (int query = 0; query < kQueryChunk; ++query) o[query] = 0;
  for (int64_t position = from; position < end; ++position) {
    const std::byte* const extent =
        head + table[position / a.pages.block_tokens] * a.pages.block_stride + a.pages.v_offset;
    const int64_t token = position % a.pages.block_tokens;
    float scale = 1;
    if constexpr (type == DType::kI8)
      scale = reinterpret_cast<const float*>(extent + int64_t{a.pages.block_tokens} * d)[token];
    const float v = LoadPage<type>(extent, token * d + i, scale);
#pragma unroll
    for (int query = 0; query < kQueryChunk; ++query) {
      const bool seen = position >= tile.low[query] && position <= tile.high[query];
      if (seen) o[query] = Fma(v, tile.p[query * kPartition + position - begin], o[query]);
    }
  }
#pragma unroll
  for (int query = 0; query < kQueryChunk; ++query) o[query] = o[query] + 0.0f;
}

// How a partial joins the state in front of it; *m and *l are the state's. A partial that saw nothing changes nothing.
struct Fold {
  float mine, before;
};
PANGEA_DEVICE Fold FoldOf(float part_m, float part_l, float* m, float* l) {
  if (part_m == kMinusInfinity) return {0, 1};
  const float largest = MaxOf(*m, part_m);
  const Fold fold{ExpOf(part_m - largest), ExpOf(*m - largest)};
  *m = largest;
  *l = Fma(part_l, fold.mine, *l * fold.before);
  return fold;
}

PANGEA_DEVICE float* OutOf(const AttentionKernelArgs& a, const AttentionItem& item, int query) {
  const int64_t row = item.row + query / item.heads, head = item.head + query % item.heads;
  return a.out + row * a.ldo + head * a.pages.head_dim;
}

template <DType type>
PANGEA_DEVICE void AttentionOf(const AttentionKernelArgs& a) {
  const AttentionItem item = a.items[BlockIndex().x];
  const int first = static_cast<int>(BlockIndex().y) * kQueryChunk, queries = item.rows * item.heads;
  const int n = queries - first < kQueryChunk ? queries - first : kQueryChunk;
  const int apart = item.first + a.from + static_cast<int>(BlockIndex().z);
  if (n <= 0 || (a.span > 0 && apart > item.last)) return;
  const int t = static_cast<int>(ThreadIndex().x), d = a.pages.head_dim;
  const Tile tile = TileOf(d);
  const Run run = LoadQueries(a, item, first, n, tile);
  const std::byte* const head = a.pages.base + item.kv_head * a.pages.head_stride;
  const int32_t* const table = a.tables + a.slots[item.row] * a.stride;

  float state[kSlots][kQueryChunk] = {};
  float m = kMinusInfinity, l = 0;  // of query t, in its thread
  const int from = a.span > 0 ? apart : item.first, last = a.span > 0 ? apart : item.last;
  for (int partition = from; partition <= last; ++partition) {
    Scores<type>(a, head, table, partition, run, tile);
    Sync();
    Softmax(tile);
    Sync();
    if (t < kQueryChunk && a.span == 0) {
      const Fold fold = FoldOf(tile.m[t], tile.l[t], &m, &l);
      tile.mine[t] = fold.mine;
      tile.before[t] = tile.m[t] == kMinusInfinity ? -1.0f : fold.before;  // negative: nothing is folded
    }
    Sync();
#pragma unroll
    for (int slot = 0; slot < kSlots; ++slot) {
      const int i = t + slot * kThreads;
      if (i >= d) continue;
      float o[kQueryChunk];
      Weigh<type>(a, head, table, partition, run, tile, i, o);
      if (a.span > 0) {
        for (int query = 0; query < n; ++query) {
          const int64_t at = (int64_t{BlockIndex().x} * a.queries + first + query) * a.span + BlockIndex().z;
          a.partials[at * AttentionStride(d) + 16 + i] = o[query];
        }
        continue;
      }
#pragma unroll
      for (int query = 0; query < kQueryChunk; ++query) {
        if (tile.before[query] < 0) continue;
        state[slot][query] = Fma(o[query], tile.mine[query], state[slot][query] * tile.before[query]);
      }
    }
    Sync();  // scores and factors were read before the next partition's lie there
  }
  if (a.span > 0) {
    if (t >= n) return;
    const int64_t at = (int64_t{BlockIndex().x} * a.queries + first + t) * a.span + BlockIndex().z;
    float* const partial = a.partials + at * AttentionStride(d);
    partial[0] = tile.m[t];
    partial[1] = tile.l[t];
    return;
  }
  if (t < kQueryChunk) tile.l[t] = l;
  Sync();
#pragma unroll
  for (int slot = 0; slot < kSlots; ++slot) {
    const int i = t + slot * kThreads;
    if (i >= d) continue;
#pragma unroll
    for (int query = 0; query < kQueryChunk; ++query) {
      if (query < n) OutOf(a, item, first + query)[i] = state[slot][query] / tile.l[query];
    }
  }
}

}  // namespace

// Grid: (item, chunk of its queries, partition or 1). Shared: a Tile.
PANGEA_KERNEL(AttentionF16, AttentionKernelArgs, 128) { AttentionOf<DType::kF16>(a); }
PANGEA_KERNEL(AttentionBf16, AttentionKernelArgs, 128) { AttentionOf<DType::kBF16>(a); }
PANGEA_KERNEL(AttentionI8, AttentionKernelArgs, 128) { AttentionOf<DType::kI8>(a); }
PANGEA_KERNEL(AttentionF8, AttentionKernelArgs, 128) { AttentionOf<DType::kF8E4M3>(a); }

// Partitions that were computed apart, from the left, onto what the ones before came to. Grid: (item, query).
PANGEA_KERNEL(AttentionFold, AttentionKernelArgs, 128) {
  const AttentionItem item = a.items[BlockIndex().x];
  const int query = static_cast<int>(BlockIndex().y), d = a.pages.head_dim;
  if (query >= item.rows * item.heads || item.first + a.from > item.last) return;
  const int64_t at = int64_t{BlockIndex().x} * a.queries + query, stride = AttentionStride(d);
  float* const state = a.states + at * stride;
  const float* const partials = a.partials + at * a.span * stride;
  const int left = item.last - item.first + 1 - a.from, count = left < a.span ? left : a.span;
  float m0 = kMinusInfinity, l0 = 0;
  if (a.from > 0) m0 = state[0], l0 = state[1];
  Sync();  // read by all before one thread writes them
  for (int i = static_cast<int>(ThreadIndex().x); i < d; i += kThreads) {
    float m = m0, l = l0, o = a.from > 0 ? state[16 + i] : 0;
    for (int j = 0; j < count; ++j) {
      const float* const partial = partials + j * stride;
      const bool saw = partial[0] != kMinusInfinity;
      const Fold fold = FoldOf(partial[0], partial[1], &m, &l);
      if (saw) o = Fma(partial[16 + i], fold.mine, o * fold.before);
    }
    state[16 + i] = o;
    if (i == 0) state[0] = m, state[1] = l;
    if (left <= a.span) OutOf(a, item, query)[i] = o / l;
  }
}

}  // namespace pangea::cuda
