// One body over every kind of group.
#include <atomic>
#include <cstring>
#include <future>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "agent/group/group_test_util.h"

namespace pangea {
namespace {

using Bytes = std::vector<std::byte>;
using std::chrono::steady_clock;

// What agent `agent` says in round `round`: differs in every byte that a mix-up could take from elsewhere.
Bytes Pattern(int agent, int round, size_t n) {
  Bytes bytes(n);
  uint32_t x = agent * 7919 + round * 104729 + 1;
  for (size_t i = 0; i < n; ++i) {
    x = x * 1664525 + 1013904223;
    bytes[i] = static_cast<std::byte>(x >> 24);
  }
  return bytes;
}

struct Case {
  std::string kind;
  int stages, ranks;
};
std::string Name(const ::testing::TestParamInfo<Case>& info) {
  std::string kind = info.param.kind;
  std::erase(kind, '-');
  return absl::StrCat(kind, "_", info.param.stages, "x", info.param.ranks);
}
std::vector<Case> Cases(const std::vector<std::pair<int, int>>& shapes) {
  std::vector<Case> cases;
  for (const char* kind : {"thread", "shm", "shm-one", "gloo"}) {
    for (auto [stages, ranks] : shapes) cases.push_back({kind, stages, ranks});
  }
  return cases;
}

class GroupTest : public ::testing::TestWithParam<Case> {
 protected:
  std::vector<std::unique_ptr<Group>> Make(absl::Duration limit = absl::Seconds(30)) {
    // Small slots and channels, so that a few hundred bytes are already several chunks.
    return MakeTestGroups(GetParam().kind, {.stages = GetParam().stages,
                                            .ranks = GetParam().ranks,
                                            .limit = limit,
                                            .slot_bytes = 4096,
                                            .channel_bytes = 8192});
  }
  int ranks() const { return GetParam().ranks; }
  int stages() const { return GetParam().stages; }
};

class PeersTest : public GroupTest {};   // two agents or more
class StagesTest : public GroupTest {};  // two stages or more

TEST_P(GroupTest, KnowsItsPlace) {
  auto groups = Make();
  for (int i = 0; i < stages() * ranks(); ++i) {
    EXPECT_EQ(groups[i]->stages(), stages());
    EXPECT_EQ(groups[i]->ranks(), ranks());
    EXPECT_EQ(groups[i]->stage(), i / ranks());
    EXPECT_EQ(groups[i]->rank(), i % ranks());
  }
}

TEST_P(GroupTest, AllGatherOfUnevenSizes) {
  auto groups = Make();
  OnEveryAgent(groups, [&](Group& group) {
    for (int round = 0; round < 60; ++round) {
      // Sizes from 0 to many slots; some ranks, and in round 0 all, have nothing to say.
      std::vector<size_t> sizes(ranks());
      for (int r = 0; r < ranks(); ++r) {
        sizes[r] = round == 0                          ? 0
                   : (round * 131 + r * 977) % 11 == 0 ? 0
                                                       : (round * 37 + r * 2311) % (round < 50 ? 300 : 20000);
      }
      const int first = group.stage() * ranks();
      const Bytes mine = Pattern(first + group.rank(), round, sizes[group.rank()]);
      Bytes all(std::accumulate(sizes.begin(), sizes.end(), size_t{0}), std::byte{0xee});
      const absl::Status status = group.AllGather(mine, sizes, all);
      ASSERT_TRUE(status.ok()) << status;
      Bytes expected;
      for (int r = 0; r < ranks(); ++r) {
        const Bytes part = Pattern(first + r, round, sizes[r]);
        expected.insert(expected.end(), part.begin(), part.end());
      }
      ASSERT_EQ(all, expected) << "round " << round;
    }
    EXPECT_EQ(group.collectives(), 60u);
  });
}

TEST_P(GroupTest, BigMessages) {
  auto groups = Make();
  constexpr size_t kBig = (3 << 20) + 17;
  OnEveryAgent(groups, [&](Group& group) {
    const int first = group.stage() * ranks();
    const std::vector<size_t> sizes(ranks(), kBig);
    Bytes all(kBig * ranks());
    ASSERT_TRUE(group.AllGather(Pattern(first + group.rank(), 1, kBig), sizes, all).ok());
    for (int r = 0; r < ranks(); ++r) {
      const Bytes expected = Pattern(first + r, 1, kBig);
      ASSERT_EQ(std::memcmp(all.data() + r * kBig, expected.data(), kBig), 0);
    }
    Bytes got(kBig);
    if (group.stage() > 0) {
      ASSERT_TRUE(group.Receive(group.stage() - 1, got).ok());
      ASSERT_EQ(got, Pattern(first - ranks() + group.rank(), 2, kBig));
    }
    if (group.stage() + 1 < stages()) {
      ASSERT_TRUE(group.Send(group.stage() + 1, Pattern(first + group.rank(), 2, kBig)).ok());
    }
  });
}

// As a pipeline works: stage 0 runs ahead, ids come back from the last stage, each pair keeps its order.
TEST_P(StagesTest, PipelineKeepsOrder) {
  auto groups = Make();
  constexpr int kSteps = 40;
  const int ahead = stages() + 1;
  auto size = [](int step) { return size_t(step * 53 % 700); };
  OnEveryAgent(groups, [&](Group& group) {
    const int last = stages() - 1;
    auto take = [&](int from, int step, size_t n) {
      Bytes got(n);
      const absl::Status status = group.Receive(from, got);
      ASSERT_TRUE(status.ok()) << status;
      ASSERT_EQ(got, Pattern(from * ranks() + group.rank(), step, n)) << "step " << step;
    };
    const int me = group.stage() * ranks() + group.rank();
    for (int step = 0; step < kSteps + (group.stage() == 0 ? ahead : 0); ++step) {
      if (group.stage() == 0) {
        if (step >= ahead) take(last, step - ahead, 4);
        if (step < kSteps) {
          ASSERT_TRUE(group.Send(1, Pattern(me, step, size(step))).ok());
        }
        continue;
      }
      take(group.stage() - 1, step, size(step));
      if (group.stage() < last) {
        ASSERT_TRUE(group.Send(group.stage() + 1, Pattern(me, step, size(step))).ok());
      } else {
        ASSERT_TRUE(group.Send(0, Pattern(me, step, 4)).ok());
      }
    }
  });
}

TEST_P(PeersTest, AbortWakesEverybodyAndLaterCallsFailToo) {
  auto groups = Make(absl::Seconds(60));
  // All but agent 0 wait for something that never comes; another thread of agent 0 aborts.
  std::atomic<int> waiting{0};
  std::thread aborter([&] {
    while (waiting.load() < stages() * ranks() - 1) std::this_thread::yield();
    groups[0]->Abort(absl::UnavailableError("agent 3 died"));
  });
  OnEveryAgent(groups, [&](Group& group) {
    const bool zero = &group == groups[0].get();
    if (zero && ranks() == 1) return;
    const std::vector<size_t> sizes(ranks(), 8);
    Bytes mine(8), all(8 * ranks());
    if (!zero) ++waiting;
    absl::Status status;
    if (group.stage() > 0) {
      status = group.Receive(0, mine);
    } else if (!zero) {
      status = group.AllGather(mine, sizes, all);
    } else {
      return;
    }
    EXPECT_FALSE(status.ok());
    // Dead: the next call fails too, with the same reason, and without waiting.
    EXPECT_EQ(group.AllGather(mine, sizes, all), status);
    EXPECT_EQ(group.Send((group.stage() + 1) % stages(), mine).ok(), false);
  });
  aborter.join();
  const std::vector<size_t> sizes(ranks(), 8);
  Bytes mine(8), all(8 * ranks());
  EXPECT_EQ(groups[0]->AllGather(mine, sizes, all), absl::UnavailableError("agent 3 died"));
}

TEST_P(PeersTest, AnAbortedWaitReturnsTheReason) {
  auto groups = Make(absl::Seconds(60));
  auto result = std::async(std::launch::async, [&]() -> absl::Status {
    const std::vector<size_t> sizes(ranks(), 8);
    Bytes mine(8), all(8 * ranks());
    return ranks() > 1 ? groups[0]->AllGather(mine, sizes, all) : groups[0]->Receive(1, mine);
  });
  while (groups[0]->collectives() == 0) std::this_thread::yield();
  groups[0]->Abort(absl::CancelledError("told to stop"));
  ASSERT_EQ(result.wait_for(std::chrono::seconds(30)), std::future_status::ready);
  EXPECT_EQ(result.get(), absl::CancelledError("told to stop"));
}

TEST_P(PeersTest, TimeLimitNamesWhoIsMissing) {
  // The limit holds for forming the group too, and connections take their time on a busy machine.
  const auto limit = std::chrono::milliseconds(GetParam().kind == "gloo" ? 3000 : 300);
  auto groups = Make(absl::FromChrono(limit));
  const auto start = steady_clock::now();
  const std::vector<size_t> sizes(ranks(), 8);
  Bytes mine(8), all(8 * ranks());
  const absl::Status status = ranks() > 1 ? groups[0]->AllGather(mine, sizes, all) : groups[0]->Receive(1, mine);
  const auto took = steady_clock::now() - start;
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
  EXPECT_GE(took, limit - std::chrono::milliseconds(10));
  EXPECT_LT(took, std::chrono::seconds(60));
  const std::string text(status.message());
  EXPECT_NE(text.find("stage 0 rank 0"), std::string::npos) << text;
  EXPECT_NE(text.find("collective 1"), std::string::npos) << text;
  EXPECT_NE(text.find(ranks() > 1 ? "rank 1" : "stage 1"), std::string::npos) << text;
}

TEST_P(GroupTest, AGroupIsDeadAfterWrongArguments) {
  auto groups = Make();
  Bytes mine(8), all(8 * ranks());
  EXPECT_EQ(groups[0]->AllGather(mine, std::vector<size_t>(ranks() + 1, 8), all).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(groups[0]->AllGather(mine, std::vector<size_t>(ranks(), 8), all).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_P(GroupTest, ManySmallRounds) {
  auto groups = Make();
  OnEveryAgent(groups, [&](Group& group) {
    const std::vector<size_t> sizes(ranks(), sizeof(int));
    for (int round = 0; round < 500; ++round) {
      const int mine = round * 100 + group.rank();
      std::vector<int> all(ranks());
      ASSERT_TRUE(
          group.AllGather(std::as_bytes(std::span(&mine, 1)), sizes, std::as_writable_bytes(std::span(all))).ok());
      for (int r = 0; r < ranks(); ++r) ASSERT_EQ(all[r], round * 100 + r);
    }
  });
}

INSTANTIATE_TEST_SUITE_P(All, GroupTest,
                         ::testing::ValuesIn(Cases({{1, 1}, {1, 2}, {2, 1}, {2, 2}, {1, 3}, {3, 1}, {2, 4}})), Name);
INSTANTIATE_TEST_SUITE_P(All, PeersTest, ::testing::ValuesIn(Cases({{1, 2}, {2, 1}, {2, 2}, {1, 3}})), Name);
INSTANTIATE_TEST_SUITE_P(All, StagesTest, ::testing::ValuesIn(Cases({{2, 1}, {2, 2}, {3, 1}, {4, 2}})), Name);

TEST(MakeGroupTest, RefusesWhatItDoesNotKnow) {
  Rendezvous board([](const std::string&, const std::string&) {});
  EXPECT_EQ(MakeGroup("mpi", {.ranks = 2}, board).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(MakeGroup("shm", {.ranks = 2, .agent = 2}, board).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(MakeGroup("shm", {}, board).ok());
}

TEST(MakeGroupTest, MissingPeerIsBounded) {
  for (const char* kind : {"shm", "gloo"}) {
    for (int agent : {0, 1}) {
      Rendezvous board([](const std::string&, const std::string&) {});
      auto group = MakeGroup(kind, {.ranks = 2, .agent = agent, .limit = absl::Milliseconds(200)}, board);
      EXPECT_FALSE(group.ok()) << kind;
    }
  }
}

TEST(MakeGroupTest, ClosingTheRendezvousEndsTheWait) {
  for (const char* kind : {"shm", "gloo"}) {
    Rendezvous board([](const std::string&, const std::string&) {});
    auto result = std::async(std::launch::async, [&] {
      return MakeGroup(kind, {.ranks = 2, .agent = 1, .limit = absl::Seconds(60)}, board).status();
    });
    board.Close(absl::CancelledError("told to stop"));
    ASSERT_EQ(result.wait_for(std::chrono::seconds(10)), std::future_status::ready) << kind;
    EXPECT_NE(result.get().message().find("told to stop"), std::string::npos) << kind;
  }
}

TEST(MakeGroupTest, GlooRefusesAForeignOrUnknownHost) {
  Rendezvous board([](const std::string&, const std::string&) {});
  EXPECT_FALSE(MakeGroup("gloo", {.ranks = 2, .limit = absl::Milliseconds(200), .host = "192.0.2.1"}, board).ok());
  auto group = MakeGroup("gloo", {.ranks = 2, .limit = absl::Milliseconds(200), .host = "no-such-host.invalid"}, board);
  EXPECT_FALSE(group.ok());
  EXPECT_NE(group.status().message().find("no-such-host.invalid"), std::string::npos) << group.status();
}

}  // namespace
}  // namespace pangea
