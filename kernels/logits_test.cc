#include <gtest/gtest.h>

#include <array>
#include <limits>

#include "kernels/backend.h"
#include "kernels/exact_math.h"
#include "kernels/kernels_test_util.h"
#include "kernels/reference/scalar.h"

namespace pangea {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

class Logits : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    SKIP_WITHOUT(GetParam());
    SetComputeFloatMode();
    isa_.emplace(GetParam());
  }
  std::optional<ScopedIsa> isa_;
};
INSTANTIATE_TEST_SUITE_P(, Logits, testing::ValuesIn(kIsas), IsaTestName);

// A second text of Philox4x32-10, written from the paper: 64-bit products and Weyl keys.
std::array<uint32_t, 4> PlainPhilox(std::array<uint32_t, 4> c, std::array<uint32_t, 2> k) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = static_cast<uint64_t>(c[0]) * 0xD2511F53u, b = static_cast<uint64_t>(c[2]) * 0xCD9E8D57u;
    c = {static_cast<uint32_t>(b >> 32) ^ c[1] ^ k[0], static_cast<uint32_t>(b),
         static_cast<uint32_t>(a >> 32) ^ c[3] ^ k[1], static_cast<uint32_t>(a)};
    k = {k[0] + 0x9E3779B9u, k[1] + 0xBB67AE85u};
  }
  return c;
}

TEST(Philox, KnownAnswersOfRandom123) {
  EXPECT_EQ(PlainPhilox({0, 0, 0, 0}, {0, 0}),
            (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(PlainPhilox({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(PlainPhilox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (std::array<uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

float GumbelOf(int64_t id, uint64_t seed, uint32_t position, uint32_t choice) {
  const std::array<uint32_t, 4> words = PlainPhilox({static_cast<uint32_t>(id / 4), position, choice, 0},
                                                    {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  return Gumbel<reference::F32>(reference::I32(static_cast<int32_t>(words[static_cast<size_t>(id % 4)]))).v;
}

TEST_P(Logits, GumbelArgmaxIsTheArgmaxOfTheSums) {
  for (const int64_t n : {1, 2, 3, 5, 16, 63, 64, 65, 700, 2048}) {
    for (const int64_t first : {0, 256, 1, 514, 49152}) {
      std::vector<float> x = Normal(n, static_cast<uint32_t>(n + first), 3.0f);
      if (n > 60) std::fill(x.begin() + 3, x.begin() + 40, -kInfinity);
      for (uint32_t position = 0; position < 4; ++position) {
        const uint64_t seed = 0x123456789abcdefull * (position + 1);
        float best = -kInfinity;
        int64_t expected = 0;
        for (int64_t i = 0; i < n; ++i) {
          const float sum = x[i] + GumbelOf(first + i, seed, position, 7);
          if (sum > best) {
            best = sum;
            expected = i;
          }
        }
        const Winner winner = GumbelArgmax(x, first, {seed, position, 7}, ScopedIsa::current());
        EXPECT_EQ(winner.index, expected) << n << ' ' << first;
        EXPECT_TRUE(SameBits(winner.value, best));
      }
    }
  }
}

TEST_P(Logits, GumbelArgmaxMergesOverCuts) {
  const std::vector<float> x = Normal(1000, 9);
  const std::span<const float> all(x);
  const DrawKey key{42, 5, 0};
  const Winner whole = GumbelArgmax(all, 0, key, ScopedIsa::current());
  const Winner left = GumbelArgmax(all.first(512), 0, key, ScopedIsa::current());
  const Winner right = GumbelArgmax(all.subspan(512), 512, key, ScopedIsa::current());
  EXPECT_EQ(whole.index, left.value >= right.value ? left.index : right.index + 512);
  EXPECT_TRUE(SameBits(whole.value, std::max(left.value, right.value)));
}

TEST_P(Logits, GumbelDrawsTheDistribution) {
  const std::vector<double> p = {0.5, 0.25, 0.15, 0.1};
  std::vector<float> x;
  for (const double q : p) x.push_back(static_cast<float>(std::log(q)));
  std::vector<int> count(4);
  const uint32_t draws = 40000;
  for (uint32_t i = 0; i < draws; ++i) ++count[GumbelArgmax(x, 0, {77, i, 0}, ScopedIsa::current()).index];
  for (size_t i = 0; i < 4; ++i) {  // the seed is fixed: five standard deviations are no flake
    EXPECT_NEAR(count[i], draws * p[i], 5 * std::sqrt(draws * p[i] * (1 - p[i])));
  }
}

TEST_P(Logits, ArgmaxTakesTheLowestOfEqualOnes) {
  for (const int64_t n : {1, 2, 15, 16, 17, 40, 1000}) {
    std::vector<float> x = Normal(n, 3);
    x[n / 2] = x[n - 1] = 50;
    EXPECT_EQ(Argmax(x, ScopedIsa::current()).index, n / 2);
    EXPECT_EQ(Argmax(x, ScopedIsa::current()).value, 50);
    std::fill(x.begin(), x.end(), -kInfinity);
    EXPECT_EQ(Argmax(x, ScopedIsa::current()).index, 0);
    EXPECT_EQ(GumbelArgmax(x, 64, {1, 2, 3}, ScopedIsa::current()).index, 0);
    std::fill(x.begin(), x.end(), -3.0f);
    EXPECT_EQ(Argmax(x, ScopedIsa::current()).index, 0);
    x[n - 1] = -kInfinity;
    x[0] = -7.0f;
    if (n > 2) {
      EXPECT_EQ(Argmax(x, ScopedIsa::current()).index, 1);
    }
  }
}

TEST_P(Logits, AllFinite) {
  for (const int64_t n : {1, 15, 16, 33}) {
    for (int64_t at = 0; at < n; ++at) {
      std::vector<float> x = Normal(n, 4);
      x[at] = std::numeric_limits<float>::max();
      EXPECT_TRUE(AllFinite(x, ScopedIsa::current()));
      for (const float bad : {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
        x[at] = bad;
        EXPECT_FALSE(AllFinite(x, ScopedIsa::current())) << n << ' ' << at;
      }
    }
  }
}

float FoldOfClass(const std::vector<float>& pairs) {
  return BackendOf(ScopedIsa::current()).lse_fold(pairs.data(), static_cast<int64_t>(pairs.size() / 2));
}
float Lse(const std::vector<float>& x) {
  std::vector<float> pairs(2 * ((x.size() + 255) / 256));
  LseChunks(x.data(), static_cast<int64_t>(x.size()), pairs.data(), ScopedIsa::current());
  return FoldOfClass(pairs);
}

TEST_P(Logits, LogSumExp) {
  for (const int64_t n : {1, 5, 16, 17, 255, 256, 257, 1000, 5000}) {
    std::vector<float> x = Normal(n, 5, 5.0f);
    for (const float shift : {0.0f, 500.0f, -500.0f}) {
      std::vector<float> moved = x;
      for (float& f : moved) f += shift;
      if (n > 600) std::fill(moved.begin() + 256, moved.begin() + 512, -kInfinity);
      long double sum = 0;
      for (const float f : moved) sum += expl(static_cast<long double>(f) - shift);
      const double exact = static_cast<double>(logl(sum)) + shift;
      EXPECT_NEAR(Lse(moved), exact, 1e-6 * (1 + std::fabs(exact)) + n * 1e-8) << n;
      std::vector<float> pairs(2 * ((n + 255) / 256)), expected(pairs.size());
      LseChunks(moved.data(), n, pairs.data(), ScopedIsa::current());
      ScopedIsa reference(Isa::kReference);
      LseChunks(moved.data(), n, expected.data(), ScopedIsa::current());
      EXPECT_EQ(Differences(pairs, expected), 0) << n;
      EXPECT_TRUE(SameBits(FoldOfClass(pairs), Lse(moved)));
    }
  }
  EXPECT_EQ(Lse(std::vector<float>(300, -kInfinity)), -kInfinity);
}

TEST_P(Logits, LseFoldHasTheBitsOfTheReference) {
  const std::vector<float> x = Normal(20000, 6, 8.0f);
  const float got = Lse(x);
  ScopedIsa reference(Isa::kReference);
  EXPECT_TRUE(SameBits(got, Lse(x)));
  std::vector<float> pairs = {1.0f, 2.0f, -3.0f, 1.5f};
  EXPECT_TRUE(SameBits(LseFold(pairs.data(), 2), FoldOfClass(pairs)));
}

}  // namespace
}  // namespace pangea
