#include "pipeline/cost_model.h"

#include <gtest/gtest.h>

#include "pipeline/parallel_plan_test_util.h"

namespace pangea {
namespace {

// hidden 64, 4 heads of 16, feed-forward 160, vocabulary 512, 2 layers, f32; every speed a number that shows in the
// result.
struct Bed {
  explicit Bed(int pipeline, int tensor) {
    deployment.model = "test";
    deployment.parallel.pipeline = pipeline, deployment.parallel.tensor = tensor;
    auto& s = deployment.simulate;
    s.gflops = 2, s.compute_percent = 50, s.attention_percent = 10;  // 5e8 and 1e8 multiply-adds a second
    s.memory_bandwidth = 2'000'000, s.memory_percent = 50;           // 1e6 bytes a second
    s.layer_seconds = 0.25, s.step_seconds = 3;
    s.tensor_bandwidth = 1'000'000, s.tensor_latency = 0.125, s.stage_bandwidth = 4'000'000;
    shape.max_positions = 512;
  }
  std::vector<StageCost> Of(const Step& step) {
    const CheckpointHeader header = Header();
    const PlanResult made = MakePlan(header, deployment);
    EXPECT_TRUE(made.faults.empty());
    return CostModel(TensorIndex(header), deployment, made.plan).Stages(step);
  }
  CheckpointHeader Header() const {
    CheckpointHeader header = MakeTestCheckpoint({});
    header.config.window = shape.window.empty() ? header.config.window : shape.window;
    return header;
  }
  Deployment deployment;
  ModelConfig shape;
};

Step Rows(std::vector<std::pair<int, int>> start_and_rows, LogitRows logits) {
  Step step;
  for (const auto& [start, rows] : start_and_rows) {
    StepSequence& part = step.sequences.emplace_back();
    part.start = start;
    part.ids.assign(rows, 1);
    part.logits = logits;
  }
  return step;
}

// Multiply-adds of a row in one layer: q, k, v, o are 64 x 64, gate, up and down 64 x 160.
constexpr double kLayerMacs = 4 * 64 * 64 + 3 * 64 * 160;
constexpr double kLayerBytes = kLayerMacs * 4, kHeadBytes = 64 * 512 * 4;
constexpr double kTokenBytes = 2 * 4 * 16 * 2;  // of one layer's keys and values in f16

TEST(CostModel, OneRowReadsTheWeightsAndItsContextOnce) {
  Bed bed(1, 1);
  const StageCost cost = bed.Of(Rows({{99, 1}}, LogitRows::kLast))[0];
  EXPECT_NEAR(cost.products, (2 * kLayerBytes + kHeadBytes) / 1e6, 1e-9);
  EXPECT_NEAR(cost.attention, 2 * 100 * kTokenBytes / 1e6, 1e-9);
  EXPECT_DOUBLE_EQ(cost.fixed, 3 + 2 * 0.25);
  EXPECT_EQ(cost.gather, 0);
  EXPECT_EQ(cost.hand_over, 0);
}

TEST(CostModel, ManyRowsAreBoundByMultiplyAdds) {
  Bed bed(1, 1);
  bed.deployment.simulate.memory_bandwidth = 1'000'000'000'000'000;
  const StageCost chunk = bed.Of(Rows({{0, 300}}, LogitRows::kNone))[0];  // wants no logits: no head
  EXPECT_NEAR(chunk.products, 300 * 2 * kLayerMacs / 5e8, 1e-9);
  // Scores and sums: 2 x 64 multiply-adds for every row and position at or before it.
  EXPECT_NEAR(chunk.attention, 2 * (300 * 301 / 2) * 128.0 / 1e8, 1e-9);
  const StageCost later = bed.Of(Rows({{200, 10}, {50, 1}}, LogitRows::kLast))[0];
  double pairs = 51;
  for (int position = 200; position < 210; ++position) pairs += position + 1;
  EXPECT_NEAR(later.attention, 2 * pairs * 128 / 1e8, 1e-9);
  EXPECT_NEAR(later.products, 11 * 2 * kLayerMacs / 5e8 + 2 * 64 * 512 / 5e8, 1e-9);
}

TEST(CostModel, AWindowBoundsWhatARowLooksAt) {
  Bed bed(1, 1);
  bed.shape.window = {0, 7};
  bed.deployment.simulate.memory_bandwidth = 1'000'000'000'000'000;
  const StageCost cost = bed.Of(Rows({{3, 20}}, LogitRows::kNone))[0];
  double pairs = 0;
  for (int position = 3; position < 23; ++position) pairs += position + 1 + std::min(position + 1, 7);
  EXPECT_NEAR(cost.attention, pairs * 128 / 1e8, 1e-9);
  bed.deployment.simulate.memory_bandwidth = 2'000'000;
  EXPECT_NEAR(bed.Of(Rows({{99, 1}}, LogitRows::kNone))[0].attention, (100 + 7) * kTokenBytes / 1e6, 1e-9);
}

TEST(CostModel, RanksShareTheWorkAndGather) {
  Bed one(1, 1), two(1, 2);
  const Step step = Rows({{99, 1}, {0, 4}}, LogitRows::kLast);
  const StageCost alone = one.Of(step)[0], shared = two.Of(step)[0];
  EXPECT_NEAR(shared.attention, alone.attention / 2, 1e-9);
  EXPECT_GT(shared.products, alone.products * 0.5 - 1e-9);
  EXPECT_LT(shared.products, alone.products * 0.55);  // the feed-forward of 160 is not cut in the middle
  // Two gathers a layer and one of candidates; each brings the other rank's partial sum, 64 floats for each of 5 rows.
  EXPECT_NEAR(shared.gather, (2 * 2 + 1) * 0.125 + 2 * 2 * 5 * 64 * 4 / 1e6, 1e-9);
}

TEST(CostModel, StagesHandTheHiddenStateOn) {
  Bed bed(2, 1);
  const std::vector<StageCost> costs = bed.Of(Rows({{99, 1}, {0, 4}}, LogitRows::kLast));
  ASSERT_EQ(costs.size(), 2u);
  EXPECT_NEAR(costs[0].hand_over, 5 * 64 * 4 / 4e6, 1e-12);
  EXPECT_EQ(costs[1].hand_over, 0);
  EXPECT_NEAR(costs[0].products, std::max(kLayerBytes / 1e6, 5 * kLayerMacs / 5e8), 1e-9);
  EXPECT_NEAR(costs[1].products - costs[0].products, kHeadBytes / 1e6, 1e-9);  // layers alike, the head is the last's
}

TEST(CostModel, SwapBlocksAreMemoryOfTheAgentToo) {
  Bed bed(2, 2);
  const ParallelPlan without = MakePlan(bed.Header(), bed.deployment).plan;
  bed.deployment.cache.swap = 1 << 20;
  const ParallelPlan with = MakePlan(bed.Header(), bed.deployment).plan;
  ASSERT_GT(with.swap_blocks, 0);
  for (size_t i = 0; i < with.agents.size(); ++i) {
    const int64_t swap = with.agents[i].memory.total() - without.agents[i].memory.total();
    EXPECT_EQ(swap, with.swap_blocks * with.agents[i].kv_block_bytes);
    EXPECT_GT(swap, (1 << 20) - 2 * with.agents[i].kv_block_bytes);  // the megabyte, but for what is less than a block
    EXPECT_LE(swap, 1 << 20);
  }
  // Room for all but the swap blocks is too little.
  int64_t fullest = 0;
  for (const RankPlan& agent : without.agents) fullest = std::max(fullest, agent.memory.total());
  bed.deployment.simulate.memory = fullest;
  EXPECT_NE(MemoryFault(bed.deployment, with), "");
  EXPECT_EQ(MemoryFault(bed.deployment, without), "");
}

TEST(CostModel, MemoryThatIsMissingIsAFault) {
  Bed bed(2, 2);
  const PlanResult made = MakePlan(bed.Header(), bed.deployment);
  int64_t fullest = 0;
  for (const RankPlan& agent : made.plan.agents) fullest = std::max(fullest, agent.memory.total());
  bed.deployment.simulate.memory = fullest;
  EXPECT_EQ(MemoryFault(bed.deployment, made.plan), "");
  bed.deployment.simulate.memory = fullest - 1;
  EXPECT_TRUE(MemoryFault(bed.deployment, made.plan).starts_with("simulate.memory: rank "))
      << MemoryFault(bed.deployment, made.plan);
  bed.deployment.simulate.memory = 1;
  EXPECT_TRUE(MemoryFault(bed.deployment, made.plan).ends_with("; 3 others need too much as well"));
  bed.deployment.simulate.memory = 0;
  EXPECT_EQ(MemoryFault(bed.deployment, made.plan), "");
}

// The nearest change that a refusal names fits, and two megabytes more would not.
TEST(HostFault, SaysWhatIsMissingAndWhatWouldFit) {
  Bed bed(1, 2);
  bed.deployment.cache.memory = 64 << 20;
  bed.deployment.cache.swap = 8 << 20;
  const auto plan = [&] { return MakePlan(bed.Header(), bed.deployment).plan; };
  const ParallelPlan whole = plan();
  int64_t needed = 0, swap = 0;
  for (const RankPlan& agent : whole.agents) needed += agent.memory.own(), swap += agent.memory.swap;
  EXPECT_EQ(HostFault(bed.deployment, whole, {needed, "a test"}), "");
  const std::string one = HostFault(bed.deployment, whole, {needed - 1, "a test"});
  EXPECT_TRUE(one.starts_with("memory: 2 agents of this host need ")) << one;
  EXPECT_TRUE(one.ends_with(" are available (a test): 1 B are missing; cache.swap: 0 fits")) << one;
  const HostMemory host{needed - swap - (10 << 20), "a test"};
  const std::string more = HostFault(bed.deployment, whole, host), advice = "cache.swap: 0 and cache.memory: ";
  const size_t at = more.find(advice);
  ASSERT_NE(at, more.npos) << more;
  bed.deployment.cache.swap = 0;
  bed.deployment.cache.memory = static_cast<uint64_t>(std::stoll(more.substr(at + advice.size()))) << 20;
  EXPECT_EQ(HostFault(bed.deployment, plan(), host), "");
  bed.deployment.cache.memory += 2 << 20;
  EXPECT_NE(HostFault(bed.deployment, plan(), host), "");
  EXPECT_NE(HostFault(bed.deployment, whole, {1000, ""}).find("even without a cache"), std::string::npos);
}

TEST(HostFault, CountsTheAgentsThatTheMasterStartsHereAlone) {
  Bed bed(2, 1);
  bed.deployment.agent_list.assign(2, bed.deployment.agents);
  bed.deployment.agent_list[1].launch = "remote";
  const ParallelPlan plan = MakePlan(bed.Header(), bed.deployment).plan;
  const int64_t here = plan.agents[0].memory.own();
  EXPECT_EQ(HostFault(bed.deployment, plan, {here, ""}), "");
  EXPECT_NE(HostFault(bed.deployment, plan, {here - 1, ""}), "");
  bed.deployment.agent_list[0].device = "sim";
  EXPECT_EQ(HostFault(bed.deployment, plan, {0, ""}), "") << "it holds nothing";
}

}  // namespace
}  // namespace pangea
