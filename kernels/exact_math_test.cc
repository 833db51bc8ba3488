// The math texts against long double, and against themselves on every class; conversions of half.h over all patterns.
#include "kernels/exact_math.h"

#include <gtest/gtest.h>
#include <immintrin.h>

#include <limits>

#include "kernels/backend.h"
#include "kernels/kernels_test_util.h"
#include "kernels/reference/scalar.h"

namespace pangea {
namespace {

using reference::F32;

// Worst error in units of the last place over a grid of bit patterns in [low, high].
template <class F, class G>
double WorstUlp(F f, G exact, float low, float high, int steps = 200000) {
  double worst = 0;
  for (int i = 0; i <= steps; ++i) {
    const float x = low + (high - low) * (static_cast<float>(i) / static_cast<float>(steps));
    const long double y = exact(static_cast<long double>(x));
    if (y == 0 || fabsl(y) < 0x1p-126L) continue;
    const long double ulp = ldexpl(1.0L, ilogbl(y) - 23);
    worst = std::max(worst, static_cast<double>(fabsl(f(x) - y) / ulp));
  }
  return worst;
}

TEST(ExactMath, FewUlps) {
  SetComputeFloatMode();
  const auto exp = [](float x) { return Exp(F32(x)).v; };
  const auto log = [](float x) { return Log(F32(x)).v; };
  const auto log1p = [](float x) { return Log1p(F32(x)).v; };
  const auto tanh = [](float x) { return Tanh(F32(x)).v; };
  const auto erf = [](float x) { return Erf(F32(x)).v; };
  EXPECT_LT(WorstUlp(exp, expl, -87.0f, 0.0f), 1.5);
  EXPECT_LT(WorstUlp(exp, expl, 0.0f, 88.7f), 1.5);
  EXPECT_LT(WorstUlp(exp, expl, -1e-3f, 1e-3f), 1.5);
  EXPECT_LT(WorstUlp(log, logl, 1e-30f, 1e-28f), 1.5);
  EXPECT_LT(WorstUlp(log, logl, 0.01f, 3.0f), 1.5);
  EXPECT_LT(WorstUlp(log, logl, 0.99f, 1.01f), 1.5);
  EXPECT_LT(WorstUlp(log, logl, 3.0f, 1e38f), 1.5);
  EXPECT_LT(WorstUlp(log1p, log1pl, -0.999f, -0.3f), 3);
  EXPECT_LT(WorstUlp(log1p, log1pl, -0.3f, -1e-10f), 3);
  EXPECT_LT(WorstUlp(tanh, tanhl, -9.0f, 9.0f), 3);
  EXPECT_LT(WorstUlp(tanh, tanhl, -0.7f, 0.7f), 3);
  EXPECT_LT(WorstUlp(erf, erfl, -5.0f, 5.0f), 3);
  EXPECT_LT(WorstUlp(erf, erfl, -0.95f, 0.95f), 3);
}

float ExpOfClass(float x) { return BackendOf(ScopedIsa::current()).exp(x); }
float LogOfClass(float x) { return BackendOf(ScopedIsa::current()).log(x); }

TEST(ExactMath, Edges) {
  SetComputeFloatMode();
  const float infinity = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const Isa isa : kIsas) {
    if (isa > BestIsa()) continue;
    ScopedIsa scoped(isa);
    EXPECT_EQ(ExpOfClass(-87.01f), 0.0f);
    EXPECT_GT(ExpOfClass(-87.0f), 1.17e-38f);
    EXPECT_EQ(ExpOfClass(-infinity), 0.0f);
    EXPECT_EQ(ExpOfClass(infinity), infinity);
    EXPECT_EQ(ExpOfClass(89.0f), infinity);
    EXPECT_LT(ExpOfClass(88.72f), infinity);
    EXPECT_EQ(ExpOfClass(0.0f), 1.0f);
    EXPECT_EQ(ExpOfClass(-0.0f), 1.0f);
    EXPECT_TRUE(std::isnan(ExpOfClass(nan)));
    EXPECT_EQ(LogOfClass(1.0f), 0.0f);
    EXPECT_EQ(LogOfClass(0.0f), -infinity);
    EXPECT_EQ(LogOfClass(infinity), infinity);
    EXPECT_TRUE(std::isnan(LogOfClass(-1.0f)));
    EXPECT_TRUE(std::isnan(LogOfClass(nan)));
  }
  EXPECT_EQ(Erf(F32(10.0f)).v, 1.0f);
  EXPECT_EQ(Erf(F32(-infinity)).v, -1.0f);
  EXPECT_EQ(Tanh(F32(infinity)).v, 1.0f);
  EXPECT_EQ(Tanh(F32(-100.0f)).v, -1.0f);
}

TEST(ExactMath, AllClassesGiveTheSameBits) {
  SetComputeFloatMode();
  std::mt19937 generator(3);
  std::vector<float> x;
  for (int i = 0; i < 100000; ++i) x.push_back(__builtin_bit_cast(float, static_cast<uint32_t>(generator())));
  for (int i = 0; i < 100000; ++i) x.push_back(static_cast<float>(generator()) * 0x1p-25f - 100.0f);
  const auto run = [&](Isa isa) {
    ScopedIsa scoped(isa);
    std::vector<float> y;
    for (const float f : x) {
      y.push_back(ExpOfClass(f));
      y.push_back(LogOfClass(f));
    }
    return y;
  };
  const std::vector<float> expected = run(Isa::kReference);
  for (const Isa isa : {Isa::kAvx2, Isa::kAvx512, Isa::kAmx}) {
    if (isa <= BestIsa()) {
      EXPECT_EQ(Differences(run(isa), expected), 0) << IsaName(isa);
    }
  }
}

// The document's trap: u = (c24 + 0.5) / 2^24 rounds to 1 for the last c24. Ours gives -inf there, which never wins.
TEST(ExactMath, GumbelIsNeverPlusInfinity) {
  SetComputeFloatMode();
  const auto gumbel = [](uint32_t bits) { return Gumbel<F32>(reference::I32(static_cast<int32_t>(bits))).v; };
  EXPECT_LT(gumbel(0xffffffffu), std::numeric_limits<float>::infinity());
  EXPECT_EQ(gumbel(0xffffffffu), -std::numeric_limits<float>::infinity());
  EXPECT_NEAR(gumbel(0), 33 * std::log(2.0), 1e-5);
  for (uint32_t c = 1; c < 0xfff00000u; c += 0x000fedcbu) {
    const long double v = static_cast<long double>(static_cast<float>(c)) * 0x1p-32L + 0x1p-33L;
    const long double exact = -logl(-log1pl(-v));
    EXPECT_NEAR(gumbel(c), static_cast<double>(exact), 4e-7 * std::max(1.0, static_cast<double>(fabsl(exact)))) << c;
  }
}

TEST(Half, AllF16PatternsAreExact) {
  _mm_setcsr(0x1F80);  // this test's own arithmetic must see subnormals
  for (uint32_t h = 0; h < 0x10000; ++h) {
    const float f = F16ToF32(static_cast<uint16_t>(h));
    const bool nan = (h & 0x7fff) > 0x7c00;
    EXPECT_EQ(std::isnan(f), nan) << h;
    if (nan) {
      EXPECT_GT(F32ToF16(f) & 0x7fff, 0x7c00);
      continue;
    }
    EXPECT_EQ(F32ToF16(f), h);
    const double exponent = (h >> 10) & 31, mantissa = h & 0x3ff;
    const double exact = exponent == 0    ? mantissa * 0x1p-24
                         : exponent == 31 ? INFINITY
                                          : (1024 + mantissa) * std::exp2(exponent - 25);
    EXPECT_EQ(std::fabs(f), exact);
  }
}

TEST(Half, RoundsToNearestEven) {
  _mm_setcsr(0x1F80);
  std::mt19937 generator(4);
  for (int i = 0; i < 300000; ++i) {
    uint32_t bits = generator();
    if (i % 3 == 0)
      bits = (bits & 0x80001fffu) | ((0x33000000u + generator() % 0x14800000u) & ~0x1fffu);  // around f16's range
    const float f = __builtin_bit_cast(float, bits);
    if (std::isnan(f)) {
      EXPECT_TRUE(std::isnan(F16ToF32(F32ToF16(f))) && std::isnan(Bf16ToF32(F32ToBf16(f))));
      continue;
    }
    // No neighbour is nearer; at equal distance the last bit is even.
    const auto nearest = [f](auto to, auto from, uint16_t infinity) {
      const uint16_t h = to(f);
      const double mine = std::fabs(static_cast<double>(from(h)) - f);
      if ((h & 0x7fff) == infinity) return true;  // checked below
      for (const int step : {-1, 1}) {
        const uint16_t other = static_cast<uint16_t>(h + step);
        if ((other & 0x7fff) >= infinity || ((h ^ other) & 0x8000) != 0) continue;
        const double theirs = std::fabs(static_cast<double>(from(other)) - f);
        if (theirs < mine || (theirs == mine && (h & 1) != 0)) return false;
      }
      return true;
    };
    EXPECT_TRUE(nearest([](float v) { return F32ToF16(v); }, [](uint16_t h) { return F16ToF32(h); }, 0x7c00)) << bits;
    EXPECT_TRUE(nearest([](float v) { return F32ToBf16(v); }, [](uint16_t h) { return Bf16ToF32(h); }, 0x7f80)) << bits;
  }
  EXPECT_EQ(F32ToF16(65519.996f), 0x7bff);
  EXPECT_EQ(F32ToF16(65520.0f), 0x7c00);
  EXPECT_EQ(F32ToF16(-1e30f), 0xfc00);
  EXPECT_EQ(F32ToF16(0x1p-25f), 0);
  EXPECT_EQ(F32ToF16(0x1.000002p-25f), 1);
  EXPECT_EQ(F32ToBf16(3.4e38f), 0x7f80);
}

TEST(Half, AllF8PatternsAreExactAndRoundToNearestEven) {
  for (const uint32_t mode : {0x1F80, 0x9FC0}) {  // subnormals of f32 flushed, too: f8 has none of them
    _mm_setcsr(mode);
    for (int q = 0; q < 256; ++q) {
      const float f = F8ToF32(static_cast<uint8_t>(q)), exact = NumberOfF8(q);
      EXPECT_EQ(__builtin_bit_cast(uint32_t, f) >> 31, q >> 7);
      EXPECT_TRUE(f == exact || (std::isnan(f) && std::isnan(exact))) << q;
      EXPECT_EQ(F32ToF8(f), q);
    }
    // As the specification has them.
    EXPECT_EQ(F8ToF32(0x7e), 448.0f);
    EXPECT_EQ(F8ToF32(0x38), 1.0f);
    EXPECT_EQ(F8ToF32(0x88), -0x1p-6f);
    EXPECT_EQ(F8ToF32(0x01), 0x1p-9f);
    std::mt19937 generator(4);
    for (int i = 0; i < 100000; ++i) {
      const uint32_t bits = (generator() & 0x80ffffffu) | (0x38000000u + generator() % 0x0d000000u);  // 2^-15 to 2^11
      const float f = __builtin_bit_cast(float, i % 2 == 0 ? bits : bits & ~0x7ffffu);                // ties, too
      const uint8_t got = F32ToF8(f);
      const auto far = [&](int q) { return std::fabs(static_cast<double>(NumberOfF8(q)) - f); };
      EXPECT_EQ(got >> 7, __builtin_bit_cast(uint32_t, f) >> 31);
      for (const int other : {got - 1, got + 1}) {
        if ((other & 0x7f) == 0x7f || ((other ^ got) & 0x180) != 0) continue;
        EXPECT_TRUE(far(got) < far(other) || (far(got) == far(other) && got % 2 == 0)) << f << ' ' << int{got};
      }
    }
    EXPECT_EQ(F32ToF8(1e30f), 0x7e);
    EXPECT_EQ(F32ToF8(-INFINITY), 0xff);
    EXPECT_EQ(F32ToF8(NAN) & 0x7f, 0x7f);
    EXPECT_EQ(F32ToF8(0x1p-10f), 0);
    EXPECT_EQ(F32ToF8(0x1.000002p-10f), 1);
  }
}

}  // namespace
}  // namespace pangea
