#include "master/schedule/step_cost.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace pangea {
namespace {

// A machine: a step takes 5 ms, 0.1 ms more for each decoding row and 0.4 ms for each prompt row.
double Seconds(int decode, int prompt) { return 5e-3 + 1e-4 * decode + 4e-4 * prompt; }

TEST(StepCost, KnowsNothingAtFirst) {
  const StepCost cost(64);
  EXPECT_FALSE(cost.PromptRows(8, 8, 1.7));
  EXPECT_FALSE(cost.row_seconds());
  EXPECT_FALSE(cost.block_seconds());
}

// The rows it allows make a step as long as was asked for, on a machine whose steps vary by a tenth.
TEST(StepCost, LearnsHowManyRowsFit) {
  std::mt19937 random(1);
  std::uniform_real_distribution<double> noise(0.9, 1.1);
  StepCost cost(64);
  cost.Learn(0, 512, Seconds(0, 512));
  for (int i = 0; i < 50; ++i) cost.Learn(8, 0, Seconds(8, 0) * noise(random));
  for (int i = 0; i < 100; ++i) {
    const int rows = cost.PromptRows(8, 8, 1.7).value();
    cost.Learn(8, rows, Seconds(8, rows) * noise(random));
  }
  const double slowdown = Seconds(8, cost.PromptRows(8, 8, 1.7).value()) / Seconds(8, 0);
  EXPECT_NEAR(slowdown, 1.7, 0.17);  // as the noise
  EXPECT_NEAR(cost.row_seconds().value(), 4e-4, 1e-4);
}

TEST(StepCost, ABatchSizeNotSeenYetIsEstimatedFromASmallerOne) {
  StepCost cost(64);
  cost.Learn(0, 100, 1.0);  // 10 ms a row
  cost.Learn(4, 0, 1.0);
  EXPECT_EQ(cost.PromptRows(4, 4, 2), 100);
  EXPECT_EQ(cost.PromptRows(14, 14, 2), 110);
  EXPECT_EQ(cost.PromptRows(1, 1, 2), 100) << "there is no smaller one";
  EXPECT_EQ(cost.PromptRows(1000, 1000, 2), cost.PromptRows(64, 64, 2));
}

TEST(StepCost, StreamsThatAreAboutToDecodeCountToo) {
  StepCost cost(64);
  cost.Learn(0, 100, 1.0);
  cost.Learn(1, 0, 1.0);
  cost.Learn(33, 0, 2.0);
  EXPECT_EQ(cost.PromptRows(1, 33, 1.5), 200);  // 3 s in all, 1 s of it decoding
  EXPECT_EQ(cost.PromptRows(33, 1, 1.5), cost.PromptRows(33, 33, 1.5)) << "never less than beside those who decode";
}

TEST(StepCost, OneSlowStepChangesLittle) {
  StepCost cost(64);
  for (int i = 0; i < 50; ++i) cost.Learn(8, 0, Seconds(8, 0));
  cost.Learn(0, 100, Seconds(0, 100));
  const int before = cost.PromptRows(8, 8, 2).value();
  cost.Learn(8, 0, 30);
  EXPECT_LE(cost.PromptRows(8, 8, 2).value(), 2 * before);
}

TEST(StepCost, APromptAlwaysGetsAtLeastOneRow) {
  StepCost cost(8);
  cost.Learn(1, 0, 1e-6);
  cost.Learn(0, 1, 100);
  EXPECT_EQ(cost.PromptRows(1, 1, 1.5), 1);
}

TEST(StepCost, TimesThatMakeNoSenseAreIgnored) {
  StepCost cost(8);
  cost.Learn(1, 0, 0);
  cost.Learn(1, 0, -1);
  cost.Learn(0, 1, std::numeric_limits<double>::quiet_NaN());
  cost.Learn(0, 1, std::numeric_limits<double>::infinity());
  cost.LearnCopies(3, 0);
  EXPECT_FALSE(cost.PromptRows(1, 1, 2));
  EXPECT_FALSE(cost.block_seconds());
}

TEST(StepCost, LearnsWhatCopyingABlockTakes) {
  StepCost cost(8);
  cost.LearnCopies(4, 2e-3);
  EXPECT_NEAR(cost.block_seconds().value(), 5e-4, 1e-9);
}

}  // namespace
}  // namespace pangea
