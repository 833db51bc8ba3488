// Attention of many queries whose sums may have any order (kernels.exact: false), by tensor cores, as prompts have it:
// FlashAttention-2 (arXiv 2307.08691) over pages. A block computes an item of up to 64 queries, 16 a warp; keys and
// values come in tiles of 64 positions, the next one while this one is multiplied. Queries, and the probabilities
// before they meet the values, are rounded to the pages' type; sums are f32. How a tile is multiplied is `Cores`':
// attention_many.cu, attention_groups.cu.
#pragma once
#include "kernels/cuda/device_math.h"

namespace pangea::cuda {
namespace {  // of each source that includes it

constexpr int kTile = 64;         // positions
constexpr int kRowsOfAWarp = 16;  // queries
constexpr int kThreads = 4 * 32;
constexpr float kLog2OfE = 1.44269504088896341f;

// Chunks of 16 bytes in kTile rows of 64 numbers or, of more numbers, such a part behind another; and of keys D rows.
// Eight rows at one column lie in different banks: this is what CUDA calls swizzling by 128 bytes.
PANGEA_DEVICE std::byte* Chunk(std::byte* tile, int row, int chunk) {
  return tile + chunk / 8 * (kTile * 128) + (row * 8 + (chunk % 8 ^ (row & 7))) * 16;
}

// One tile: keys [D][kTile], as their pages have them, values [kTile][D].
template <int D>
struct KvTile {
  std::byte* k;
  std::byte* v;
};
template <int D>
PANGEA_DEVICE KvTile<D> TileAt(int number) {
  std::byte* const memory = Shared<std::byte>() + number * (2 * kTile * D * 2);
  return {memory, memory + kTile * D * 2};
}

struct Seen {
  int low, high;  // positions
};
PANGEA_DEVICE Seen SeenBy(const AttentionKernelArgs& a, int64_t row) {
  const int high = a.positions[row];
  return {a.window > 0 && high >= a.window ? high - a.window + 1 : 0, high};
}

// All threads: what of positions [begin, begin + kTile) any query sees, on its way; values that none sees become 0. A
// thread has always the same chunk of keys, and of values, so that it looks for few pages.
template <int D>
PANGEA_DEVICE void LoadTile(const AttentionKernelArgs& a, const std::byte* head, const int32_t* table, int begin,
                            const Seen& all, const KvTile<D>& tile) {
  const int t = static_cast<int>(ThreadIndex().x), d = a.pages.head_dim;
  static_assert(kTile * D * 2 % 1024 == 0);
  // Keys of a page, or null where none of its 16 positions is seen.
  const auto page_of = [&](int position) -> const std::byte* {
    if (position > all.high || position + 15 < all.low) return nullptr;
    const int block = position / a.pages.block_tokens, token = position - block * a.pages.block_tokens;
    return head + table[block] * a.pages.block_stride + int64_t{2} * token * d;
  };
  {
    const int chunk = t % (kTile / 8);
    const std::byte* const page = page_of(begin + chunk / 2 * 16);
    for (int row = t / (kTile / 8); row < d && page != nullptr; row += kThreads / (kTile / 8))
      CopyAsync16(Chunk(tile.k, row, chunk), page + 2 * (row * 16 + chunk % 2 * 8));
  }
  constexpr int kChunks = D / 8, kStep = kThreads / kChunks;  // kStep: rows that all threads have at a time
  const int chunk = t % kChunks;
  if (chunk * 8 >= d) return;
#pragma unroll
  for (int group = 0; group < kTile / 16; ++group) {
    const std::byte* const page = page_of(begin + group * 16);
#pragma unroll
    for (int first = 0; first < 16; first += kStep) {
      const int token = t / kChunks + first, row = group * 16 + token, position = begin + row;
      std::byte* const to = Chunk(tile.v, row, chunk);
      if (position > all.high || position < all.low) {
        StoreInt4(to, {0, 0, 0, 0});
        continue;
      }
      CopyAsync16(to, page + a.pages.v_offset + 2 * (token * d + chunk * 8));
    }
  }
}

// All threads: elements of the head that are none are 0 in both tiles, and stay so.
template <int D>
PANGEA_DEVICE void ClearBeyond(int d) {
  const int t = static_cast<int>(ThreadIndex().x);
  for (int number = 0; number < 2 && d < D; ++number) {
    const KvTile<D> tile = TileAt<D>(number);
    for (int i = t; i < (D - d) * (kTile / 8); i += kThreads)
      StoreInt4(Chunk(tile.k, d + i / (kTile / 8), i % (kTile / 8)), {0, 0, 0, 0});
    for (int i = t; i < kTile * ((D - d) / 8); i += kThreads)
      StoreInt4(Chunk(tile.v, i / ((D - d) / 8), d / 8 + i % ((D - d) / 8)), {0, 0, 0, 0});
  }
}

// Of scores from position `begin` on, those that their rows do not see.
PANGEA_DEVICE void Mask(int begin, const Seen (&seen)[2], float (&s)[kTile / 8][4]) {
  const int lane = static_cast<int>(ThreadIndex().x) % 32;
#pragma unroll
  for (int i = 0; i < kTile / 8; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int position = begin + i * 8 + lane % 4 * 2 + j % 2;
      if (position < seen[j / 2].low || position > seen[j / 2].high) s[i][j] = kMinusInfinity;
    }
  }
}

// What the two rows that a thread has parts of came to so far: relative to the largest score m.
template <int D>
struct Sums {
  float o[D / 8][4] = {};
  float m[2] = {kMinusInfinity, kMinusInfinity};
  float l[2] = {0, 0};  // of this thread's positions
};

// Scores of a tile become probabilities, to which the sums are then relative, too.
template <int D>
PANGEA_DEVICE void Softmax(float (&s)[kTile / 8][4], Sums<D>* sums) {
  const int lane = static_cast<int>(ThreadIndex().x) % 32;
  float largest[2] = {sums->m[0], sums->m[1]};
#pragma unroll
  for (int i = 0; i < kTile / 8; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) largest[j / 2] = MaxOf(largest[j / 2], s[i][j]);
  }
  float base[2];  // of this tile's probabilities, times log2 of e
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    largest[half] = MaxOf(largest[half], Shuffle(largest[half], lane ^ 1));
    largest[half] = MaxOf(largest[half], Shuffle(largest[half], lane ^ 2));
    const bool none = largest[half] == kMinusInfinity;
    base[half] = none ? 0 : largest[half] * kLog2OfE;
    const float before = Exp2(sums->m[half] * kLog2OfE - base[half]);
    sums->m[half] = largest[half];
    sums->l[half] = sums->l[half] * before;
#pragma unroll
    for (int i = 0; i < D / 8; ++i) {
      sums->o[i][half * 2] *= before;
      sums->o[i][half * 2 + 1] *= before;
    }
  }
#pragma unroll
  for (int i = 0; i < kTile / 8; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      s[i][j] = Exp2(Fma(s[i][j], kLog2OfE, -base[j / 2]));
      sums->l[j / 2] += s[i][j];
    }
  }
}

// Of probabilities in the places of scores: those of positions [16 * group, 16 * group + 16), as a product reads them.
template <DType type>
PANGEA_DEVICE void Probabilities(const float (&s)[kTile / 8][4], int group, uint32_t (&p)[4]) {
  const float(&low)[4] = s[group * 2], (&high)[4] = s[group * 2 + 1];
  p[0] = Halves<type>(low[0], low[1]);
  p[1] = Halves<type>(low[2], low[3]);
  p[2] = Halves<type>(high[0], high[1]);
  p[3] = Halves<type>(high[2], high[3]);
}

// Cores: Ready() of each thread once its copies have come, before the Sync behind which others multiply with them.
// Scores(tile, q, s): s += q . keys; Values(tile, p, o): o += p . values, p the probabilities in the places of scores.
// All threads' parts as MultiplyAdd has them.
template <class Cores, DType type, int D>
PANGEA_DEVICE void AttentionManyOf(const AttentionKernelArgs& a) {
  const AttentionItem item = a.items[BlockIndex().x];
  const int queries = item.rows * item.heads;
  const int t = static_cast<int>(ThreadIndex().x), lane = t % 32, d = a.pages.head_dim;
  const std::byte* const head = a.pages.base + item.kv_head * a.pages.head_stride;
  const int32_t* const table = a.tables + a.slots[item.row] * a.stride;
  const Seen first = SeenBy(a, item.row), last = SeenBy(a, item.row + item.rows - 1);
  const Seen all{first.low, last.high};

  // The two rows of the warp's 16 that this thread has parts of.
  int query[2];
  Seen seen[2];
  const float* rows[2];
  for (int half = 0; half < 2; ++half) {
    query[half] = t / 32 * kRowsOfAWarp + half * 8 + lane / 4;
    const bool is = query[half] < queries;
    const int64_t row = item.row + (is ? query[half] / item.heads : 0),
                  h = item.head + (is ? query[half] % item.heads : 0);
    seen[half] = SeenBy(a, row);
    rows[half] = a.q + row * a.ldq + h * d;
  }
  uint32_t q[D / 16][4];
#pragma unroll
  for (int part = 0; part < D / 16; ++part) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int at = part * 16 + i / 2 * 8 + lane % 4 * 2;
      const float* const row = rows[i % 2];
      q[part][i] = at < d ? Halves<type>(row[at], row[at + 1]) : 0;
    }
  }
  ClearBeyond<D>(d);
  Sums<D> sums;
  const int from = all.low / kTile * kTile;
  LoadTile<D>(a, head, table, from, all, TileAt<D>(0));
  CommitCopies();
  for (int begin = from, number = 0; begin <= all.high; begin += kTile, number = 1 - number) {
    if (begin + kTile <= all.high) LoadTile<D>(a, head, table, begin + kTile, all, TileAt<D>(1 - number));
    CommitCopies();
    WaitCopies<1>();
    Cores::Ready();
    Sync();  // this tile is there
    const KvTile<D> tile = TileAt<D>(number);

    float s[kTile / 8][4] = {};
    Cores::Scores(tile, q, s);
    const bool whole = begin + kTile - 1 <= first.high && begin >= last.low;
    if (!whole) Mask(begin, seen, s);
    Softmax<D>(s, &sums);
    Cores::Values(tile, s, sums.o);
    Sync();  // read by all before the next but one comes there
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float l = sums.l[half];
    l += Shuffle(l, lane ^ 1);
    l += Shuffle(l, lane ^ 2);
    if (query[half] >= queries) continue;
    const int64_t row = item.row + query[half] / item.heads, h = item.head + query[half] % item.heads;
    float* const out = a.out + row * a.ldo + h * d;
#pragma unroll
    for (int i = 0; i < D / 8; ++i) {
      const int at = i * 8 + lane % 4 * 2;
      if (at >= d) continue;
      out[at] = sums.o[i][half * 2] / l;
      out[at + 1] = sums.o[i][half * 2 + 1] / l;
    }
  }
}

}  // namespace

}  // namespace pangea::cuda
