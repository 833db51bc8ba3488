#include "master/fleet/layout.h"

#include "gtest/gtest.h"
#include "pipeline/capacity.h"

namespace pangea {
namespace {

using Ints = std::vector<int>;

Layout Of(const CheckpointHeader& header, Deployment deployment, int pipeline, int tensor) {
  deployment.parallel.pipeline = pipeline;
  deployment.parallel.tensor = tensor;
  PlanResult made = MakePlan(header, deployment);
  EXPECT_TRUE(made.faults.empty()) << made.faults.front().Text();
  return {deployment, made.plan};
}

class LayoutTest : public ::testing::Test {
 protected:
  LayoutTest() {
    deployment_.model = PANGEA_SOURCE_DIR "/models/stories260k";
    deployment_.name = "stories";
    deployment_.cache.memory = 4 << 20;
    header_ = *ReadCheckpointHeader(deployment_.model);
  }
  std::optional<Layout> Shrink(const Layout& before, const Ints& left) {
    return ShrunkLayout(header_, before, left, before.plan.context);
  }
  std::string Shrunk(int pipeline, int tensor, const Ints& left) {
    const auto shrunk = Shrink(Of(header_, deployment_, pipeline, tensor), left);
    return shrunk ? shrunk->Name() : "none";
  }
  Deployment deployment_;
  CheckpointHeader header_;
};

TEST_F(LayoutTest, WhatIsLeftIsUsedAndStagesAreKeptWhereTheyCan) {
  EXPECT_EQ(Shrunk(2, 2, {0, 1, 3}), "1 stage x 3 ranks");
  EXPECT_EQ(Shrunk(2, 2, {1, 3}), "2 stages x 1 rank");
  EXPECT_EQ(Shrunk(2, 2, {3}), "1 stage x 1 rank");
  EXPECT_EQ(Shrunk(4, 1, {0, 1, 2}), "1 stage x 3 ranks");
  EXPECT_EQ(Shrunk(2, 3, {0, 1, 2, 3}), "2 stages x 2 ranks");
}

TEST_F(LayoutTest, WhatMayBeLostIsToldBeforehand) {
  EXPECT_EQ(WhatMayBeLost(header_, Of(header_, deployment_, 2, 2)),
            "1 of 4 agents: 1 stage x 3 ranks; 2: 2 stages x 1 rank; 3: 1 stage x 1 rank");
  EXPECT_EQ(WhatMayBeLost(header_, Of(header_, deployment_, 1, 1)), "");
}

TEST_F(LayoutTest, EntriesOfAListGoWithTheirAgents) {
  deployment_.agent_list.resize(4);
  for (int i = 0; i < 4; ++i) {
    deployment_.agent_list[i].host = "10.0.0." + std::to_string(i);
    deployment_.agent_list[i].launch = "remote";
  }
  deployment_.control.token_file = "token";
  deployment_.control.listen = "0.0.0.0:7000";
  const auto shrunk = Shrink(Of(header_, deployment_, 4, 1), {0, 2, 3});
  ASSERT_TRUE(shrunk);
  ASSERT_EQ(shrunk->deployment.agent_list.size(), 3u);
  EXPECT_EQ(shrunk->deployment.agent(1).host, "10.0.0.2");
  EXPECT_FALSE(MakeLayout(header_, deployment_, 5, 1, shrunk->plan.context).ok()) << "the list is too short";
}

// Each of two agents holds half of the pages; one alone cannot hold the context of both.
TEST_F(LayoutTest, ALayoutThatDoesNotHoldTheContextIsNone) {
  const int64_t block = Of(header_, deployment_, 1, 1).plan.agents[0].kv_block_bytes;
  const int context = Of(header_, deployment_, 2, 1).plan.context;
  deployment_.cache.memory = block * (context / 16) * 3 / 4;
  deployment_.context = context;
  EXPECT_EQ(Shrunk(2, 1, {0}), "none");
  EXPECT_EQ(WhatMayBeLost(header_, Of(header_, deployment_, 2, 1)), "1 of 2 agents: none");
}

TEST_F(LayoutTest, PlacesGoToAgentsOfTheirHosts) {
  deployment_.agent_list.resize(4);
  deployment_.agent_list[1] = {.launch = "remote", .host = "b"};
  deployment_.agent_list[2] = {.launch = "remote"};
  deployment_.agent_list[3] = {.launch = "remote", .host = "c"};
  deployment_.control.token_file = "token";
  deployment_.control.listen = "0.0.0.0:7000";
  const Layout layout = Of(header_, deployment_, 4, 1);
  EXPECT_EQ(Seats(layout, {}), (Ints{-1, -1, -1, -1}));
  EXPECT_EQ(Seats(layout, {{true, "a"}, {true, "a"}}), (Ints{0, -1, -1, -1})) << "one of its own host is enough";
  EXPECT_EQ(Seats(layout, {{false, "c"}, {false, "b"}, {true, "a"}}), (Ints{2, 1, -1, 0}));
  EXPECT_EQ(Seats(layout, {{false, "x"}, {false, "c"}, {false, "y"}}), (Ints{-1, 0, 2, 1}))
      << "others take what is left";
}

TEST_F(LayoutTest, AMachineMustHoldAllOfItsAgents) {
  deployment_.agent_list.resize(3);
  for (int i = 1; i < 3; ++i) deployment_.agent_list[i] = {.launch = "remote"};
  deployment_.control.token_file = "token";
  deployment_.control.listen = "0.0.0.0:7000";
  const Layout layout = Of(header_, deployment_, 3, 1);
  const auto own = [&](int agent) { return layout.plan.agents[agent].memory.own(); };
  const std::vector<Seeker> one = {{true, "a", "A"}, {false, "b", "B"}, {false, "b", "B"}};
  EXPECT_EQ(RemoteFault(layout, one, {{"A", 1}, {"B", own(1) + own(2)}}), "") << "A is the master's own";
  EXPECT_EQ(RemoteFault(layout, one, {{"B", own(1) + own(2) - 1}}),
            "memory: 2 agents of b need " + BytesText(own(1) + own(2)) + ", " + BytesText(own(1) + own(2) - 1) +
                " were available there");
  EXPECT_EQ(RemoteFault(layout, one, {}), "") << "nobody knows";
  EXPECT_EQ(
      RemoteFault(layout, {{true, "a", "A"}, {false, "b", "B"}, {false, "c", "C"}}, {{"B", own(1)}, {"C", own(2)}}),
      "");
}

}  // namespace
}  // namespace pangea
