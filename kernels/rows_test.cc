#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "kernels/kernels_test_util.h"

namespace pangea {
namespace {

constexpr float kEps = 1e-5f;

// Runs f under the reference and under `isa` and counts differing bits.
int64_t AgainstReference(Isa isa, const std::function<std::vector<float>()>& f) {
  std::vector<float> expected, got;
  {
    ScopedIsa scoped(Isa::kReference);
    expected = f();
  }
  {
    ScopedIsa scoped(isa);
    got = f();
  }
  return Differences(expected, got);
}

double Worst(const std::vector<float>& got, const std::vector<double>& exact) {
  double worst = 0;
  for (size_t i = 0; i < exact.size(); ++i) worst = std::max(worst, std::fabs(got[i] - exact[i]));
  return worst;
}

std::vector<double> RmsNormExact(const std::vector<float>& x, const float* w, int64_t m, int64_t d) {
  std::vector<double> y(x.size());
  for (int64_t i = 0; i < m; ++i) {
    double sum = 0;
    for (int64_t j = 0; j < d; ++j) sum += static_cast<double>(x[i * d + j]) * x[i * d + j];
    for (int64_t j = 0; j < d; ++j) y[i * d + j] = x[i * d + j] / std::sqrt(sum / d + kEps) * (w ? w[j] : 1.0f);
  }
  return y;
}

std::vector<double> LayerNormExact(const std::vector<float>& x, const float* w, const float* b, int64_t m, int64_t d) {
  std::vector<double> y(x.size());
  for (int64_t i = 0; i < m; ++i) {
    double mean = 0, square = 0;
    for (int64_t j = 0; j < d; ++j) mean += x[i * d + j] / static_cast<double>(d);
    for (int64_t j = 0; j < d; ++j) square += (x[i * d + j] - mean) * (x[i * d + j] - mean) / static_cast<double>(d);
    for (int64_t j = 0; j < d; ++j)
      y[i * d + j] = (x[i * d + j] - mean) / std::sqrt(square + kEps) * w[j] + (b ? b[j] : 0.0f);
  }
  return y;
}

class Rows : public testing::TestWithParam<Isa> {};
INSTANTIATE_TEST_SUITE_P(, Rows, testing::ValuesIn(kIsas), IsaTestName);

TEST_P(Rows, Norms) {
  SKIP_WITHOUT(GetParam());
  TestQueue queue(2);
  for (const int64_t d : {1, 3, 15, 16, 17, 31, 64, 576, 1000}) {
    const int64_t m = 5;
    const std::vector<float> x = Normal(m * d, 1), w = Normal(d, 2), b = Normal(d, 3);
    const auto rms = [&] {
      std::vector<float> y(x.size());
      RmsNorm({.x = x.data(), .w = w.data(), .eps = kEps, .m = m, .d = d, .y = y.data()}, queue);
      return y;
    };
    const auto layer = [&] {
      std::vector<float> y(x.size());
      LayerNorm({.x = x.data(), .w = w.data(), .b = b.data(), .eps = kEps, .m = m, .d = d, .y = y.data()}, queue);
      return y;
    };
    const auto plain = [&] {
      std::vector<float> y(x), z(x.size());
      RmsNorm({.x = y.data(), .w = nullptr, .eps = kEps, .m = m, .d = d, .y = y.data()}, queue);  // in place
      LayerNorm({.x = x.data(), .w = w.data(), .b = nullptr, .eps = kEps, .m = m, .d = d, .y = z.data()}, queue);
      y.insert(y.end(), z.begin(), z.end());
      return y;
    };
    ScopedIsa isa(GetParam());
    // Values stay under about sqrt(d) * 5 before the weight; a dozen roundings of that.
    const double bound = (std::sqrt(static_cast<double>(d)) + 5) * 5 * 16 * 0x1p-23;
    EXPECT_LT(Worst(rms(), RmsNormExact(x, w.data(), m, d)), bound) << d;
    if (d > 2) {
      EXPECT_LT(Worst(layer(), LayerNormExact(x, w.data(), b.data(), m, d)), bound * 8) << d;
    }
    EXPECT_LT(Worst(plain(), RmsNormExact(x, nullptr, m, d)), bound) << d;
    EXPECT_EQ(AgainstReference(GetParam(), rms), 0) << d;
    EXPECT_EQ(AgainstReference(GetParam(), layer), 0) << d;
    EXPECT_EQ(AgainstReference(GetParam(), plain), 0) << d;
  }
}

TEST_P(Rows, NormOfHeadsNormsEachHeadAndTouchesNothingElse) {
  SKIP_WITHOUT(GetParam());
  ScopedIsa isa(GetParam());
  TestQueue queue(1);
  for (const int64_t d : {12, 64}) {
    const int heads = 3;
    const int64_t m = 4, ld = heads * d + 5;
    const std::vector<float> w = Normal(d, 4);
    std::vector<float> x = Normal(m * ld, 5);
    const std::vector<float> before = x;
    RmsNormHeads({.x = x.data(), .w = w.data(), .eps = kEps, .m = m, .ld = ld, .heads = heads, .d = d}, queue);
    for (int64_t i = 0; i < m; ++i) {
      for (int h = 0; h < heads; ++h) {
        std::vector<float> one(static_cast<size_t>(d));
        RmsNorm({.x = &before[i * ld + h * d], .w = w.data(), .eps = kEps, .m = 1, .d = d, .y = one.data()}, queue);
        for (int64_t j = 0; j < d; ++j) EXPECT_TRUE(SameBits(one[j], x[i * ld + h * d + j]));
      }
      for (int64_t j = heads * d; j < ld; ++j) EXPECT_TRUE(SameBits(x[i * ld + j], before[i * ld + j]));
    }
  }
}

TEST_P(Rows, AddsAndScales) {
  SKIP_WITHOUT(GetParam());
  ScopedIsa isa(GetParam());
  TestQueue queue(2);
  const int64_t m = 3, n = 37, ld = 41;
  const std::vector<float> a = Normal(m * ld, 6), b = Normal(m * ld, 7);
  std::vector<float> bias = a, sum(a.size()), added = a, scaled = a;
  AddBias(bias.data(), b.data(), {m, n, ld}, queue);
  Sum(a.data(), b.data(), sum.data(), m * ld, queue);
  Add(added.data(), b.data(), m * ld, queue);
  Scale(scaled.data(), 0.3f, {m, n, ld}, queue);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < ld; ++j) {
      const int64_t at = i * ld + j;
      EXPECT_EQ(bias[at], j < n ? a[at] + b[j] : a[at]);
      EXPECT_EQ(sum[at], a[at] + b[at]);
      EXPECT_EQ(added[at], a[at] + b[at]);
      EXPECT_EQ(scaled[at], j < n ? a[at] * 0.3f : a[at]);
    }
  }
}

TEST_P(Rows, Rope) {
  SKIP_WITHOUT(GetParam());
  TestQueue queue(2);
  for (const RopePairs pairs : {RopePairs::kHalves, RopePairs::kAdjacent}) {
    for (const auto& [head_dim, rot] :
         {std::pair<int64_t, int64_t>{64, 64}, {12, 12}, {80, 32}, {24, 18}, {128, 128}, {20, 2}}) {
      const int heads = 3;
      const int64_t m = 4, ld = heads * head_dim + 3, half = rot / 2;
      const std::vector<int32_t> positions = {0, 5, 6, 19};
      std::vector<float> cos(20 * half), sin(20 * half);
      for (int64_t i = 0; i < 20 * half; ++i) {
        const double angle =
            static_cast<double>(i / half) / std::pow(100.0, static_cast<double>(i % half) / static_cast<double>(half));
        cos[i] = static_cast<float>(std::cos(angle));
        sin[i] = static_cast<float>(std::sin(angle));
      }
      const std::vector<float> x = Normal(m * ld, 8);
      const auto run = [&] {
        std::vector<float> y = x;
        Rope({y.data(), positions.data(), m, ld, heads, head_dim, rot, pairs, cos.data(), sin.data()}, queue);
        return y;
      };
      EXPECT_EQ(AgainstReference(GetParam(), run), 0);
      ScopedIsa isa(GetParam());
      const std::vector<float> y = run();
      std::vector<double> exact(x.begin(), x.end());
      for (int64_t i = 0; i < m; ++i) {
        for (int64_t p = 0; p < heads * half; ++p) {
          const int64_t head = i * ld + p / half * head_dim, j = p % half;
          const int64_t first = head + (pairs == RopePairs::kHalves ? j : 2 * j),
                        second = head + (pairs == RopePairs::kHalves ? j + half : 2 * j + 1);
          const double c = cos[positions[i] * half + j], s = sin[positions[i] * half + j];
          exact[first] = x[first] * c - x[second] * s;
          exact[second] = x[second] * c + x[first] * s;
        }
      }
      EXPECT_LT(Worst(y, exact), 8 * 0x1p-23);
    }
  }
}

double GateExact(Gate gate, double g) {
  switch (gate) {
    case Gate::kSilu:
      return g / (1 + std::exp(-g));
    case Gate::kGeluErf:
      return 0.5 * g * std::erfc(-g * M_SQRT1_2);
    case Gate::kGeluTanh:
      return 0.5 * g * (1 + std::tanh(std::sqrt(2 / M_PI) * (g + 0.044715 * g * g * g)));
    case Gate::kGeluQuick:
      return g / (1 + std::exp(-1.702 * g));
    case Gate::kRelu:
      return std::max(0.0, g);
  }
  return 0;
}

TEST_P(Rows, Gates) {
  SKIP_WITHOUT(GetParam());
  TestQueue queue(2);
  for (const Gate gate : {Gate::kSilu, Gate::kGeluErf, Gate::kGeluTanh, Gate::kGeluQuick, Gate::kRelu}) {
    const int64_t m = 3, n = 205, ldg = 211, ldu = 207, ldy = 209;
    std::vector<float> g = Normal(m * ldg, 9, 4.0f);
    const std::vector<float> u = Normal(m * ldu, 10);
    const float special[] = {0.0f, -0.0f, 88.0f, -88.0f, 150.0f, -150.0f, 1e-30f, 3e38f, -1e-39f};
    std::copy(std::begin(special), std::end(special), g.begin());
    for (const bool gated : {false, true}) {
      const auto run = [&] {
        std::vector<float> y(m * ldy, 4.0f);
        GateUp({gate, g.data(), ldg, gated ? u.data() : nullptr, ldu, m, n, y.data(), ldy}, queue);
        return y;
      };
      EXPECT_EQ(AgainstReference(GetParam(), run), 0);
      ScopedIsa isa(GetParam());
      const std::vector<float> y = run();
      for (int64_t i = 0; i < m; ++i) {
        for (int64_t j = 0; j < n; ++j) {
          const double up = gated ? u[i * ldu + j] : 1.0f;
          const double exact = GateExact(gate, g[i * ldg + j]) * up;
          // A GELU subtracts from 1: its error is that of 1, times g.
          const double bound = 8 * 0x1p-23 * std::fabs(static_cast<double>(g[i * ldg + j]) * up) + 1e-37;
          EXPECT_LE(std::fabs(y[i * ldy + j] - exact), bound) << static_cast<int>(gate) << " at " << g[i * ldg + j];
        }
        for (int64_t j = n; j < ldy; ++j) EXPECT_EQ(y[i * ldy + j], 4.0f);
      }
    }
  }
}

TEST_P(Rows, SplittingRowsOverThreadsChangesNothing) {
  SKIP_WITHOUT(GetParam());
  ScopedIsa isa(GetParam());
  const int64_t m = 97, d = 576;
  const std::vector<float> x = Normal(m * d, 11), w = Normal(d, 12);
  std::vector<float> expected(x.size());
  TestQueue one(1);
  RmsNorm({.x = x.data(), .w = w.data(), .eps = kEps, .m = m, .d = d, .y = expected.data()}, one);
  for (const int threads : {2, 3}) {
    TestQueue queue(threads);
    std::vector<float> y(x.size());
    RmsNorm({.x = x.data(), .w = w.data(), .eps = kEps, .m = m, .d = d, .y = y.data()}, queue);
    EXPECT_EQ(Differences(expected, y), 0);
  }
}

}  // namespace
}  // namespace pangea
