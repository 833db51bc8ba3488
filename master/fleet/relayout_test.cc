// The layout changes while requests are in flight: real processes take other places and load anew. This executable is
// master and, as `relayout_test agent …`, each agent.
#include "agent/service.h"
#include "master/fleet/served_test_util.h"

namespace pangea {
namespace {

// Requests 1 to 4 as they are alone; then again, with `change` in the middle of all of them.
void ExpectNoByteChanges(Served& served, const std::function<void(int round)>& change, int rounds) {
  auto alone = Undisturbed(served);
  uint64_t number = 100;
  for (int round = 0; round < rounds; ++round, number += 100) {
    for (uint64_t seed = 1; seed <= 4; ++seed) served.Submit(number + seed, seed);
    served.WaitTokens(number + 2, 5);
    change(round);
    for (uint64_t seed = 1; seed <= 4; ++seed) EXPECT_EQ(served.Wait(number + seed), alone[seed]) << "round " << round;
  }
}

struct Kind {
  const char* device;
  const char* transport;
};
class RelayoutTest : public ::testing::TestWithParam<Kind> {};
INSTANTIATE_TEST_SUITE_P(Kinds, RelayoutTest,
                         ::testing::Values(Kind{"sim", "shm"}, Kind{"cpu", "shm"}, Kind{"cpu", "gloo"}));

TEST_P(RelayoutTest, NoByteChangesFromLayoutToLayout) {
  Plan p = MakeTestPlan(2, 1, GetParam().transport);
  p.deployment.agents.device = GetParam().device;
  p.plan = MakePlan(p.header, p.deployment).plan;
  Served served(std::move(p));
  constexpr std::pair<int, int> kShapes[] = {{1, 2}, {3, 1}, {1, 1}, {2, 2}, {2, 2}, {2, 1}};
  ExpectNoByteChanges(
      served,
      [&](int round) {
        const auto [stages, ranks] = kShapes[round];
        const auto epoch = served.fleet().Relayout(stages, ranks, nullptr);
        ASSERT_TRUE(epoch.ok()) << epoch.status();
        served.WaitEpochs(round + 2);
        EXPECT_EQ(served.Metric("pangea_agents_up"), stages * ranks);
        EXPECT_TRUE(WaitChildren(stages * ranks)) << "what is left over is ended";
      },
      std::size(kShapes));
  EXPECT_GE(served.stats().preemptions, std::size(kShapes)) << "nothing was in flight";
}

TEST(RelayoutTest, ALayoutThatCannotBeChangesNothing) {
  Plan p = MakeTestPlan(2, 1, "shm");
  Served served(std::move(p));
  for (const auto& [stages, ranks] : {std::pair{0, 1}, {1, -1}, {99, 1}, {1 << 20, 1 << 20}, {1, 4097}}) {
    const auto refused = served.fleet().Relayout(stages, ranks, nullptr);
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument) << stages << ' ' << refused.status();
  }
  Deployment edited = MakeTestPlan(1, 1, "shm").deployment;
  edited.cache.memory = 1 << 10;
  EXPECT_EQ(served.fleet().Relayout(1, 1, &edited).status().code(), absl::StatusCode::kInvalidArgument)
      << "its cache does not hold the context";
  EXPECT_EQ(served.Metric("pangea_epoch"), 1);
}

// Only its agents find out: the layout before serves again, and nobody has lost anything.
TEST(RelayoutTest, ALayoutWhoseAgentsCannotLoadMakesWayForTheOneBefore) {
  Plan p = MakeTestPlan(2, 1, "shm");
  p.deployment.control.recovery_attempts = 10;
  Served served(std::move(p));
  ExpectNoByteChanges(
      served,
      [&](int) {
        Deployment edited = MakeTestPlan(1, 1, "shm").deployment;
        edited.agents.model = "/no/such/model";
        const auto epoch = served.fleet().Relayout(1, 1, &edited);
        ASSERT_TRUE(epoch.ok()) << epoch.status();
        served.WaitEpochs(2);
        EXPECT_EQ(served.Metric("pangea_agents_up"), 2);
      },
      1);
  ASSERT_TRUE(served.fleet().Relayout(1, 1, nullptr).ok()) << "what was asked for in vain is forgotten";
  served.WaitEpochs(3);
  EXPECT_EQ(served.Metric("pangea_agents_up"), 1);
}

// What the deployment leaves open must not be judged otherwise by the agents of another layout.
TEST(RelayoutTest, LimitsBeyondAnOpenContextAreNoObstacle) {
  Plan p = MakeTestPlan(2, 1, "shm");
  p.deployment.limits.max_tokens = 100'000;
  p.plan = MakePlan(p.header, p.deployment).plan;
  Served served(std::move(p));
  ASSERT_TRUE(served.fleet().Relayout(1, 1, nullptr).ok());
  served.WaitEpochs(2);
  EXPECT_EQ(served.Metric("pangea_agents_up"), 1);
}

TEST(SpareTest, TakesThePlaceOfALostAgentAndAnotherOneStandsBy) {
  Plan p = MakeTestPlan(2, 1, "shm");
  p.deployment.control.recovery_attempts = 10;
  p.deployment.control.spare_agents = 1;
  Served served(std::move(p));
  ExpectNoByteChanges(
      served,
      [&](int round) {
        ASSERT_TRUE(served.WaitMetric("pangea_agents_spare", 1));
        const std::vector<pid_t> before = Children();
        ASSERT_EQ(kill(ChildOf(round), SIGKILL), 0);
        served.WaitEpochs(round + 2);
        // Nobody new took part: two of the three of before serve.
        EXPECT_TRUE(served.WaitMetric("pangea_agents_spare", 1)) << "another one is started";
        int survivors = 0;
        for (const pid_t child : Children()) survivors += std::count(before.begin(), before.end(), child);
        EXPECT_EQ(survivors, 2);
      },
      1);
}

// Agents that others have started: one goes for good, and one comes back.
class RemoteTest : public ::testing::Test {
 protected:
  void Start(int agents, int spares) {
    Plan p = MakeTestPlan(agents, 1, "gloo", "remote");
    port_ = FreePort();
    token_ = TempFile("token", kToken);
    p.deployment.control.listen = absl::StrCat("127.0.0.1:", port_);
    p.deployment.control.token_file = token_;
    p.deployment.control.recovery_attempts = 10;
    p.deployment.control.shrink_seconds = 0.2;
    p.deployment.control.spare_agents = spares;
    p.plan = MakePlan(p.header, p.deployment).plan;
    for (int i = 0; i < agents; ++i) Add();
    served_ = std::make_unique<Served>(std::move(p));
  }
  void Add() { agents_.push_back(StartAgent(port_, token_)); }
  void Kill(int agent) {
    kill(agents_[agent].pid, SIGKILL);
    agents_[agent].Wait();
    agents_[agent].pid = -1;
  }
  void TearDown() override {
    served_.reset();
    for (Process& agent : agents_) {
      if (agent.pid <= 0) continue;
      kill(agent.pid, SIGKILL);
      agent.Wait();
    }
  }

  int port_ = 0;
  std::string token_;
  std::vector<Process> agents_;
  std::unique_ptr<Served> served_;
};

TEST_F(RemoteTest, ALayoutShrinksWhenAPlaceIsGoneForGoodAndGrowsBackWithIt) {
  Start(3, 0);
  ExpectNoByteChanges(
      *served_,
      [&](int round) {
        if (round == 0) {
          Kill(0);
        } else {
          Add();
        }
        served_->WaitEpochs(round + 2);
        EXPECT_EQ(served_->Metric("pangea_agents_up"), round == 0 ? 2 : 3);
      },
      2);
}

TEST_F(RemoteTest, ALayoutForWhichThereAreTooFewAgentsChangesNothing) {
  Start(2, 0);
  EXPECT_EQ(served_->fleet().Relayout(3, 1, nullptr).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(served_->Metric("pangea_epoch"), 1);
  ASSERT_TRUE(served_->fleet().Relayout(1, 1, nullptr).ok());
  served_->WaitEpochs(2);
  EXPECT_EQ(served_->Metric("pangea_agents_up"), 1);
}

TEST_F(RemoteTest, AnAgentTooManyStandsByWhereSparesAreWanted) {
  Start(2, 1);
  Add();
  ASSERT_TRUE(served_->WaitMetric("pangea_agents_spare", 1));
  Add();  // one more is refused
  EXPECT_EQ(agents_.back().Wait(), 1);
  agents_.pop_back();
  ExpectNoByteChanges(
      *served_,
      [&](int) {
        Kill(1);
        served_->WaitEpochs(2);
        EXPECT_EQ(served_->Metric("pangea_agents_up"), 2);
        EXPECT_EQ(served_->Metric("pangea_agents_spare"), 0);
      },
      1);
}

}  // namespace
}  // namespace pangea

int main(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == "agent") return pangea::AgentMain(argc - 1, argv + 1);
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
