// A whole fleet of real processes: this executable is master and, as `fleet_test agent …`, each of its agents.
#include "master/fleet/fleet.h"

#include <random>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/control_stream.h"
#include "agent/service.h"
#include "configs/version.h"
#include "master/fleet/fleet_test_util.h"

namespace pangea {
namespace {

namespace wire = agent::v1;

class FleetTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { shm_ = Entries("/dev/shm"); }
  void TearDown() override {
    EXPECT_EQ(Children(), std::vector<pid_t>{}) << "a process is left";
    EXPECT_EQ(Entries("/dev/shm"), shm_) << "a shared memory name is left";
  }
  std::unique_ptr<Fleet> StartFleet(Plan& p) {
    auto fleet = Fleet::Start(p.deployment, p.header, p.plan, witness_.Options());
    EXPECT_TRUE(fleet.ok()) << fleet.status();
    return fleet.ok() ? *std::move(fleet) : nullptr;
  }
  Witness witness_;
  int shm_ = 0;
};

TEST_P(FleetTest, StepsThroughAllAgents) {
  Plan p = MakeTestPlan(2, 2, GetParam());
  auto fleet = StartFleet(p);
  ASSERT_TRUE(fleet->WaitReady().ok());
  EXPECT_EQ(fleet->agents_up(), 4);
  EXPECT_FALSE(fleet->isa().empty());
  // So many that what a stream does at once, reads, writes and wakes, happens in every order.
  constexpr uint64_t kSteps = 500;
  for (uint64_t number = 1; number <= kSteps; ++number) fleet->Send(TestStep(number));
  ASSERT_TRUE(witness_.WaitResults(kSteps));
  const auto results = witness_.results();
  for (uint64_t i = 0; i < kSteps; ++i) {
    EXPECT_EQ(results[i].number, i + 1);
    ASSERT_EQ(results[i].sequences.size(), 1u);
    EXPECT_EQ(results[i].sequences[0].id, 7u);
    EXPECT_EQ(results[i].sequences[0].samples.size(), 1u);
  }
  fleet->Stop();
  EXPECT_TRUE(witness_.failures().empty()) << witness_.failures()[0];
}

// Steps are numbered from 1 in every epoch: an agent that has missed the first ones says so.
TEST_P(FleetTest, AGapInTheNumbersIsAFault) {
  for (const std::vector<uint64_t>& numbers : {std::vector<uint64_t>{2}, {1, 3}}) {
    Witness witness;
    Plan p = MakeTestPlan(1, 1, GetParam());
    auto fleet = Fleet::Start(p.deployment, p.header, p.plan, witness.Options());
    ASSERT_TRUE(fleet.ok()) << fleet.status();
    ASSERT_TRUE((*fleet)->WaitReady().ok());
    for (const uint64_t number : numbers) {
      Step step = TestStep(number == 2 ? 1 : number);
      step.number = number;
      (*fleet)->Send(step);
    }
    ASSERT_TRUE(witness.WaitFailure());
    const std::string why(witness.failures()[0].message());
    EXPECT_TRUE(absl::StrContains(why, absl::StrCat("step ", numbers.back(), " came where"))) << why;
  }
}

// Two streams, one of them masked: its ids are those that its masks allow, however late these come.
TEST_P(FleetTest, AMaskedDrawWaitsForItsMask) {
  Plan p = MakeTestPlan(2, 2, GetParam());
  auto fleet = StartFleet(p);
  ASSERT_TRUE(fleet->WaitReady().ok());
  constexpr uint64_t kSteps = 40;
  for (uint64_t number = 1; number <= kSteps; ++number) {
    Step step = TestStep(number);
    step.sequences.push_back(step.sequences[0]);
    step.sequences[1].id = 8;
    step.sequences[1].masked = true;
    if (number == 1) step.sequences[1].blocks = {{4, 5, 6, 7}};
    fleet->Send(step);
    const int32_t only = static_cast<int32_t>(number * 7);
    if (number % 2 == 0) std::this_thread::yield();
    fleet->SendMask(
        {.epoch = 1, .step = number, .sequence = 8, .allowed = {.words = {{only / 64, uint64_t{1} << (only % 64)}}}});
  }
  ASSERT_TRUE(witness_.WaitResults(kSteps));
  bool free = false;
  for (const StepResult& result : witness_.results()) {
    ASSERT_EQ(result.sequences.size(), 2u);
    EXPECT_EQ(result.sequences[1].samples.at(0).id, static_cast<int32_t>(result.number * 7));
    free |= result.sequences[0].samples.at(0).id != static_cast<int32_t>(result.number * 7);
  }
  EXPECT_TRUE(free) << "the other stream draws what it likes";
}

TEST_P(FleetTest, AMaskThatIsMissingOrWrongIsNamed) {
  const auto why = [&](double step_seconds, const std::vector<Mask>& masks) {
    Witness witness;
    Plan p = MakeTestPlan(1, 1, GetParam());
    p.deployment.control.step_seconds = step_seconds;
    p.plan = MakePlan(p.header, p.deployment).plan;
    auto fleet = Fleet::Start(p.deployment, p.header, p.plan, witness.Options());
    EXPECT_TRUE(fleet.ok() && (*fleet)->WaitReady().ok());
    Step step = TestStep(1);
    step.sequences[0].masked = true;
    (*fleet)->Send(step);
    for (const Mask& mask : masks) (*fleet)->SendMask(mask);
    EXPECT_TRUE(witness.WaitFailure());
    return std::string(witness.failures()[0].message());
  };
  const AllowedIds any{.others = true};
  EXPECT_TRUE(absl::StrContains(why(0.2, {}), "step 1, sequence 7: its mask did not come within 200ms"));
  EXPECT_TRUE(absl::StrContains(why(20, {{1, 2, 7, any}}), "which has asked for none"));
  EXPECT_TRUE(absl::StrContains(why(20, {{1, 1, 7, {}}}), "no id is allowed"));
  EXPECT_TRUE(absl::StrContains(why(20, {{1, 1, 7, {.others = true, .words = {{1 << 20, 1}}}}}), "outside the"));
}

TEST_P(FleetTest, KilledAgentIsNamed) {
  for (int victim : {0, 3}) {
    Witness witness;
    Plan p = MakeTestPlan(2, 2, GetParam());
    auto fleet = Fleet::Start(p.deployment, p.header, p.plan, witness.Options());
    ASSERT_TRUE(fleet.ok()) << fleet.status();
    ASSERT_TRUE((*fleet)->WaitReady().ok());
    for (uint64_t number = 1; number <= 5; ++number) (*fleet)->Send(TestStep(number));
    ASSERT_TRUE(witness.WaitResults(5));
    const pid_t pid = ChildOf(victim);
    ASSERT_EQ(kill(pid, SIGKILL), 0);
    (*fleet)->Send(TestStep(6));
    ASSERT_TRUE(witness.WaitFailure());
    const std::string why(witness.failures()[0].message());
    EXPECT_NE(
        why.find(absl::StrCat("agent ", victim, " (stage ", victim / 2, ", rank ", victim % 2, ", pid ", pid, ")")),
        std::string::npos)
        << why;
    // Where the kernel takes longer than the grace to say that it has ended, the broken stream is told.
    EXPECT_TRUE(absl::StrContains(why, "signal 9") || absl::StrContains(why, "lost its connection")) << why;
    (*fleet)->Stop();
    EXPECT_EQ(witness.failures().size(), 1u) << "told once";
  }
}

INSTANTIATE_TEST_SUITE_P(Transports, FleetTest, ::testing::Values("shm", "gloo"));

using OneFleetTest = FleetTest;
INSTANTIATE_TEST_SUITE_P(Shm, OneFleetTest, ::testing::Values("shm"));

// gRPC opens a few descriptors late and for good, so a leak is what grows with every fleet.
TEST_P(OneFleetTest, DescriptorsDoNotGrowWithEveryFleet) {
  constexpr int kFleets = 6;
  int before = 0;
  for (int i = 0; i <= kFleets; ++i) {
    Plan p = MakeTestPlan(1, 2, i % 2 == 0 ? "shm" : "gloo");
    auto fleet = StartFleet(p);
    ASSERT_TRUE(fleet->WaitReady().ok());
    if (i % 3 == 0) kill(ChildOf(1), SIGKILL);
    fleet.reset();
    if (i == 0) before = Entries("/proc/self/fd");
  }
  EXPECT_LT(Entries("/proc/self/fd"), before + kFleets);
}

TEST_P(OneFleetTest, AgentsIgnoreTheSignalsOfATerminal) {
  Plan p = MakeTestPlan(1, 2, "shm");
  auto fleet = StartFleet(p);
  ASSERT_TRUE(fleet->WaitReady().ok());
  kill(ChildOf(1), SIGINT);
  kill(ChildOf(1), SIGTERM);
  kill(ChildOf(1), SIGHUP);
  kill(ChildOf(1), SIGKILL);  // the first that does anything
  ASSERT_TRUE(witness_.WaitFailure());
  const std::string why(witness_.failures()[0].message());
  EXPECT_NE(why.find("agent 1 (stage 0, rank 1"), std::string::npos) << why;
  EXPECT_TRUE(absl::StrContains(why, "Killed") || absl::StrContains(why, "lost its connection")) << why;
}

TEST_P(OneFleetTest, StoppedProcessIsKilledInTheEnd) {
  Plan p = MakeTestPlan(1, 2, "shm");
  auto fleet = StartFleet(p);
  ASSERT_TRUE(fleet->WaitReady().ok());
  kill(ChildOf(0), SIGSTOP);
  fleet->Stop();  // returns: the process is gone
}

TEST_P(OneFleetTest, SilentAgentIsFoundByItsStep) {
  Plan p = MakeTestPlan(2, 1, "shm");
  p.deployment.control.step_seconds = 0.2;
  p.plan = MakePlan(p.header, p.deployment).plan;
  auto fleet = StartFleet(p);
  ASSERT_TRUE(fleet->WaitReady().ok());
  const pid_t silent = ChildOf(0);
  kill(silent, SIGSTOP);
  fleet->Send(TestStep(1));
  ASSERT_TRUE(witness_.WaitFailure());
  // The peer's own limit speaks first, and says who was silent; where the machine is so busy that its word comes late,
  // the master's says where everybody is.
  const std::string why(witness_.failures()[0].message());
  EXPECT_TRUE(absl::StrContains(why, "stage 0 sends no data") ||
              absl::StrContains(why, absl::StrCat("pid ", silent, ") at no step")))
      << why;
}

TEST_P(OneFleetTest, MissingRemoteAgentIsNamed) {
  Plan p = MakeTestPlan(1, 2, "gloo", "remote");
  p.deployment.control.join_seconds = 0.2;
  auto fleet = StartFleet(p);
  const absl::Status status = fleet->WaitReady();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
  EXPECT_NE(status.message().find("agent 1 (stage 0, rank 1) did not join within 0.2 s"), std::string::npos) << status;
  EXPECT_TRUE(witness_.failures().empty()) << "WaitReady has told it";
}

TEST_P(OneFleetTest, StopEndsAWaitForReadiness) {
  Plan p = MakeTestPlan(1, 2, "gloo", "remote");
  auto fleet = StartFleet(p);
  std::thread stop([&] { fleet->Stop(); });
  EXPECT_EQ(fleet->WaitReady().code(), absl::StatusCode::kCancelled);
  stop.join();
}

TEST_P(OneFleetTest, ExecutableThatIsNotThere) {
  Plan p = MakeTestPlan(1, 1, "shm");
  FleetOptions options = witness_.Options();
  options.executable = "/no/such/file";
  auto fleet = Fleet::Start(p.deployment, p.header, p.plan, options);
  ASSERT_TRUE(fleet.ok());
  const absl::Status status = (*fleet)->WaitReady();
  EXPECT_NE(status.message().find("/no/such/file"), std::string::npos) << status;
}

TEST_P(OneFleetTest, PortInUseIsAnError) {
  Plan p = MakeTestPlan(1, 1, "gloo", "remote");
  p.deployment.control.listen = absl::StrCat("127.0.0.1:", FreePort());
  auto first = StartFleet(p);
  auto second = Fleet::Start(p.deployment, p.header, p.plan, witness_.Options());
  ASSERT_FALSE(second.ok());
  EXPECT_NE(second.status().message().find(p.deployment.control.listen), std::string::npos) << second.status();
}

TEST_P(OneFleetTest, TokenIsNeitherOnTheCommandLineNorKept) {
  Plan p = MakeTestPlan(1, 1, "shm");
  p.deployment.control.token_file = TempFile("token", absl::StrCat(kToken, "\n"));
  auto fleet = StartFleet(p);
  ASSERT_TRUE(fleet->WaitReady().ok());
  for (const char* file : {"cmdline", "environ"}) {
    std::ifstream in(absl::StrCat("/proc/", ChildOf(0), "/", file));
    std::stringstream text;
    text << in.rdbuf();
    EXPECT_GT(text.str().size(), 10u);
    EXPECT_EQ(text.str().find(kToken), std::string::npos) << file;
  }
}

TEST_P(OneFleetTest, BadTokenFilesAreRefused) {
  for (const std::string content : {"", "short", "with a space inside", "\n\n"}) {
    Plan p = MakeTestPlan(1, 1, "shm");
    p.deployment.control.token_file = TempFile("bad_token", content);
    auto fleet = Fleet::Start(p.deployment, p.header, p.plan, witness_.Options());
    ASSERT_FALSE(fleet.ok()) << content;
    EXPECT_NE(fleet.status().message().find("control.token_file"), std::string::npos) << fleet.status();
  }
}

// --- Agents that were started elsewhere.

class RemoteTest : public OneFleetTest {
 protected:
  void SetUp() override {
    OneFleetTest::SetUp();
    port_ = FreePort();
    plan_ = MakeTestPlan(1, 2, "gloo", "remote");
    plan_.deployment.control.listen = absl::StrCat("127.0.0.1:", port_);
    plan_.deployment.control.token_file = token_ = TempFile("token", kToken);
    fleet_ = StartFleet(plan_);
  }
  void TearDown() override {
    fleet_.reset();
    OneFleetTest::TearDown();
  }
  static wire::FromAgent JoinAs(int agent) {
    wire::FromAgent message;
    wire::Join* join = message.mutable_join();
    join->set_build(kBuild);
    join->set_protocol(kProtocol);
    join->set_exactness(kExactness);
    join->set_pid(getpid());
    join->set_host("127.0.0.1");
    join->set_isa("reference");
    join->set_agent(agent);
    return message;
  }
  // Joins by hand and returns how the master ends the session.
  absl::Status Refusal(const std::string& token, const std::function<void(wire::FromAgent*)>& edit) {
    ControlStream stream(absl::StrCat("127.0.0.1:", port_), token);
    wire::FromAgent message = JoinAs(-1);
    edit(&message);
    return stream.Run(message, [](const wire::FromMaster& answer) {
      ADD_FAILURE() << answer.ShortDebugString();
      return ControlStream::After::kEnd;
    });
  }
  int port_ = 0;
  std::string token_;
  Plan plan_;
  std::unique_ptr<Fleet> fleet_;
};
INSTANTIATE_TEST_SUITE_P(Shm, RemoteTest, ::testing::Values("shm"));

TEST_P(RemoteTest, WrongTokenIsRefusedAndTheRightOnesJoin) {
  const std::string wrong = TempFile("wrong", "some-other-token");
  Process intruder = StartAgent(port_, wrong);
  EXPECT_EQ(intruder.Wait(), 1);
  EXPECT_NE(intruder.Log().find("the join token is wrong"), std::string::npos) << intruder.Log();
  EXPECT_EQ(intruder.Log().find("some-other-token"), std::string::npos);
  Process a = StartAgent(port_, token_), b = StartAgent(port_, token_, {"--agent", "1"});
  ASSERT_TRUE(fleet_->WaitReady().ok());
  fleet_->Send(TestStep(1));
  EXPECT_TRUE(witness_.WaitResults(1));
  Process late = StartAgent(port_, token_);
  EXPECT_EQ(late.Wait(), 1);
  EXPECT_NE(late.Log().find("no place"), std::string::npos) << late.Log();
  fleet_->Stop();
  EXPECT_EQ(a.Wait(), 0) << a.Log();
  EXPECT_EQ(b.Wait(), 0) << b.Log();
}

TEST_P(RemoteTest, JoinsAreCheckedBeforeAnythingElse) {
  const auto nothing = [](wire::FromAgent*) {};
  EXPECT_EQ(Refusal("wrong", nothing), absl::UnauthenticatedError("the join token is wrong"));
  EXPECT_EQ(Refusal("", nothing), absl::UnauthenticatedError("the join token is wrong"));
  EXPECT_EQ(Refusal(absl::StrCat(kToken, "x"), nothing), absl::UnauthenticatedError("the join token is wrong"));
  auto refused = [&](const char* what, const std::function<void(wire::FromAgent*)>& edit) {
    const absl::Status status = Refusal(kToken, edit);
    EXPECT_FALSE(status.ok());
    EXPECT_NE(status.message().find(what), std::string::npos) << status;
  };
  refused("protocol", [](auto* m) { m->mutable_join()->set_protocol(1); });
  refused("ISA class", [](auto* m) { m->mutable_join()->set_isa("sse9"); });
  refused("agent 2 is not one", [](auto* m) { m->mutable_join()->set_agent(2); });
  refused("must be a join", [](auto* m) { m->mutable_ready(); });
}

TEST_P(RemoteTest, AMessageThatCannotBeReadIsAFaultOfItsAgent) {
  Process other = StartAgent(port_, token_, {"--agent", "1"});
  ControlStream stream(absl::StrCat("127.0.0.1:", port_), kToken);
  wire::FromAgent join = JoinAs(0);
  std::thread agent([&] {
    stream
        .Run(join,
             [&](const wire::FromMaster& message) {
               if (message.has_stop()) return ControlStream::After::kEnd;
               wire::FromAgent bad;
               bad.mutable_rendezvous()->set_key("caf\xe9");  // a text that is not UTF-8 cannot be parsed
               if (message.has_assign()) stream.Send(bad);
               return ControlStream::After::kRead;
             })
        .IgnoreError();
  });
  const absl::Status status = fleet_->WaitReady();
  EXPECT_NE(status.message().find("agent 0 (stage 0, rank 0"), std::string::npos) << status;
  EXPECT_NE(status.message().find("a message that the master cannot read"), std::string::npos) << status;
  stream.Cancel();
  agent.join();
  other.Wait();
}

TEST_P(RemoteTest, SecondAgentOfOnePlaceIsRefused) {
  Process a = StartAgent(port_, token_), b = StartAgent(port_, token_);
  ASSERT_TRUE(fleet_->WaitReady().ok());
  const absl::Status status = Refusal(kToken, [](auto* m) { m->mutable_join()->set_agent(1); });
  EXPECT_EQ(status, absl::AlreadyExistsError("join refused: agent 1 has joined already"));
  fleet_->Send(TestStep(1));
  EXPECT_TRUE(witness_.WaitResults(1)) << "nobody noticed";
  fleet_->Stop();
  a.Wait();
  b.Wait();
}

TEST_P(RemoteTest, AnotherCheckpointIsRefused) {
  const std::string copy = absl::StrCat(::testing::TempDir(), "/fleet_test_model_", getpid());
  std::filesystem::remove_all(copy);
  std::filesystem::copy(plan_.deployment.model, copy);
  {
    std::ifstream in(copy + "/config.json");
    std::stringstream text;
    text << in.rdbuf();
    std::string config = text.str();
    const std::string eps = "\"rms_norm_eps\": 1e-05";
    const size_t at = config.find(eps);
    ASSERT_NE(at, std::string::npos);
    config.replace(at, eps.size(), "\"rms_norm_eps\": 1e-04");
    std::ofstream(copy + "/config.json") << config;
  }
  Process a = StartAgent(port_, token_), b = StartAgent(port_, token_, {"--model", copy});
  const absl::Status status = fleet_->WaitReady();
  EXPECT_NE(status.message().find("another checkpoint"), std::string::npos) << status;
  EXPECT_EQ(b.Wait(), 1);
  a.Wait();
  std::filesystem::remove_all(copy);
}

TEST_P(RemoteTest, NoiseOnThePortDisturbsNobody) {
  std::mt19937 random(7);
  for (const std::string& prefix :
       {std::string(), std::string("GET / HTTP/1.1\r\n\r\n"), std::string("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")}) {
    std::string noise = prefix;
    for (int i = 0; i < 3000; ++i) noise.push_back(static_cast<char>(random()));
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port_);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_GT(send(fd, noise.data(), noise.size(), MSG_NOSIGNAL), 0);
    close(fd);
  }
  Process a = StartAgent(port_, token_), b = StartAgent(port_, token_);
  ASSERT_TRUE(fleet_->WaitReady().ok());
  fleet_->Stop();
  EXPECT_EQ(a.Wait(), 0);
  EXPECT_EQ(b.Wait(), 0);
}

// The agent that answers leaves messages unread while a step runs. When that step hangs, a stop behind many others must
// be read all the same: held back for each of them, it would come too late.
TEST_P(RemoteTest, StopIsReadBehindStepsThatHang) {
  Process a = StartAgent(port_, token_, {"--agent", "0"}), b = StartAgent(port_, token_, {"--agent", "1"});
  ASSERT_TRUE(fleet_->WaitReady().ok());
  fleet_->Send(TestStep(1));
  ASSERT_TRUE(witness_.WaitResults(1));
  kill(b.pid, SIGSTOP);
  for (uint64_t number = 2; number <= 50; ++number) fleet_->Send(TestStep(number));
  fleet_->Stop();  // waits two seconds for b, which cannot hear it
  const bool left = Gone(a.pid);
  EXPECT_TRUE(left) << "it has not read the stop";
  if (!left) kill(a.pid, SIGKILL);
  EXPECT_EQ(a.Wait(), 0) << a.Log();
  kill(b.pid, SIGKILL);
  b.Wait();
}

TEST_P(RemoteTest, LostRemoteAgentIsNamed) {
  Process a = StartAgent(port_, token_, {"--agent", "0"}), b = StartAgent(port_, token_, {"--agent", "1"});
  ASSERT_TRUE(fleet_->WaitReady().ok());
  kill(b.pid, SIGKILL);
  EXPECT_EQ(b.Wait(), 128 + SIGKILL);
  ASSERT_TRUE(witness_.WaitFailure());
  const std::string why(witness_.failures()[0].message());
  EXPECT_NE(why.find("agent 1 (stage 0, rank 1"), std::string::npos) << why;
  a.Wait();
}

// --- The master itself is killed.

TEST_P(OneFleetTest, AgentsDoNotOutliveTheirMaster) {
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  for (const char* transport : {"shm", "gloo"}) {
    Process master = Start({"master", transport});
    while (master.Log().find("ready") == std::string::npos && !Gone(master.pid)) std::this_thread::yield();
    const std::vector<pid_t> agents = Children(master.pid);
    EXPECT_EQ(agents.size(), 4u) << master.Log();
    kill(master.pid, SIGKILL);
    EXPECT_EQ(master.Wait(), 128 + SIGKILL);
    for (pid_t agent : agents) EXPECT_EQ(waitpid(agent, nullptr, 0), agent);
  }
  prctl(PR_SET_CHILD_SUBREAPER, 0);
}

int MasterMode(const char* transport) {
  Witness witness;
  Plan p = MakeTestPlan(2, 2, transport);
  auto fleet = Fleet::Start(p.deployment, p.header, p.plan, witness.Options());
  if (!fleet.ok() || !(*fleet)->WaitReady().ok()) return 1;
  std::fputs("ready\n", stderr);
  for (uint64_t number = 1;; ++number) {
    (*fleet)->Send(TestStep(std::min<uint64_t>(number, 60)));
    if (number >= 60 || !witness.WaitResults(number)) pause();
  }
}

}  // namespace
}  // namespace pangea

int main(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == "agent") return pangea::AgentMain(argc - 1, argv + 1);
  if (argc > 2 && std::string(argv[1]) == "master") return pangea::MasterMode(argv[2]);
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
