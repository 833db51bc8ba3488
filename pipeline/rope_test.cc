// Frequencies were computed by Transformers' formulas (modeling_rope_utils.py) transcribed to Python.
#include <gtest/gtest.h>

#include <cmath>

#include "pipeline/model_config.h"

namespace pangea {
namespace {

RopeConfig Base(double base, int rot, RopeScaling scaling, double factor, double original) {
  RopeConfig rope;
  rope.base = base;
  rope.rot = rot;
  rope.scaling = scaling;
  rope.factor = factor;
  rope.original_positions = original;
  return rope;
}

// Angle a position: f32's rounding of sine and cosine leaves seven digits.
double Frequency(const RopeTables& tables, int i, int half) {
  return std::atan2(tables.sin[half + i], tables.cos[half + i]);
}
double Amplitude(const RopeTables& tables) { return tables.cos[0]; }

void Expect(const RopeConfig& rope, int context, const std::vector<std::pair<int, double>>& frequencies) {
  const RopeTables tables = MakeRopeTables(rope, 2, context);
  for (const auto& [i, f] : frequencies) EXPECT_NEAR(Frequency(tables, i, rope.rot / 2) / f, 1, 3e-7) << "pair " << i;
}

TEST(Rope, PlainTableIsTheRoundedDouble) {
  const RopeConfig rope = Base(10000, 64, RopeScaling::kNone, 1, 0);
  const RopeTables tables = MakeRopeTables(rope, 300, 300);
  ASSERT_EQ(tables.cos.size(), 300u * 32);
  for (int p = 0; p < 300; p += 7) {
    for (int i = 0; i < 32; ++i) {
      const long double angle = p * std::pow(10000.0L, -2.0L * i / 64);
      EXPECT_NEAR(tables.cos[p * 32 + i], static_cast<double>(std::cos(angle)), 7e-8);
      EXPECT_NEAR(tables.sin[p * 32 + i], static_cast<double>(std::sin(angle)), 7e-8);
    }
  }
}

TEST(Rope, NoRotationNoTable) { EXPECT_TRUE(MakeRopeTables(RopeConfig{}, 16, 16).cos.empty()); }

TEST(Rope, Linear) { Expect(Base(10000, 64, RopeScaling::kLinear, 2, 512), 512, {{0, 0.5}, {16, 0.005}}); }

TEST(Rope, DynamicFollowsTheDeploymentsContext) {
  const RopeConfig rope = Base(10000, 128, RopeScaling::kDynamic, 2, 2048);
  Expect(rope, 8192, {{0, 1}, {1, 0.8396257425643113}, {32, 0.003721721340214912}, {63, 1.649688549556369e-05}});
  Expect(rope, 1024, {{1, 0.8659643233600653}});
  Expect(rope, 2048, {{1, 0.8659643233600653}});
}

TEST(Rope, Yarn) {
  const RopeConfig qwen = Base(1e6, 128, RopeScaling::kYarn, 4, 32768);
  Expect(qwen, 131072,
         {{0, 1},
          {20, 0.01333521432163324},
          {24, 0.005375321490790102},
          {28, 0.0018482765647068783},
          {32, 0.0006029411764705882},
          {40, 4.445698525097307e-05},
          {63, 3.102344401879299e-07}});
  EXPECT_NEAR(Amplitude(MakeRopeTables(qwen, 1, 1)), 1.138629436111989, 1e-7);
  RopeConfig rope = Base(10000, 64, RopeScaling::kYarn, 16, 4096);
  rope.truncate = false;
  Expect(rope, 4096,
         {{5, 0.23713737056616555},
          {10, 0.056234132519034905},
          {12, 0.027861316864565167},
          {15, 0.008634272965535735},
          {20, 0.0008164706233662653},
          {31, 8.334508951020775e-06}});
}

TEST(Rope, YarnAmplitudes) {
  RopeConfig rope = Base(10000, 64, RopeScaling::kYarn, 40, 4096);
  rope.mscale = 0.707;
  EXPECT_NEAR(Amplitude(MakeRopeTables(rope, 1, 1)), 0.1 * std::log(40) + 1, 1e-7)
      << "one of the two alone means nothing";
  rope.mscale_all_dim = 1.2;
  EXPECT_NEAR(Amplitude(MakeRopeTables(rope, 1, 1)), 0.8739404576185121, 1e-7);
  rope.attention_factor = 1.5;
  EXPECT_NEAR(Amplitude(MakeRopeTables(rope, 1, 1)), 1.5, 1e-7);
}

TEST(Rope, Llama3) {
  RopeConfig rope = Base(500000, 128, RopeScaling::kLlama3, 8, 8192);
  rope.low_freq_factor = 1;
  rope.high_freq_factor = 4;
  Expect(rope, 8192,
         {{0, 1},
          {28, 0.0032114459947525913},
          {29, 0.002166570763503359},
          {32, 0.0005248461609929547},
          {35, 9.556212353964683e-05},
          {36, 7.78465527393245e-05},
          {63, 3.068925988914511e-07}});
}

TEST(Rope, FactorsOfTheFileDivide) {
  RopeConfig rope = Base(10000, 8, RopeScaling::kNone, 1, 0);
  rope.factors = {1, 2, 4, 8};
  Expect(rope, 16, {{0, 1}, {1, 0.05}, {2, 0.0025}, {3, 0.000125}});
}

}  // namespace
}  // namespace pangea
