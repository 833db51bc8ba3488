// Attention whose sums may have any order (kernels.exact: false): many queries by tensor cores, few by the exact text,
// in one step. Compared with sums in double over queries that were rounded to the pages' type; the bound follows from
// the sizes of what is summed.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/cuda_kinds_test_util.h"
#include "kernels/kernels_test_util.h"

namespace pangea {
namespace {

float Rounded(float f, DType dtype) { return dtype == DType::kF16 ? F16ToF32(F32ToF16(f)) : Bf16ToF32(F32ToBf16(f)); }
uint16_t Stored(float f, DType dtype) { return dtype == DType::kF16 ? F32ToF16(f) : F32ToBf16(f); }

struct Case {
  DType dtype = DType::kF16;
  int heads = 4, kv_heads = 2, head_dim = 64, block_tokens = 16, window = 0;
  struct Part {
    int slot, first, rows;  // positions
  };
  std::vector<Part> parts = {{0, 0, 70}};
};

// The pages of some slots, whose every position up to a limit holds a key and a value that are known; all else is NaN.
class Cache {
 public:
  static constexpr int kSlots = 3, kTokens = 512;

  Cache(const Case& c, Queue& queue) : case_(c), queue_(queue) {
    const int64_t values = int64_t{c.block_tokens} * c.head_dim;
    const int64_t blocks = (kTokens + c.block_tokens - 1) / c.block_tokens;
    order_.resize(static_cast<size_t>(blocks * kSlots));
    std::iota(order_.begin(), order_.end(), 0);
    std::shuffle(order_.begin(), order_.end(), std::mt19937(1));
    std::vector<uint16_t> halves(static_cast<size_t>(2 * values * c.kv_heads * blocks * kSlots), 0x7fff);
    keys_ = Normal(int64_t{kSlots} * c.kv_heads * kTokens * c.head_dim, 5);
    values_ = Normal(int64_t{kSlots} * c.kv_heads * kTokens * c.head_dim, 6);
    for (const Case::Part& part : c.parts) {
      for (int position = 0; position < part.first + part.rows; ++position) {
        const int64_t block = order_[static_cast<size_t>(part.slot * blocks + position / c.block_tokens)];
        const int token = position % c.block_tokens;
        for (int h = 0; h < c.kv_heads; ++h) {
          uint16_t* const k = halves.data() + (block * c.kv_heads + h) * 2 * values;
          for (int i = 0; i < c.head_dim; ++i) {
            const int64_t at = At(part.slot, h, position, i);
            k[token / 16 * 16 * c.head_dim + i * 16 + token % 16] = Stored(keys_[at], c.dtype);
            k[values + token * c.head_dim + i] = Stored(values_[at], c.dtype);
            keys_[at] = Rounded(keys_[at], c.dtype);
            values_[at] = Rounded(values_[at], c.dtype);
          }
        }
      }
    }
    memory_ = Buffer<uint16_t>(std::span<const uint16_t>(halves), queue);
    kv_ = {reinterpret_cast<std::byte*>(memory_.data()),
           4 * values,
           4 * values * c.kv_heads,
           2 * values,
           c.kv_heads,
           c.head_dim,
           c.block_tokens,
           c.dtype};
    BatchShape shape{.rows = 256,
                     .slots = kSlots,
                     .stride = blocks,
                     .block_tokens = c.block_tokens,
                     .queries = kCudaMaxQueries,
                     .alone_first = true,
                     .windows = {c.window}};
    for (int h = 0; h < c.heads; ++h) shape.kv_of_head.push_back(h * c.kv_heads / c.heads);
    builder_ = std::make_unique<BatchBuilder>(shape, &queue);
    for (int s = 0; s < kSlots; ++s)
      builder_->SetBlocks({.slot = s}, std::span<const int32_t>(order_).subspan(s * blocks, blocks));
  }

  // out [rows][heads * head_dim] for such queries.
  std::vector<float> Attend(const std::vector<float>& q) {
    const int64_t width = int64_t{case_.heads} * case_.head_dim;
    builder_->Begin();
    for (const Case::Part& part : case_.parts)
      for (int i = 0; i < part.rows; ++i) builder_->AddRow({.slot = part.slot, .position = part.first + i});
    const Batch& batch = builder_->Finish();
    const std::vector<float> none(q.size(), NAN);
    const Buffer<float> in{std::span<const float>(q), queue_}, out{std::span<const float>(none), queue_};
    const Buffer<float> scratch(CudaAttentionScratchBytes(case_.head_dim) / 4, queue_);
    Attention(kv_, batch,
              {.q = in.data(),
               .ldq = width,
               .work = &batch.attention[0],
               .out = out.data(),
               .ldo = width,
               .scratch = scratch.data()},
              queue_);
    std::vector<float> all(q.size());
    queue_.Download(all.data(), out.data(), out.bytes());
    queue_.Finish();
    return all;
  }

  // How many elements are farther from the exact ones than roundings bring them. shift: a mistake, for the control:
  // each query sees one position less.
  int64_t Outside(const std::vector<float>& q, const std::vector<float>& out, int shift = 0) const {
    const double half = case_.dtype == DType::kF16 ? 0x1p-11 : 0x1p-8;
    int64_t outside = 0, row = 0;
    for (const Case::Part& part : case_.parts) {
      for (int r = 0; r < part.rows; ++r, ++row) {
        for (int h = 0; h < case_.heads; ++h) {
          const int high = part.first + r - shift, kv = h * case_.kv_heads / case_.heads;
          const int low = case_.window > 0 ? std::max(0, high - case_.window + 1) : 0;
          std::vector<double> score(static_cast<size_t>(high + 1)), p(score.size());
          double largest = -INFINITY, error = 0, sum = 0;
          for (int j = low; j <= high; ++j) {
            double size = 0;
            for (int i = 0; i < case_.head_dim; ++i) {
              const float stored = q[(row * case_.heads + h) * case_.head_dim + i];
              // Of a row alone in its item nothing is rounded: then the difference is in the bound.
              const double term = static_cast<double>(Rounded(stored, case_.dtype)) * keys_[At(part.slot, kv, j, i)];
              score[j] += term;
              size += std::fabs(term);
            }
            const int step = kCudaMaxQueries / (case_.heads / case_.kv_heads);
            const bool alone = r == part.rows - 1 && part.rows % step == 1;
            error = std::max(error, size * ((case_.head_dim + 2) * 0x1p-24 + (alone ? half : 0)));
            largest = std::max(largest, score[j]);
          }
          for (int j = low; j <= high; ++j) sum += p[j] = std::exp(score[j] - largest);
          for (int i = 0; i < case_.head_dim; ++i) {
            double exact = 0, size = 0;
            for (int j = low; j <= high; ++j) {
              const double term = p[j] / sum * values_[At(part.slot, kv, j, i)];
              exact += term;
              size += std::fabs(term);
            }
            // Each probability is off by twice the scores' errors and its own rounding; then so many sums.
            const double bound = size * (std::expm1(2 * error + 0x1p-20) + half + (high - low + 8) * 0x1p-22);
            const double off = std::fabs(out[(row * case_.heads + h) * case_.head_dim + i] - exact);
            outside += off <= bound ? 0 : 1;
          }
        }
      }
    }
    return outside;
  }

 private:
  int64_t At(int slot, int kv_head, int position, int i) const {
    return ((int64_t{slot} * case_.kv_heads + kv_head) * kTokens + position) * case_.head_dim + i;
  }
  const Case case_;
  Queue& queue_;
  std::vector<int32_t> order_;
  std::vector<float> keys_, values_;  // [slot][KV head][position][i], as they are stored
  Buffer<uint16_t> memory_;
  KvLayer kv_;
  std::unique_ptr<BatchBuilder> builder_;
};

std::vector<Case> Cases() {
  return {
      {},
      {.dtype = DType::kBF16, .heads = 3, .kv_heads = 3, .head_dim = 48, .block_tokens = 48, .parts = {{1, 30, 100}}},
      {.heads = 8, .kv_heads = 1, .head_dim = 128, .parts = {{2, 0, 9}, {0, 200, 41}, {1, 300, 1}}},
      {.dtype = DType::kBF16,
       .heads = 4,
       .kv_heads = 1,
       .head_dim = 80,
       .block_tokens = 32,
       .window = 50,
       .parts = {{0, 100, 70}, {1, 3, 1}}},
      {.heads = 1, .kv_heads = 1, .head_dim = 8, .window = 150, .parts = {{0, 190, 130}}}};
}

class FastAttention : public testing::TestWithParam<CudaKind> {};

TEST_P(FastAttention, IsWithinTheRoundingsOfItsSums) {
  const auto queue = GetParam().Make({.exact = false}, 3);
  for (const Case& c : Cases()) {
    int64_t rows = 0;
    for (const Case::Part& part : c.parts) rows += part.rows;
    const auto q = Normal(rows * c.heads * c.head_dim, 7, 0.4f);
    Cache cache(c, *queue);
    EXPECT_EQ(cache.Outside(q, cache.Attend(q)), 0) << "head of " << c.head_dim << ", window " << c.window;
  }
}

INSTANTIATE_TEST_SUITE_P(All, FastAttention, testing::ValuesIn(CudaKinds({.exact = false})),
                         [](const auto& info) { return info.param.name; });

// The bound sees queries that look one position too short, and scores of queries that are off by a hundredth.
TEST(FastAttentionControl, TheBoundSeesWrongAttention) {
  const auto queue = MakeCudaOnCpuQueue({.exact = false});
  const Case c;
  auto q = Normal(70 * c.heads * c.head_dim, 7, 0.4f);
  Cache cache(c, *queue);
  const auto out = cache.Attend(q);
  EXPECT_EQ(cache.Outside(q, out), 0);
  EXPECT_GT(cache.Outside(q, out, 1), 69 * c.heads * c.head_dim / 2) << "one position less";
  for (float& f : q) f *= 1.02f;
  EXPECT_GT(cache.Outside(q, out), 69 * c.heads * c.head_dim / 8) << "other scores";
}

}  // namespace
}  // namespace pangea
