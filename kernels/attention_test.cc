#include <gtest/gtest.h>

#include <limits>

#include "kernels/kernels_test_util.h"

namespace pangea {
namespace {

struct Shape {
  int heads, kv_heads, head_dim, block_tokens, window;
};

std::vector<int32_t> HeadMap(const Shape& s) {
  std::vector<int32_t> map;
  for (int h = 0; h < s.heads; ++h) map.push_back(h * s.kv_heads / s.heads);
  return map;
}

// Rows of one slot at consecutive positions.
std::vector<BatchBuilder::Row> RowsOf(int slot, int first, int count) {
  std::vector<BatchBuilder::Row> rows;
  for (int i = 0; i < count; ++i) rows.push_back({.slot = slot, .position = first + i});
  return rows;
}

// Pages of several sequences whose blocks lie in a shuffled order; memory that nobody wrote is NaN.
class Cache {
 public:
  Cache(DType dtype, const Shape& shape, int sequences, int max_tokens) {
    const int blocks = (max_tokens + shape.block_tokens - 1) / shape.block_tokens;
    const int64_t extent = KvExtentBytes(dtype, shape.block_tokens, shape.head_dim);
    memory_.assign(static_cast<size_t>(2 * extent * shape.kv_heads * blocks * sequences + 64),
                   std::byte{0xff});  // NaN in every type
    kv.base = memory_.data() + 4;
    kv.head_stride = 2 * extent;
    kv.block_stride = 2 * extent * shape.kv_heads;
    kv.v_offset = extent;
    kv.kv_heads = shape.kv_heads;
    kv.head_dim = shape.head_dim;
    kv.block_tokens = shape.block_tokens;
    kv.dtype = dtype;
    std::vector<int32_t> order(static_cast<size_t>(blocks * sequences));
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
    std::shuffle(order.begin(), order.end(), std::mt19937(1));
    batch_shape_ = {.rows = int64_t{sequences} * max_tokens,
                    .slots = sequences,
                    .stride = blocks,
                    .block_tokens = shape.block_tokens,
                    .kv_of_head = HeadMap(shape),
                    .windows = {shape.window}};
    tables_ = std::move(order);
  }
  void SetHeads(std::vector<int32_t> kv_of_head) { batch_shape_.kv_of_head = std::move(kv_of_head); }

  // The rows {slot, position} as a batch of the queue; of slot -1: no row.
  const Batch& Make(std::span<const BatchBuilder::Row> rows, Queue& queue) {
    builder_ = std::make_unique<BatchBuilder>(batch_shape_, &queue);
    for (int s = 0; s < batch_shape_.slots; ++s)
      builder_->SetBlocks({.slot = s}, std::span(tables_).subspan(s * batch_shape_.stride, batch_shape_.stride));
    builder_->Begin();
    for (const BatchBuilder::Row& row : rows) builder_->AddRow(row);
    return builder_->Finish();
  }
  void Write(const Batch& batch, const float* k, const float* v, Queue& queue) {
    const int64_t width = kv.kv_heads * kv.head_dim;
    KvWrite(kv, batch, {k, width, v, width}, queue);
  }
  struct Queries {
    const float* q;
    int64_t ldq;
    float* out;
    int64_t ldo;
  };
  void Attend(const Batch& batch, const Queries& io, int threads, Queue& queue) {
    const Buffer<float> scratch(AttentionScratchBytes(threads, kv.head_dim) / 4, queue);
    Attention(kv, batch,
              {.q = io.q,
               .ldq = io.ldq,
               .work = &batch.attention[0],
               .out = io.out,
               .ldo = io.ldo,
               .scratch = scratch.data()},
              queue);
  }
  KvLayer kv;

 private:
  std::vector<std::byte> memory_;
  std::vector<int32_t> tables_;
  BatchShape batch_shape_;
  std::unique_ptr<BatchBuilder> builder_;
};

struct Inputs {
  int tokens;
  std::vector<float> q, k, v;  // of one sequence, [tokens][...]
};

Inputs MakeInputs(const Shape& s, int tokens, uint32_t seed) {
  Inputs in{tokens,
            Normal(static_cast<int64_t>(tokens) * s.heads * s.head_dim, seed,
                   2.0f / std::sqrt(static_cast<float>(s.head_dim))),
            Normal(static_cast<int64_t>(tokens) * s.kv_heads * s.head_dim, seed + 1),
            Normal(static_cast<int64_t>(tokens) * s.kv_heads * s.head_dim, seed + 2)};
  return in;
}

// Feeds the sequence in chunks: writes the chunk's keys and values, then attends with its rows.
std::vector<float> RunChunks(DType dtype, const Shape& s, const Inputs& in, const std::vector<int>& chunks,
                             int threads) {
  TestQueue queue(threads);
  Cache cache(dtype, s, 1, in.tokens);
  const int64_t width = s.heads * s.head_dim, kv_width = s.kv_heads * s.head_dim;
  std::vector<float> out(in.q.size());
  int at = 0;
  for (size_t c = 0; at < in.tokens; ++c) {
    const int n = std::min(chunks[c % chunks.size()], in.tokens - at);
    const Batch& batch = cache.Make(RowsOf(0, at, n), queue);
    cache.Write(batch, &in.k[at * kv_width], &in.v[at * kv_width], queue);
    cache.Attend(batch, {&in.q[at * width], width, &out[at * width], width}, threads, queue);
    at += n;
  }
  return out;
}

// What a stored number reads as.
double Stored(DType dtype, const float* token, int d, int e) {
  if (dtype == DType::kF16) return F16ToF32(F32ToF16(token[e]));
  if (dtype == DType::kBF16) return Bf16ToF32(F32ToBf16(token[e]));
  if (dtype == DType::kF8E4M3) return NumberOfF8(F32ToF8(token[e]));
  float amax = 0;
  for (int i = 0; i < d; ++i) amax = std::max(amax, std::fabs(token[i]));
  return static_cast<float>(std::nearbyint(token[e] * (127.0f / amax))) * (amax / 127.0f);
}

std::vector<double> Exact(DType dtype, const Shape& s, const Inputs& in) {
  const std::vector<int32_t> map = HeadMap(s);
  const int d = s.head_dim;
  std::vector<double> out(in.q.size());
  for (int i = 0; i < in.tokens; ++i) {
    for (int h = 0; h < s.heads; ++h) {
      const int low = s.window > 0 ? std::max(0, i - s.window + 1) : 0;
      std::vector<double> weight;
      double largest = -INFINITY, sum = 0;
      for (int t = low; t <= i; ++t) {
        double score = 0;
        for (int e = 0; e < d; ++e)
          score += in.q[(i * s.heads + h) * d + e] * Stored(dtype, &in.k[(t * s.kv_heads + map[h]) * d], d, e);
        weight.push_back(score);
        largest = std::max(largest, score);
      }
      for (double& w : weight) sum += w = std::exp(w - largest);
      for (int t = low; t <= i; ++t) {
        for (int e = 0; e < d; ++e) {
          out[(i * s.heads + h) * d + e] +=
              weight[t - low] / sum * Stored(dtype, &in.v[(t * s.kv_heads + map[h]) * d], d, e);
        }
      }
    }
  }
  return out;
}

constexpr DType kTypes[] = {DType::kF16, DType::kBF16, DType::kI8, DType::kF8E4M3};

TEST(Attention, ReferenceAgreesWithDoubleArithmetic) {
  ScopedIsa isa(Isa::kReference);
  for (const DType dtype : kTypes) {
    for (const Shape& s :
         {Shape{3, 1, 12, 16, 0}, Shape{4, 2, 20, 32, 0}, Shape{2, 2, 16, 16, 37}, Shape{5, 2, 8, 48, 130}}) {
      const Inputs in = MakeInputs(s, 150, 3);
      const std::vector<double> exact = Exact(dtype, s, in);
      const std::vector<float> got = RunChunks(dtype, s, in, {150}, 1);
      double worst = 0;
      for (size_t i = 0; i < exact.size(); ++i) worst = std::max(worst, std::fabs(got[i] - exact[i]));
      // Outputs are means of values of size about 1; scores of size about 10 carry d roundings, the sums at most 150.
      EXPECT_LT(worst, 200 * 10 * 0x1p-24) << Info(dtype).name << " d=" << s.head_dim;
      // A window off by one must show.
      Shape wrong = s;
      wrong.window = s.window > 0 ? s.window + 1 : 149;
      const std::vector<float> other = RunChunks(dtype, wrong, in, {150}, 1);
      double moved = 0;
      for (size_t i = 0; i < exact.size(); ++i) moved = std::max(moved, std::fabs(other[i] - exact[i]));
      EXPECT_GT(moved, 200 * 10 * 0x1p-24);
    }
  }
}

// One reference run serves both classes: it is the slow part.
TEST(Attention, AllClassesGiveTheBitsOfTheReferenceInAnyChunksOnAnyThreads) {
  if (BestIsa() < Isa::kAvx512)
    std::printf("this CPU lacks %s\n", BestIsa() < Isa::kAvx2 ? "avx2 and avx512" : "avx512");
  for (const DType dtype : kTypes) {
    for (const auto& [s, tokens] : {std::pair{Shape{9, 3, 64, 16, 0}, 140},
                                    {Shape{3, 1, 12, 16, 0}, 300},
                                    {Shape{5, 2, 20, 32, 50}, 300},
                                    {Shape{2, 2, 24, 48, 200}, 300},
                                    {Shape{8, 1, 80, 16, 0}, 140},
                                    {Shape{40, 1, 16, 16, 0}, 140},
                                    {Shape{2, 2, 128, 64, 129}, 160}}) {
      const Inputs in = MakeInputs(s, tokens, 5);
      std::vector<float> expected;
      {
        ScopedIsa isa(Isa::kReference);
        expected = RunChunks(dtype, s, in, {tokens}, 1);
      }
      const std::vector<std::vector<int>> chunkings = {{tokens}, {1}, {7}, {16, 3}, {100, 1, 31}};
      for (size_t i = 0; i < 2 * chunkings.size(); ++i) {
        const Isa isa = i % 2 == 0 ? Isa::kAvx2 : Isa::kAvx512;
        if (isa > BestIsa()) continue;
        ScopedIsa scoped(isa);
        EXPECT_EQ(Differences(expected, RunChunks(dtype, s, in, chunkings[i / 2], 1 + static_cast<int>(i / 2) % 3)), 0)
            << IsaName(isa) << ' ' << Info(dtype).name << " d=" << s.head_dim << " window " << s.window << " chunking "
            << i / 2;
      }
    }
  }
}

class AttentionOnIsa : public testing::TestWithParam<Isa> {};
INSTANTIATE_TEST_SUITE_P(, AttentionOnIsa, testing::Values(Isa::kAvx2, Isa::kAvx512), IsaTestName);

// Prefill of one sequence, decode of two others and a finished block in between, in one call: each as if alone.
TEST_P(AttentionOnIsa, SequencesOfABatchDoNotSeeEachOther) {
  SKIP_WITHOUT(GetParam());
  ScopedIsa isa(GetParam());
  const Shape s{6, 2, 32, 16, 0};
  const int64_t width = s.heads * s.head_dim;
  const int lengths[] = {140, 33, 260}, news[] = {140, 1, 1};
  for (const int padding : {0, 1, 5}) {  // rows that are none, with NaN for queries
    TestQueue queue(2);
    Cache cache(DType::kF16, s, 3, 272);
    std::vector<float> q, expected;
    std::vector<BatchBuilder::Row> rows;
    const auto pad = [&] {
      rows.resize(rows.size() + padding);
      q.resize(q.size() + padding * width, NAN);
      expected.resize(expected.size() + padding * width, -1.0f);
    };
    for (int n = 0; n < 3; ++n) {
      pad();
      const Inputs in = MakeInputs(s, lengths[n], 100 + static_cast<uint32_t>(n));
      cache.Write(cache.Make(RowsOf(n, 0, lengths[n]), queue), in.k.data(), in.v.data(), queue);
      const std::vector<float> alone = RunChunks(DType::kF16, s, in, {lengths[n]}, 1);
      const auto run = RowsOf(n, lengths[n] - news[n], news[n]);
      rows.insert(rows.end(), run.begin(), run.end());
      q.insert(q.end(), in.q.end() - news[n] * width, in.q.end());
      expected.insert(expected.end(), alone.end() - news[n] * width, alone.end());
    }
    pad();
    std::vector<float> out(q.size(), -1.0f);
    cache.Attend(cache.Make(rows, queue), {q.data(), width, out.data(), width}, 2, queue);
    EXPECT_EQ(Differences(out, expected), 0) << padding;
  }
}

// Few items of many partitions each, more of them than the scratch holds partials: folded in several rounds.
TEST_P(AttentionOnIsa, LongContextsAreFoldedInBoundedMemory) {
  SKIP_WITHOUT(GetParam());
  ScopedIsa isa(GetParam());
  const Shape s{32, 1, 16, 16, 0};
  const int tokens = 2 * kPartialsAThread * 3 * kPartition + 77, rows = 3;
  const Inputs in = MakeInputs(s, tokens, 21);
  const int64_t width = s.heads * s.head_dim;
  std::vector<std::vector<float>> outs;
  for (const int threads : {1, 2, 3}) {
    TestQueue queue(threads);
    Cache cache(DType::kF16, s, 1, tokens);
    cache.Write(cache.Make(RowsOf(0, 0, tokens), queue), in.k.data(), in.v.data(), queue);
    const Batch& batch = cache.Make(RowsOf(0, tokens - rows, rows), queue);
    EXPECT_GT(batch.attention[0].units * kMaxQueries, kPartialsAThread * threads * kMaxQueries);
    outs.emplace_back(rows * width);
    cache.Attend(batch, {&in.q[(tokens - rows) * width], width, outs.back().data(), width}, threads, queue);
  }
  EXPECT_EQ(Differences(outs[0], outs[1]), 0);
  EXPECT_EQ(Differences(outs[0], outs[2]), 0);
}

// A rank's heads may begin inside a group, and be fewer than the model's.
TEST_P(AttentionOnIsa, HeadsMayBeSplitUnevenlyOverGroups) {
  SKIP_WITHOUT(GetParam());
  ScopedIsa isa(GetParam());
  const Shape s{6, 2, 16, 16, 0};
  const Inputs in = MakeInputs(s, 70, 9);
  const std::vector<float> whole = RunChunks(DType::kF16, s, in, {70}, 1);
  TestQueue queue(1);
  Cache cache(DType::kF16, s, 1, 70);
  cache.SetHeads({0, 1, 1});  // heads 2, 3, 4 of the model
  const Batch& batch = cache.Make(RowsOf(0, 0, 70), queue);
  cache.Write(batch, in.k.data(), in.v.data(), queue);
  std::vector<float> out(70 * 48);
  cache.Attend(batch, {in.q.data() + 32, 96, out.data(), 48}, 1, queue);
  for (int t = 0; t < 70; ++t) {
    for (int e = 0; e < 48; ++e) EXPECT_TRUE(SameBits(out[t * 48 + e], whole[t * 96 + 32 + e]));
  }
}

// Two layers of two cache groups, each with its own table for the same rows: as each is with a batch of its own.
TEST_P(AttentionOnIsa, LayersOfTwoCacheGroupsReadTheirOwnTables) {
  SKIP_WITHOUT(GetParam());
  ScopedIsa isa(GetParam());
  const Shape s{2, 1, 16, 16, 0};
  const Inputs in = MakeInputs(s, 64, 31);
  const std::vector<float> alone = RunChunks(DType::kF16, s, in, {64}, 1);
  TestQueue queue(1);
  BatchBuilder builder({.rows = 64, .slots = 1, .stride = 4, .groups = 2, .kv_of_head = {0, 0}, .windows = {0}},
                       &static_cast<Queue&>(queue));
  const std::vector<int32_t> tables[] = {{0, 1, 2, 3}, {6, 4, 5, 1}};
  for (int g = 0; g < 2; ++g) builder.SetBlocks({.group = g}, tables[g]);
  builder.Begin();
  for (const BatchBuilder::Row& row : RowsOf(0, 0, 64)) builder.AddRow(row);
  const Batch& batch = builder.Finish();
  const Buffer<float> scratch(AttentionScratchBytes(1, 16) / 4, queue);
  for (int g = 0; g < 2; ++g) {
    Cache cache(DType::kF16, s, 1, 16 * 8);
    cache.kv.group = g;
    cache.Write(batch, in.k.data(), in.v.data(), queue);
    std::vector<float> out(alone.size());
    Attention(cache.kv, batch,
              {.q = in.q.data(),
               .ldq = 32,
               .work = &batch.attention[0],
               .out = out.data(),
               .ldo = 32,
               .scratch = scratch.data()},
              queue);
    EXPECT_EQ(Differences(out, alone), 0) << g;
    // The page of the first block in this group's table holds the first keys.
    EXPECT_NE(std::memcmp(cache.kv.base + tables[g][0] * cache.kv.block_stride,
                          cache.kv.base + tables[1 - g][0] * cache.kv.block_stride, 64),
              0);
  }
}

// Values at which a masked position would show: a sum of -0, met by 0 * v (the addition of +0, and the first fold,
// guard it).
TEST_P(AttentionOnIsa, NegativeZeroOutputsDoNotDependOnTheTile) {
  SKIP_WITHOUT(GetParam());
  ScopedIsa isa(GetParam());
  const Shape s{1, 1, 16, 16, 0};
  Inputs in = MakeInputs(s, 20, 10);
  // Token 0 weighs exp(-80) and its value is the smallest of f16: the product is flushed to -0. Token 1 weighs 1 and is
  // -0, so a query at position 1 ends with -0; the later tokens are positive, and masked for it.
  std::fill(in.k.begin(), in.k.end(), 0.0f);
  in.k[0] = -80;
  for (int t = 0; t < 20; ++t) {
    for (int e = 0; e < 16; ++e) {
      in.q[t * 16 + e] = e == 0 ? 1.0f : 0.0f;
      in.v[t * 16 + e] = t == 0 ? -0x1p-24f : t == 1 ? -0.0f : 1.0f;
    }
  }
  const std::vector<float> whole = RunChunks(DType::kF16, s, in, {20}, 1);
  EXPECT_EQ(Differences(whole, RunChunks(DType::kF16, s, in, {1}, 1)), 0);
  EXPECT_TRUE(SameBits(whole[16], 0.0f));
}

TEST_P(AttentionOnIsa, PagesHoldTheSameBytes) {
  SKIP_WITHOUT(GetParam());
  for (const DType dtype : kTypes) {
    const Shape s{2, 2, 20, 32, 0};
    Inputs in = MakeInputs(s, 50, 11);
    std::mt19937 generator(12);
    for (size_t i = 0; i < in.k.size(); ++i) {
      for (float* f : {&in.k[i], &in.v[i]}) {  // of some tokens any bits, of others numbers of any size in a range
        if (i / 40 % 3 == 1) *f = __builtin_bit_cast(float, static_cast<uint32_t>(generator()));
        if (i / 40 % 3 == 2) *f = std::ldexp(*f, static_cast<int>(generator() % 24) - 14);
      }
    }
    TestQueue queue(2);
    std::vector<std::vector<std::byte>> bytes;
    for (const Isa isa : {Isa::kReference, GetParam()}) {
      ScopedIsa scoped(isa);
      Cache cache(dtype, s, 1, 64);
      cache.Write(cache.Make(RowsOf(0, 0, 50), queue), in.k.data(), in.v.data(), queue);
      bytes.emplace_back(cache.kv.base, cache.kv.base + 2 * cache.kv.block_stride);
    }
    EXPECT_TRUE(bytes[0] == bytes[1]) << Info(dtype).name;
  }
}

}  // namespace
}  // namespace pangea
