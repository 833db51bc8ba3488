// Epoch after epoch: real processes form their groups anew while an engine has requests in flight, and agents made by
// hand show what of an older epoch still counts. This executable is master and, as `regroup_test agent …`, each agent.
#include "agent/control_stream.h"
#include "agent/service.h"
#include "configs/version.h"
#include "master/fleet/served_test_util.h"

namespace pangea {
namespace {

namespace wire = agent::v1;

// --- Real agents under a real engine.

struct Layout {
  const char* device;
  const char* transport;
  int stages, ranks;
};

class RegroupTest : public ::testing::TestWithParam<Layout> {};
INSTANTIATE_TEST_SUITE_P(Layouts, RegroupTest,
                         ::testing::Values(Layout{"sim", "shm", 2, 2}, Layout{"sim", "gloo", 3, 1},
                                           Layout{"cpu", "shm", 2, 1}, Layout{"cpu", "gloo", 1, 2}));

TEST_P(RegroupTest, TheSameRequestGivesTheSameBytesInEveryEpoch) {
  Plan p = MakeTestPlan(GetParam().stages, GetParam().ranks, GetParam().transport);
  p.deployment.agents.device = GetParam().device;
  p.plan = MakePlan(p.header, p.deployment).plan;
  Served served(std::move(p));
  auto alone = Undisturbed(served);
  EXPECT_NE(alone[1], alone[2]);
  EXPECT_EQ(served.stats().rows_lost, 0u);
  uint64_t number = 100;
  for (const uint64_t epoch : {2, 3}) {
    for (uint64_t seed = 1; seed <= 4; ++seed) served.Submit(number + seed, seed);
    served.WaitTokens(number + 2, 5);  // in the middle of all of them
    const uint64_t lost = served.stats().rows_lost;
    served.Regroup();
    for (uint64_t seed = 1; seed <= 4; ++seed) EXPECT_EQ(served.Wait(number + seed), alone[seed]) << "epoch " << epoch;
    EXPECT_EQ(served.WaitEpochs(epoch).back(), epoch);
    EXPECT_GT(served.stats().rows_lost, lost) << "nothing was in flight";
    number += 100;
  }
  EXPECT_EQ(served.WaitEpochs(3), (std::vector<uint64_t>{1, 2, 3}));
}

// Agents that die while requests are open are replaced; every answer has the bytes of the undisturbed one.
TEST_P(RegroupTest, KilledAgentsAreReplacedAndNoByteChanges) {
  Plan p = MakeTestPlan(GetParam().stages, GetParam().ranks, GetParam().transport);
  p.deployment.agents.device = GetParam().device;
  p.deployment.control.recovery_attempts = 10;
  p.plan = MakePlan(p.header, p.deployment).plan;
  const int agents = GetParam().stages * GetParam().ranks;
  Served served(std::move(p));
  auto alone = Undisturbed(served);
  uint64_t number = 100;
  for (int round = 0; round < agents + 1; ++round, number += 100) {
    for (uint64_t seed = 1; seed <= 4; ++seed) served.Submit(number + seed, seed);
    served.WaitTokens(number + 2, 5);  // in the middle of all of them
    const pid_t victim = ChildOf(round % agents);
    const pid_t second = round < agents ? -1 : ChildOf(0);  // in the last round two at once
    ASSERT_EQ(kill(victim, SIGKILL), 0);
    if (second > 0) kill(second, SIGKILL);
    for (uint64_t seed = 1; seed <= 4; ++seed) EXPECT_EQ(served.Wait(number + seed), alone[seed]) << "round " << round;
    EXPECT_NE(ChildOf(round % agents), victim);
  }
  EXPECT_GE(served.stats().rows_lost, static_cast<uint64_t>(agents)) << "nothing was in flight";
  EXPECT_EQ(served.WaitEpochs(agents + 2).size(), static_cast<size_t>(agents + 2));
}

// --- An agent made by hand: the only one, so that every epoch is as it wants.

class HandMadeAgent {
 public:
  HandMadeAgent(int port, const std::string& token) : stream_(absl::StrCat("127.0.0.1:", port), token) {
    wire::FromAgent message;
    wire::Join& join = *message.mutable_join();
    join.set_build(kBuild);
    join.set_protocol(kProtocol);
    join.set_exactness(kExactness);
    join.set_pid(getpid());
    join.set_host("127.0.0.1");
    join.set_isa("reference");
    join.set_agent(0);
    thread_ = std::thread([this, message] {
      stream_.Run(message, [this](const wire::FromMaster& from) { return Handle(from); }).IgnoreError();
    });
  }
  ~HandMadeAgent() {
    stream_.Cancel();
    thread_.join();
  }
  void SendFailure(uint64_t epoch, bool fatal, const std::string& text) {
    wire::FromAgent message;
    wire::Failure& failure = *message.mutable_failure();
    failure.set_epoch(epoch);
    failure.set_code(static_cast<int>(absl::StatusCode::kAborted));
    failure.set_message(text);
    failure.set_fatal(fatal);
    stream_.Send(std::move(message));
  }
  void SendResult(uint64_t epoch, uint64_t number) {
    wire::FromAgent message;
    message.mutable_result()->set_epoch(epoch);
    message.mutable_result()->set_number(number);
    stream_.Send(std::move(message));
  }
  void SendFormed(uint64_t epoch) {
    wire::FromAgent message;
    message.mutable_formed()->set_epoch(epoch);
    stream_.Send(std::move(message));
  }
  bool WaitForm(uint64_t epoch) {
    return Wait([=, this] { return form_ >= epoch; });
  }
  bool WaitSteps(size_t n) {
    return Wait([=, this] { return steps_.size() >= n; });
  }
  std::vector<std::pair<uint64_t, uint64_t>> steps() {  // epoch, number
    std::lock_guard lock(mutex_);
    return steps_;
  }

 private:
  template <typename F>
  bool Wait(F f) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, seconds(200), f);
  }
  ControlStream::After Handle(const wire::FromMaster& message) {
    if (message.has_stop()) return ControlStream::After::kEnd;
    if (message.has_assign()) {
      wire::FromAgent ready;
      ready.mutable_ready()->set_kv_bytes(1);
      ready.mutable_ready()->set_serial(message.assign().serial());
      stream_.Send(ready);
    }
    std::lock_guard lock(mutex_);
    if (message.has_form()) form_ = message.form().epoch();
    if (message.has_step()) steps_.emplace_back(message.step().epoch(), message.step().number());
    changed_.notify_all();
    return ControlStream::After::kRead;
  }

  ControlStream stream_;
  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t form_ = 0;
  std::vector<std::pair<uint64_t, uint64_t>> steps_;
  std::thread thread_;
};

class OldNewsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    plan_ = MakeTestPlan(1, 1, "gloo", "remote");
    const int port = FreePort();
    plan_.deployment.control.listen = absl::StrCat("127.0.0.1:", port);
    plan_.deployment.control.token_file = TempFile("token", kToken);
    FleetOptions options = witness_.Options();
    options.on_epoch = [this](uint64_t epoch, const ParallelPlan&, uint64_t) {
      std::lock_guard lock(mutex_);
      epochs_.push_back(epoch);
      changed_.notify_all();
    };
    auto fleet = Fleet::Start(plan_.deployment, plan_.header, plan_.plan, options);
    ASSERT_TRUE(fleet.ok()) << fleet.status();
    fleet_ = *std::move(fleet);
    agent_ = std::make_unique<HandMadeAgent>(port, kToken);
    ASSERT_TRUE(agent_->WaitForm(1));
    agent_->SendFormed(1);
    ASSERT_EQ(fleet_->WaitReady(), absl::OkStatus());
  }
  void TearDown() override {
    fleet_.reset();
    agent_.reset();
  }
  bool WaitEpoch(uint64_t epoch) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, seconds(200), [&] { return !epochs_.empty() && epochs_.back() == epoch; });
  }
  Step StepOf(uint64_t epoch, uint64_t number) {
    Step step = TestStep(number);
    step.epoch = epoch;
    return step;
  }
  void ToEpoch(uint64_t epoch) {
    fleet_->Regroup();
    ASSERT_TRUE(agent_->WaitForm(epoch));
    agent_->SendFormed(epoch);
    ASSERT_TRUE(WaitEpoch(epoch));
  }

  Plan plan_;
  Witness witness_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<uint64_t> epochs_;
  std::unique_ptr<Fleet> fleet_;
  std::unique_ptr<HandMadeAgent> agent_;
};

TEST_F(OldNewsTest, AFailureOfAnOlderEpochEndsNothingOneOfThisEpochDoes) {
  agent_->SendFailure(0, false, "before all epochs");
  fleet_->Regroup();
  ASSERT_TRUE(agent_->WaitForm(2));
  agent_->SendFailure(1, false, "its group was aborted for the new epoch");
  agent_->SendFormed(2);
  ASSERT_TRUE(WaitEpoch(2));
  agent_->SendFailure(1, false, "late");
  // Whatever comes of these comes before the answer to this step.
  fleet_->Send(StepOf(2, 1));
  agent_->SendResult(2, 1);
  ASSERT_TRUE(witness_.WaitResults(1));
  EXPECT_TRUE(witness_.failures().empty());
  agent_->SendFailure(2, false, "of this epoch");
  ASSERT_TRUE(witness_.WaitFailure());
  EXPECT_NE(witness_.failures()[0].message().find("of this epoch"), std::string::npos) << witness_.failures()[0];
}

TEST_F(OldNewsTest, AFaultOfItsOwnCountsInEveryEpoch) {
  ToEpoch(2);
  agent_->SendFailure(1, true, "a step that it cannot read");
  ASSERT_TRUE(witness_.WaitFailure());
  EXPECT_NE(witness_.failures()[0].message().find("cannot read"), std::string::npos) << witness_.failures()[0];
}

TEST_F(OldNewsTest, ResultsAndStepsOfAnOlderEpochAreDropped) {
  fleet_->Send(StepOf(1, 1));
  ASSERT_TRUE(agent_->WaitSteps(1));
  ToEpoch(2);
  fleet_->Send(StepOf(1, 2));  // the engine has not heard yet
  fleet_->Send(StepOf(3, 1));  // nor is a future one sent
  fleet_->Send(StepOf(2, 1));
  ASSERT_TRUE(agent_->WaitSteps(2));
  EXPECT_EQ(agent_->steps(), (std::vector<std::pair<uint64_t, uint64_t>>{{1, 1}, {2, 1}})) << "stamped by the engine";
  agent_->SendResult(1, 1);
  agent_->SendResult(2, 1);
  ASSERT_TRUE(witness_.WaitResults(1));
  ASSERT_EQ(witness_.results().size(), 1u);
  EXPECT_EQ(witness_.results()[0].epoch, 2u);
}

// A step of the old epoch that nobody will answer is not waited for.
TEST_F(OldNewsTest, StepsOfAnOlderEpochAreNotOverdue) {
  fleet_->Send(StepOf(1, 1));
  ASSERT_TRUE(agent_->WaitSteps(1));
  ToEpoch(2);
  fleet_->Send(StepOf(2, 1));
  agent_->SendResult(2, 1);
  ASSERT_TRUE(witness_.WaitResults(1));
  MetricsPage page(std::nullopt);
  fleet_->WriteMetrics(page);
  const std::string text = page.Take();
  EXPECT_NE(text.find("pangea_epoch 2"), std::string::npos) << text;
  EXPECT_NE(text.find("pangea_step_seconds_count 1"), std::string::npos) << text;
  EXPECT_NE(text.find("pangea_recovery_seconds_count 1"), std::string::npos) << text;
}

}  // namespace
}  // namespace pangea

int main(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == "agent") return pangea::AgentMain(argc - 1, argv + 1);
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
