#include <gtest/gtest.h>

#include <limits>
#include <numeric>

#include "kernels/kernels_test_util.h"

namespace pangea {
namespace {

std::vector<DType> WeightTypes() {
  std::vector<DType> types = {DType::kF32, DType::kF16, DType::kBF16, DType::kF8E4M3};
  for (const QuantFormat& format : kQuantFormats) types.push_back(format.dtype);
  return types;
}
const std::vector<DType> kDTypes = WeightTypes();

// k, or the next multiple of the type's block.
int64_t WholeBlocks(DType dtype, int64_t k) {
  const int64_t block = Info(dtype).block;
  return (k + block - 1) / block * block;
}

// Bound on |y - exact|: what rounding the activations moves (quantised weights only), and one rounding a step of the
// sum (three for quantised blocks).
double Tolerance(DType dtype, ActivationBits bits, const float* x, const double* w, int64_t k) {
  double moved = 0, size = 0;
  for (int64_t b = 0; b < k; b += kQuantGroup) {
    const int64_t end = std::min(k, b + kQuantGroup);
    double amax = 0;
    for (int64_t i = b; i < end; ++i) amax = std::max(amax, std::fabs(static_cast<double>(x[i])));
    for (int64_t i = b; i < end; ++i) {
      double step = 0;
      if (IsQuantised(dtype)) step = 0.5001 * amax / (bits == ActivationBits::k16 ? 32639 : 127);
      moved += std::fabs(w[i]) * step;
      size += std::fabs(w[i] * x[i]) + std::fabs(w[i]) * (IsQuantised(dtype) ? amax * 0.1 : 0);
    }
  }
  return moved + size * static_cast<double>(k + 8) * 0x1p-23;
}

// Counts values of y outside the bound around x times `w`, which has the values to compare with, [n][k].
int64_t Outside(const StoredWeight& stored, const std::vector<double>& w, const std::vector<float>& x,
                const std::vector<float>& y, ActivationBits bits) {
  const int64_t k = stored.k;
  int64_t outside = 0;
  for (int64_t i = 0; i * k < static_cast<int64_t>(x.size()); ++i) {
    for (int64_t j = 0; j < stored.n; ++j) {
      double exact = 0;
      for (int64_t e = 0; e < k; ++e) exact += w[j * k + e] * x[i * k + e];
      const double bound = Tolerance(stored.dtype, bits, &x[i * k], &w[j * k], k);
      outside += std::fabs(y[i * stored.n + j] - exact) <= bound ? 0 : 1;
    }
  }
  return outside;
}

int64_t Outside(const StoredWeight& stored, const std::vector<double>& w, ActivationBits bits, int64_t m,
                Queue& queue) {
  const std::vector<float> x = Normal(m * stored.k, 7);
  return Outside(stored, w, x, Product(x, m, PackWhole(stored, queue), queue, bits), bits);
}

TEST(Products, ReferenceAgreesWithDoubleArithmetic) {
  ScopedIsa isa(Isa::kReference);
  TestQueue queue(1);
  for (const DType dtype : kDTypes) {
    for (const ActivationBits bits : {ActivationBits::k16, ActivationBits::k8}) {
      for (const auto& [n, least] : {std::pair<int64_t, int64_t>{1, 32}, {16, 64}, {37, 96}, {70, 288}}) {
        const int64_t k = WholeBlocks(dtype, least);
        const StoredWeight w = MakeWeight(dtype, n, k, 11);
        EXPECT_EQ(Outside(w, w.value, bits, 3, queue), 0) << Info(dtype).name << ' ' << n << 'x' << k;
      }
    }
    if (IsQuantised(dtype)) continue;
    for (const int64_t k : {1, 2, 7, 33}) {
      for (const bool transposed : {false, true}) {
        if (transposed && dtype == DType::kF8E4M3) continue;
        const StoredWeight w = MakeWeight(dtype, 67, k, 12, transposed);
        EXPECT_EQ(Outside(w, w.value, ActivationBits::k16, 2, queue), 0)
            << Info(dtype).name << " K=" << k << transposed;
      }
    }
  }
}

TEST(Products, TheToleranceSeesWrongWeights) {
  ScopedIsa isa(Isa::kReference);
  TestQueue queue(1);
  for (const DType dtype : kDTypes) {
    const StoredWeight w = MakeWeight(dtype, 16, WholeBlocks(dtype, 64), 13);
    std::vector<double> wrong = w.value;  // neighbours in k swapped in one place of each column
    for (int64_t j = 0; j < w.n; ++j) std::swap(wrong[j * w.k + 17], wrong[j * w.k + 18]);
    EXPECT_GT(Outside(w, wrong, ActivationBits::k16, 4, queue), 40) << Info(dtype).name;
  }
}

TEST(Products, TheToleranceSeesActivationsRoundedToBf16) {
  TestQueue queue(1);
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    const StoredWeight w = MakeWeight(dtype, 37, 96, 14);
    const std::vector<float> x = Normal(8 * w.k, 15);
    std::vector<float> rounded = x;
    for (float& f : rounded) f = Bf16ToF32(F32ToBf16(f));
    const Weight packed = PackWhole(w, queue);
    EXPECT_EQ(Outside(w, w.value, x, Product(x, 8, packed, queue), ActivationBits::k16), 0) << Info(dtype).name;
    EXPECT_GT(Outside(w, w.value, x, Product(rounded, 8, packed, queue), ActivationBits::k16), 8 * w.n / 2)
        << Info(dtype).name;
  }
}

class ProductsOnIsa : public testing::TestWithParam<Isa> {};
INSTANTIATE_TEST_SUITE_P(, ProductsOnIsa, testing::Values(Isa::kAvx2, Isa::kAvx512, Isa::kAmx), IsaTestName);

TEST_P(ProductsOnIsa, GivesTheBitsOfTheReference) {
  SKIP_WITHOUT(GetParam());
  TestQueue queue(1);
  for (const DType dtype : kDTypes) {
    for (const auto& [n, least] : {std::pair<int64_t, int64_t>{1, 32}, {50, 96}, {131, 288}}) {
      const int64_t k = WholeBlocks(dtype, least);
      for (const int64_t odd : {0, 1, 5}) {
        if (odd != 0 && IsQuantised(dtype)) continue;
        const StoredWeight w = MakeWeight(dtype, n, k + odd, 21);
        const Weight packed = PackWhole(w, queue);
        EXPECT_EQ(packed.bytes(), PackedBytes(dtype, n, k + odd));
        for (const int64_t m : {1, 2, 3, 5, 7, 8, 16, 27, 33, 130, 512}) {
          if (m > 33 && n > 100) continue;
          const std::vector<float> x = Normal(m * (k + odd), 22 + static_cast<uint32_t>(m));
          for (const ActivationBits bits : {ActivationBits::k16, ActivationBits::k8}) {
            std::vector<float> expected, got;
            {
              ScopedIsa isa(Isa::kReference);
              expected = Product(x, m, packed, queue, bits);
            }
            {
              ScopedIsa isa(GetParam());
              got = Product(x, m, packed, queue, bits);
            }
            EXPECT_EQ(Differences(expected, got), 0)
                << Info(dtype).name << " N=" << n << " K=" << k + odd << " M=" << m;
          }
        }
      }
    }
  }
}

// Zeros, subnormals, huge numbers, infinities, NaN, negative zero; some runs of so many with none but one kind.
std::vector<float> Extremes(int64_t n, int64_t run = kQuantGroup) {
  const float list[] = {0.0f,
                        -0.0f,
                        1e-40f,
                        -3e-39f,
                        0x1p-97f,
                        0x1.8p-96f,
                        0x1p-126f,
                        3e38f,
                        -3e38f,
                        1e30f,
                        1.0f,
                        -1.5f,
                        65504.0f,
                        1e-20f,
                        std::numeric_limits<float>::infinity(),
                        std::numeric_limits<float>::quiet_NaN()};
  std::mt19937 generator(5);
  std::vector<float> v(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    const int64_t block = i / run % 8;
    const uint32_t kinds = block == 0 ? 3 : block == 1 ? 5 : block == 2 ? 7 : block == 3 ? 14 : block == 4 ? 16 : 13;
    v[i] = list[generator() % kinds];
  }
  return v;
}

TEST_P(ProductsOnIsa, GivesTheBitsOfTheReferenceOnExtremes) {
  SKIP_WITHOUT(GetParam());
  TestQueue queue(1);
  for (const DType dtype : kDTypes) {
    const int64_t n = 48, k = WholeBlocks(dtype, 64), m = 40;
    StoredWeight w = MakeWeight(dtype, n, k, 31);
    const std::vector<float> special = Extremes(n * k);
    if (dtype == DType::kF32) std::memcpy(w.data(), special.data(), special.size() * 4);
    for (int64_t i = 0; i < n * k && dtype == DType::kF16; ++i)
      PutHalf(w.data() + 2 * i, static_cast<uint16_t>(i * 2654435761u >> 13));
    for (int64_t i = 0; i < n * k && dtype == DType::kBF16; ++i) PutHalf(w.data() + 2 * i, F32ToBf16(special[i]));
    for (int64_t i = 0; i < n * k && dtype == DType::kF8E4M3; ++i)  // NaN in some columns
      w.data()[i] = static_cast<std::byte>(i * 2654435761u >> 13 & (i / k % 3 == 0 ? 0xff : 0xfe));
    for (size_t i = 0; i < w.scale.size(); ++i) w.scale[i] = i % 5 == 0 ? 1e30f : i % 5 == 1 ? -1e-30f : w.scale[i];
    const auto [name, block, bytes] = Info(dtype);
    for (int64_t i = 0; i < n * k / block && IsQuantised(dtype); ++i) {
      std::byte* p = w.data() + i * bytes;
      // Scales and integers at their ends (all bits of both set, or none but the sign), the f16 numbers at theirs.
      if (i % 5 == 0) std::memset(p, i % 2 == 0 ? 0x80 : 0x7f, bytes);
      if (i % 5 == 1) std::memset(p, 0xff, bytes);
      const auto [d, m16] = HalvesOf(dtype);
      PutHalf(p + d, static_cast<uint16_t>(i % 7 == 0 ? 0x8001 : i % 7 == 1 ? 0x7bff : i % 7 == 2 ? 0 : 0x3c00));
      if (m16 >= 0) PutHalf(p + m16, static_cast<uint16_t>(i % 3 == 0 ? 0x0001 : i % 3 == 1 ? 0xfbff : 0x3c00));
    }
    const Weight packed = PackWhole(w, queue);
    const std::vector<float> x = Extremes(m * k, k / 2);
    for (const ActivationBits bits : {ActivationBits::k16, ActivationBits::k8}) {
      std::vector<float> expected, got;
      {
        ScopedIsa isa(Isa::kReference);
        expected = Product(x, m, packed, queue, bits);
      }
      {
        ScopedIsa isa(GetParam());
        got = Product(x, m, packed, queue, bits);
      }
      EXPECT_EQ(Differences(expected, got), 0) << Info(dtype).name;
      EXPECT_TRUE(std::isfinite(got[0]) || !IsQuantised(dtype));
    }
  }
}

TEST_P(ProductsOnIsa, RowsAloneColumnsCutAndThreadsChangeNothing) {
  SKIP_WITHOUT(GetParam());
  ScopedIsa isa(GetParam());
  TestQueue one(1);
  for (const DType dtype : kDTypes) {
    const int64_t n = 150, k = WholeBlocks(dtype, 128), m = 140;
    const StoredWeight w = MakeWeight(dtype, n, k, 41);
    const std::vector<float> x = Normal(m * k, 42);
    const Weight whole = PackWhole(w, one);
    const std::vector<float> y = Product(x, m, whole, one);
    for (const int64_t row : {0, 7, 8, 131, 139}) {
      const std::vector<float> alone = Product({x.begin() + row * k, x.begin() + (row + 1) * k}, 1, whole, one);
      EXPECT_EQ(Differences(alone, {y.begin() + row * n, y.begin() + (row + 1) * n}), 0) << Info(dtype).name << row;
    }
    for (const int threads : {2, 3}) {
      TestQueue queue(threads);
      EXPECT_EQ(Differences(Product(x, m, PackWhole(w, queue), queue), y), 0);
      EXPECT_EQ(Differences(Product({x.begin(), x.begin() + k}, 1, whole, queue), {y.begin(), y.begin() + n}), 0);
    }
    const WeightRows left = w.Rows(0, 75), right = w.Rows(75, 75);
    const Weight first = Weight::Pack(std::span(&left, 1), k, one), second = Weight::Pack(std::span(&right, 1), k, one);
    const std::vector<float> a = Product(x, m, first, one), b = Product(x, m, second, one);
    const WeightRows stacked[] = {right, left};
    const std::vector<float> swapped = Product(x, m, Weight::Pack(stacked, k, one), one);
    int64_t wrong = 0;
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < 75; ++j) {
        wrong += SameBits(a[i * 75 + j], y[i * n + j]) && SameBits(b[i * 75 + j], y[i * n + 75 + j]) ? 0 : 1;
        wrong +=
            SameBits(swapped[i * n + j], b[i * 75 + j]) && SameBits(swapped[i * n + 75 + j], a[i * 75 + j]) ? 0 : 1;
      }
    }
    EXPECT_EQ(wrong, 0) << Info(dtype).name;
  }
}

// A random program over random cuts; the same by hand, from one weight a leaf.
LeafProgram RandomProgram(int64_t k, int unit, std::mt19937& generator) {
  LeafProgram program;
  program.cuts = {0};
  int top = 0;
  while (program.cuts.back() < k) {
    const int64_t left = (k - program.cuts.back() + unit - 1) / unit;
    program.cuts.push_back(
        std::min<int64_t>(k, program.cuts.back() + unit * (1 + generator() % std::min<int64_t>(left, 3))));
    ++top;
    program.merges.push_back(static_cast<int>(generator() % top));
    top -= program.merges.back();
  }
  return program;
}

std::vector<float> ByHand(const StoredWeight& w, const std::vector<float>& x, int64_t m, const LeafProgram& program,
                          Queue& queue) {
  std::vector<std::vector<float>> stack;
  for (size_t leaf = 0; leaf + 1 < program.cuts.size(); ++leaf) {
    const int64_t k0 = program.cuts[leaf], size = program.cuts[leaf + 1] - k0;
    const WeightRows rows = w.Rows(0, w.n, k0);
    const Weight part = Weight::Pack(std::span(&rows, 1), size, queue);
    OwnedActivations a(m, w.k);
    PackActivations({x.data() + k0, m, w.k}, part, ActivationBits::k16, &a, queue);
    stack.emplace_back(static_cast<size_t>(m * w.n));
    MatMul(a, part, {stack.back().data(), w.n}, queue);
    for (int merge = 0; merge < program.merges[leaf]; ++merge) {
      const std::vector<float> upper = stack.back();
      stack.pop_back();
      for (size_t i = 0; i < upper.size(); ++i) stack.back()[i] = stack.back()[i] + upper[i];
    }
  }
  std::vector<float> all;
  for (const std::vector<float>& v : stack) all.insert(all.end(), v.begin(), v.end());
  return all;
}

class LeafProgramsOnIsa : public testing::TestWithParam<Isa> {};
INSTANTIATE_TEST_SUITE_P(, LeafProgramsOnIsa, testing::ValuesIn(kIsas), IsaTestName);

TEST_P(LeafProgramsOnIsa, EqualTheTreeDoneByHand) {
  SKIP_WITHOUT(GetParam());
  ScopedIsa isa(GetParam());
  TestQueue queue(2);
  std::mt19937 generator(51);
  for (const DType dtype : kDTypes) {
    for (int round = 0; round < 12; ++round) {
      const int unit = SplitUnit(dtype);
      const int64_t blocks = 1 + generator() % (unit > kQuantGroup ? 5 : 16);
      const int64_t k = IsQuantised(dtype) ? unit * blocks : 1 + generator() % (dtype == DType::kF8E4M3 ? 600 : 65);
      const int64_t m = round % 4 == 0 ? 1 : 1 + generator() % 19;
      const StoredWeight w = MakeWeight(dtype, 1 + generator() % 90, k, generator());
      const LeafProgram program = RandomProgram(k, unit, generator);
      const std::vector<float> x = Normal(m * k, generator());
      const Weight packed = PackWhole(w, queue, program);
      EXPECT_EQ(packed.vectors(), program.vectors());
      EXPECT_EQ(Differences(Product(x, m, packed, queue), ByHand(w, x, m, program, queue)), 0)
          << Info(dtype).name << " round " << round;
    }
  }
}

// The same weights, widened and stored as f32. On bits, as arithmetic flushes subnormals.
StoredWeight WidenedToF32(const StoredWeight& w) {
  StoredWeight wide{DType::kF32, w.n, w.k, false, 4 * w.k, {}, w.value};
  wide.memory.resize(static_cast<size_t>(1 + 4 * w.n * w.k));
  for (int64_t i = 0; i < w.n * w.k; ++i) {
    const auto scale = [&] {
      return w.scale[i / w.k / w.scales.columns * w.scales.pitch + i % w.k / kScaleRun * w.scales.step];
    };
    uint16_t h = 0;
    if (w.dtype != DType::kF8E4M3) std::memcpy(&h, w.memory.data() + 1 + 2 * i, 2);
    const float f = w.dtype == DType::kF16    ? F16ToF32(h)
                    : w.dtype == DType::kBF16 ? Bf16ToF32(h)
                                              : NumberOfF8(std::to_integer<int>(w.memory[1 + i])) * scale();
    std::memcpy(wide.data() + 4 * i, &f, 4);
  }
  return wide;
}

TEST_P(LeafProgramsOnIsa, WeightsOf16And8BitsGiveTheBitsOfTheirF32Copy) {
  SKIP_WITHOUT(GetParam());
  ScopedIsa isa(GetParam());
  std::mt19937 generator(53);
  for (const DType dtype : {DType::kF16, DType::kBF16, DType::kF8E4M3}) {
    for (const int64_t m : {1, 2, 3, 5, 7, 16, 33, 130}) {
      TestQueue queue(1 + static_cast<int>(m) % 3);
      const int64_t n = 1 + generator() % 150, k = 1 + generator() % (dtype == DType::kF8E4M3 ? 390 : 130);
      StoredWeight w = MakeWeight(dtype, n, k, generator());
      for (const bool extreme : {false, true}) {
        // Every pattern may come: zeros of either sign, subnormals, infinities, NaN.
        for (int64_t i = 0; i < n * k && extreme; ++i) {
          if (dtype == DType::kF8E4M3) {
            w.data()[i] = static_cast<std::byte>(generator());
          } else {
            PutHalf(w.data() + 2 * i, static_cast<uint16_t>(generator()));
          }
        }
        const std::vector<float> x = extreme ? Extremes(m * k) : Normal(m * k, generator());
        const LeafProgram program = RandomProgram(k, SplitUnit(dtype), generator);
        EXPECT_EQ(Differences(Product(x, m, PackWhole(w, queue, program), queue),
                              Product(x, m, PackWhole(WidenedToF32(w), queue, program), queue)),
                  0)
            << Info(dtype).name << " N=" << n << " K=" << k << " M=" << m << (extreme ? " extreme" : "");
      }
    }
  }
}

TEST_P(LeafProgramsOnIsa, ATreeDeeperThanTheLocalStackIsRight) {
  SKIP_WITHOUT(GetParam());
  ScopedIsa isa(GetParam());
  TestQueue queue(1);
  const int leaves = 40;
  const StoredWeight w = MakeWeight(DType::kF32, 70, 2 * leaves, 61);
  LeafProgram program;
  for (int i = 0; i < leaves; ++i) program.cuts.push_back(2 * (i + 1));
  program.merges.assign(leaves, 0);
  const std::vector<float> x = Normal(9 * w.k, 62);
  EXPECT_EQ(Differences(Product(x, 9, PackWhole(w, queue, program), queue), ByHand(w, x, 9, program, queue)), 0);
  program.merges.back() = leaves - 1;
  const std::vector<float> chained = Product(x, 9, PackWhole(w, queue, program), queue);
  EXPECT_EQ(Differences(chained, ByHand(w, x, 9, program, queue)), 0);
  // The other association must show, or this test could not see a wrong tree.
  EXPECT_GT(Differences(chained, Product(x, 9, PackWhole(w, queue), queue)), 100);
}

TEST_P(LeafProgramsOnIsa, WritesNothingBesideItsColumns) {
  SKIP_WITHOUT(GetParam());
  ScopedIsa isa(GetParam());
  TestQueue queue(1);
  for (const DType dtype : kDTypes) {
    const int64_t half = std::max<int64_t>(WholeBlocks(dtype, 32), SplitUnit(dtype)), k = 2 * half;
    const StoredWeight w = MakeWeight(dtype, 19, k, 71);
    const LeafProgram program{{0, half, k}, {0, 0}};
    const Weight packed = PackWhole(w, queue, program);
    const std::vector<float> x = Normal(3 * k, 72);
    OwnedActivations a(3, k);
    PackActivations({x.data(), 3, k}, packed, ActivationBits::k16, &a, queue);
    std::vector<float> y(2 * 3 * 25, 123.0f);
    MatMul(a, packed, {y.data(), 25}, queue);
    for (size_t i = 0; i < y.size(); ++i) EXPECT_EQ(y[i] == 123.0f, i % 25 >= 19);
  }
}

TEST(Products, ARankWithoutColumnsOrLeaves) {
  TestQueue queue(1);
  const StoredWeight w = MakeWeight(DType::kF32, 8, 4, 1);
  const WeightRows none = w.Rows(0, 0);
  const Weight empty = Weight::Pack(std::span(&none, 1), 4, queue);
  EXPECT_TRUE(empty.empty());
  EXPECT_TRUE(Weight::Pack({}, 4, queue).empty());
  EXPECT_EQ(Product(Normal(4, 1), 1, empty, queue).size(), 0u);
  const WeightRows rows = w.Rows(0, 8);
  const Weight no_leaf = Weight::Pack(std::span(&rows, 1), 0, LeafProgram{}, queue);
  EXPECT_EQ(no_leaf.vectors(), 0);
  float y = 5;
  OwnedActivations a(1, 0);
  PackActivations({&y, 1, 0}, no_leaf, ActivationBits::k16, &a, queue);
  MatMul(a, no_leaf, {&y, 8}, queue);
  EXPECT_EQ(y, 5);
}

TEST(Products, EmbeddingRowsAreExact) {
  TestQueue queue(1);
  for (const DType dtype : kDTypes) {
    for (const bool transposed : {false, true}) {
      if ((transposed && IsQuantised(dtype)) || dtype == DType::kF8E4M3) continue;
      const int64_t k = WholeBlocks(dtype, 64);
      const StoredWeight w = MakeWeight(dtype, 9, k, 81, transposed);
      const std::vector<int32_t> ids = {8, 0, 3, 3};
      std::vector<float> out(static_cast<size_t>(4 * k + 1), 9.0f);
      EmbeddingRows(w.Rows(0, 9), k, ids, out.data(), queue);
      for (size_t i = 0; i < ids.size(); ++i) {
        for (int64_t e = 0; e < k; ++e) EXPECT_EQ(out[i * k + e], static_cast<float>(w.value[ids[i] * k + e]));
      }
      EXPECT_EQ(out.back(), 9.0f);
    }
  }
}

}  // namespace
}  // namespace pangea
