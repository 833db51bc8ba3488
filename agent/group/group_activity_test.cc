// What a group tells its caller's clock: who waits for whom, and for what.
#include <array>
#include <atomic>

#include "agent/group/group_test_util.h"
#include "pipeline/activity.h"

namespace pangea {
namespace {

using Bytes = std::vector<std::byte>;

class GroupActivityTest : public ::testing::TestWithParam<const char*> {
 protected:
  std::vector<std::unique_ptr<Group>> Make(int stages, int ranks) {
    auto groups = MakeTestGroups(GetParam(), {.stages = stages,
                                              .ranks = ranks,
                                              .limit = absl::Seconds(30),
                                              .slot_bytes = 4096,
                                              .channel_bytes = 8192,
                                              .activity = clocks_.data()});
    for (ActivityClock& clock : clocks_) {
      clock.Begin();
      clock.Switch(Activity::kBusy);
    }
    return groups;
  }
  int64_t Spent(int agent, Activity activity) const {
    return clocks_[agent].totals().spent[static_cast<int>(activity)];
  }

  std::array<ActivityClock, 2> clocks_;
};

// Agent 0 calls at once; agent 1 comes when it sees that, and later. All the time between passes for agent 0 before its
// call (busy) or in it: no more can be asked of a clock on a machine that stops threads as it likes.
struct Meeting {
  std::atomic<int64_t> first{0}, second{0};
  void Early() { first = ActivityClock::Now(); }
  void Late() {
    while (first == 0) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    second = ActivityClock::Now();
  }
  int64_t between() const { return second - first; }
};

TEST_P(GroupActivityTest, ALatePeerIsCommunication) {
  const auto groups = Make(1, 2);
  Meeting meeting;
  OnEveryAgent(groups, [&](Group& group) {
    const Bytes mine(100);
    Bytes all(200);
    const std::vector<size_t> sizes = {100, 100};
    group.rank() == 0 ? meeting.Early() : meeting.Late();
    EXPECT_TRUE(group.AllGather(mine, sizes, all).ok());
  });
  EXPECT_GE(Spent(0, Activity::kCommunication), meeting.between() - Spent(0, Activity::kBusy));
  EXPECT_GT(Spent(0, Activity::kCommunication), 0);
  EXPECT_GT(Spent(1, Activity::kCommunication), 0);
  EXPECT_EQ(Spent(0, Activity::kBubble) + Spent(1, Activity::kBubble), 0);
  for (ActivityClock& clock : clocks_) EXPECT_EQ(clock.Switch(Activity::kBusy), Activity::kBusy);  // as before the call
}

TEST_P(GroupActivityTest, ALateStageIsABubble) {
  const auto groups = Make(2, 1);
  Meeting meeting;
  OnEveryAgent(groups, [&](Group& group) {
    Bytes data(20'000);  // more than the channel holds: it takes several pieces
    if (group.stage() == 0) {
      meeting.Early();
      EXPECT_TRUE(group.Receive(1, data).ok());
    } else {
      meeting.Late();
      EXPECT_TRUE(group.Send(0, data).ok());
    }
  });
  EXPECT_GE(Spent(0, Activity::kBubble), meeting.between() - Spent(0, Activity::kBusy));
  EXPECT_GT(Spent(0, Activity::kBubble), 0);
  EXPECT_EQ(Spent(1, Activity::kBubble), 0);
  EXPECT_GT(Spent(1, Activity::kCommunication), 0);
  // Gloo tells of nothing but the end.
  if (std::string(GetParam()) != "gloo") {
    EXPECT_GT(Spent(0, Activity::kCommunication), 0);
  }
}

TEST_P(GroupActivityTest, ALoneRankCommunicatesWithNobody) {
  const auto groups = Make(2, 1);
  OnEveryAgent(groups, [&](Group& group) {
    const Bytes mine(100);
    Bytes all(100);
    const std::vector<size_t> sizes = {100};
    EXPECT_TRUE(group.AllGather(mine, sizes, all).ok());
  });
  EXPECT_EQ(Spent(0, Activity::kCommunication), 0);
}

INSTANTIATE_TEST_SUITE_P(Groups, GroupActivityTest, ::testing::Values("shm", "gloo"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace pangea
