// Shared memory across processes, and the counter that everything waits on.
#include "agent/group/shm_group.h"

#include <dirent.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "agent/group/group_test_util.h"

namespace pangea {
namespace {

using std::chrono::steady_clock;

// A child process that runs `body` and exits with its answer.
pid_t Fork(const std::function<int()>& body) {
  const pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    _exit(body());
  }
  return pid;
}
int ExitCode(pid_t pid) {
  int status = 0;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST(SharedWordTest, ComparingCountersSurvivesWrapAround) {
  EXPECT_EQ(SharedWord::Ahead(5, 3), 2);
  EXPECT_EQ(SharedWord::Ahead(3, 5), -2);
  EXPECT_EQ(SharedWord::Ahead(1, SharedWord::kCountMask), 2);
  EXPECT_EQ(SharedWord::Ahead(SharedWord::kCountMask, 1), -2);
}

TEST(SharedWordTest, CountWrapsWithoutAborting) {
  SharedWord word;
  word.Add(SharedWord::kCountMask);
  EXPECT_EQ(SharedWord::count(word.value()), SharedWord::kCountMask);
  word.Add(2);
  EXPECT_EQ(SharedWord::count(word.value()), 1u);
  EXPECT_FALSE(SharedWord::aborted(word.value()));
  word.Abort();
  word.Add(1);
  EXPECT_TRUE(SharedWord::aborted(word.value()));
}

TEST(SharedWordTest, WaitEndsAtTheDeadline) {
  SharedWord word;
  for (bool spin : {false, true}) {
    const auto start = steady_clock::now();
    EXPECT_EQ(word.WaitChange(0, start + std::chrono::milliseconds(20), spin), 0u);
    EXPECT_GE(steady_clock::now() - start, std::chrono::milliseconds(20));
  }
}

// Both ways of waiting, hammered: a lost wake-up would end in the deadline.
TEST(SharedWordTest, NoWakeUpIsLost) {
  for (bool spin : {false, true}) {
    SharedWord ping, pong;
    constexpr uint32_t kRounds = 5000;
    const auto deadline = steady_clock::now() + std::chrono::seconds(60);
    std::thread other([&] {
      uint32_t seen = 0;
      for (uint32_t i = 0; i < kRounds; ++i) {
        seen = ping.WaitChange(seen, deadline, spin);
        pong.Add(1);
      }
    });
    uint32_t seen = 0;
    for (uint32_t i = 1; i <= kRounds; ++i) {
      ping.Add(1);
      seen = pong.WaitChange(seen, deadline, spin);
      ASSERT_EQ(SharedWord::count(seen), i);
    }
    other.join();
  }
}

TEST(ShmGroupTest, SpinningRanksAgree) {
  auto groups = MakeTestGroups("shm-one", {.stages = 1, .ranks = 2, .spin = true});
  OnEveryAgent(groups, [](Group& group) {
    for (int round = 0; round < 2000; ++round) {
      const int mine = round * 2 + group.rank();
      int all[2];
      const std::vector<size_t> sizes(2, sizeof(int));
      ASSERT_TRUE(
          group.AllGather(std::as_bytes(std::span(&mine, 1)), sizes, std::as_writable_bytes(std::span(all))).ok());
      ASSERT_EQ(all[0], round * 2);
      ASSERT_EQ(all[1], round * 2 + 1);
    }
  });
}

TEST(ShmGroupTest, SendBeyondTheChannelWaitsAndIsBounded) {
  auto groups =
      MakeTestGroups("shm-one", {.stages = 2, .ranks = 1, .limit = absl::Milliseconds(100), .channel_bytes = 4096});
  std::vector<std::byte> data(4096);
  EXPECT_TRUE(groups[0]->Send(1, data).ok());
  const absl::Status status = groups[0]->Send(1, std::span(data).first(1));
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_NE(status.message().find("stage 1"), std::string::npos) << status;
}

TEST(ShmGroupTest, ForkedProcessesExchange) {
  const GroupSpec shape{.stages = 2, .ranks = 2, .limit = absl::Seconds(30), .slot_bytes = 4096, .channel_bytes = 4096};
  auto region = ShmRegion::Create(shape);
  ASSERT_TRUE(region.ok()) << region.status();
  const std::string address = (*region)->address();
  std::vector<pid_t> children;
  for (int agent = 0; agent < 4; ++agent) {
    children.push_back(Fork([&, agent] {
      GroupSpec spec = shape;
      spec.agent = agent;
      // Through /proc, as another process does it: nothing is inherited but the number.
      auto mine = ShmRegion::Open(spec, address);
      if (!mine.ok()) return 10;
      auto group = MakeShmGroup(spec, *mine);
      for (int round = 0; round < 200; ++round) {
        const size_t n = round * 67 % 9000 + 1;
        std::vector<std::byte> part(n, static_cast<std::byte>(agent * 50 + round)), all(2 * n), got(n);
        if (!group->AllGather(part, std::vector<size_t>{n, n}, all).ok()) return 11;
        const int first = agent / 2 * 2;
        if (all[0] != static_cast<std::byte>(first * 50 + round)) return 12;
        if (all[2 * n - 1] != static_cast<std::byte>((first + 1) * 50 + round)) return 13;
        if (agent < 2 && !group->Send(1, part).ok()) return 14;
        if (agent >= 2 && !group->Receive(0, got).ok()) return 15;
        if (agent >= 2 && (got[0] != static_cast<std::byte>((agent - 2) * 50 + round) || got[n - 1] != got[0]))
          return 16;
      }
      return 0;
    }));
  }
  for (pid_t child : children) EXPECT_EQ(ExitCode(child), 0);
}

TEST(ShmGroupTest, KilledProcessHangsNobody) {
  const GroupSpec shape{.stages = 1, .ranks = 3, .limit = absl::Seconds(60)};
  auto region = ShmRegion::Create(shape);
  ASSERT_TRUE(region.ok()) << region.status();
  auto loop = [&](int agent) {
    GroupSpec spec = shape;
    spec.agent = agent;
    auto group = MakeShmGroup(spec, *region);
    std::vector<std::byte> part(8), all(24);
    while (group->AllGather(part, std::vector<size_t>{8, 8, 8}, all).ok()) {
    }
    return 7;
  };
  const pid_t survivor = Fork([&] { return loop(1); });
  const pid_t victim = Fork([&] { return loop(2); });
  GroupSpec spec = shape;
  auto group = MakeShmGroup(spec, *region);
  // The control thread of the surviving agent 0 is told of the death.
  std::thread control([&] {
    while (group->collectives() < 100) std::this_thread::yield();
    kill(victim, SIGKILL);
    EXPECT_EQ(ExitCode(victim), 128 + SIGKILL);
    group->Abort(absl::UnavailableError("agent 2 was killed"));
  });
  std::vector<std::byte> part(8), all(24);
  absl::Status status;
  while ((status = group->AllGather(part, std::vector<size_t>{8, 8, 8}, all)).ok()) {
  }
  control.join();
  EXPECT_EQ(status, absl::UnavailableError("agent 2 was killed"));
  EXPECT_EQ(ExitCode(survivor), 7);
}

TEST(ShmRegionTest, RefusesWhatIsNotItsOwn) {
  const GroupSpec shape{.stages = 1, .ranks = 2, .epoch = 4};
  auto region = ShmRegion::Create(shape);
  ASSERT_TRUE(region.ok());
  const std::string address = (*region)->address();
  EXPECT_TRUE(ShmRegion::Open(shape, address).ok());
  EXPECT_FALSE(ShmRegion::Open({.stages = 1, .ranks = 2, .epoch = 5}, address).ok());
  EXPECT_FALSE(ShmRegion::Open({.stages = 2, .ranks = 2, .epoch = 4}, address).ok());
  EXPECT_FALSE(ShmRegion::Open(shape, address + "1").ok()) << "another nonce";
  EXPECT_FALSE(ShmRegion::Open(shape, "").ok());
  EXPECT_FALSE(ShmRegion::Open(shape, std::to_string(getpid()) + " 2 17").ok()) << "not a memory file";
  (*region)->CloseFile();
  EXPECT_FALSE(ShmRegion::Open(shape, address).ok()) << "closed for newcomers";
}

TEST(ShmRegionTest, LeavesNoNameAndNoDescriptor) {
  auto names = [](const char* folder) {
    int n = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++n;
    return n;
  };
  const int descriptors = names("/proc/self/fd"), shm = names("/dev/shm");
  {
    auto groups = MakeTestGroups("shm", {.stages = 2, .ranks = 2});
    EXPECT_EQ(names("/proc/self/fd"), descriptors) << "once all have opened it, nobody keeps the file";
    EXPECT_EQ(names("/dev/shm"), shm);
  }
  EXPECT_EQ(names("/proc/self/fd"), descriptors);
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) EXPECT_EQ(line.find("pangea-group"), std::string::npos) << line;
}

}  // namespace
}  // namespace pangea
