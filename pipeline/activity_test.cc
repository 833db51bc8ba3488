#include "pipeline/activity.h"

#include <gtest/gtest.h>

#include <thread>

namespace pangea {
namespace {

int64_t Sum(const ActivityClock::Totals& totals) {
  int64_t sum = 0;
  for (const int64_t spent : totals.spent) sum += spent;
  return sum;
}

void Spend(std::chrono::microseconds time) {
  const auto end = std::chrono::steady_clock::now() + time;
  while (std::chrono::steady_clock::now() < end) {
  }
}

TEST(ActivityClock, NothingCountsBeforeItBegins) {
  ActivityClock clock;
  EXPECT_EQ(Sum(clock.totals()), 0);
  EXPECT_EQ(clock.totals().since_begin, 0);
}

TEST(ActivityClock, EveryMomentBelongsToOneActivity) {
  ActivityClock clock;
  clock.Begin();
  for (int i = 0; i < 200; ++i) {
    const auto activity = static_cast<Activity>(i * 7 % kActivities);
    ActivityScope scope(&clock, activity);
    Spend(std::chrono::microseconds(20));
    ActivityScope inner(&clock, Activity::kCommunication);
    Spend(std::chrono::microseconds(5));
  }
  const auto totals = clock.totals();
  EXPECT_EQ(Sum(totals), totals.since_begin);
  for (const int64_t spent : totals.spent) EXPECT_GE(spent, 50 * 20'000);  // what was spent on purpose, at least
  EXPECT_GE(totals.spent[2], 200 * 5'000 + 50 * 20'000);
}

TEST(ActivityClock, WhatGoesOnCountsBeforeItEnds) {
  ActivityClock clock;
  clock.Begin();
  clock.Switch(Activity::kBubble);
  const auto before = clock.totals();
  Spend(std::chrono::milliseconds(2));
  const auto after = clock.totals();
  EXPECT_GE(after.spent[3] - before.spent[3], 2'000'000);
  EXPECT_EQ(after.spent[1], 0);
}

TEST(ActivityClock, BeginStartsAllSumsAnew) {
  ActivityClock clock;
  clock.Begin();
  clock.Switch(Activity::kBusy);
  Spend(std::chrono::milliseconds(2));
  clock.Begin();
  EXPECT_EQ(clock.totals().spent[1], 0);
  EXPECT_EQ(clock.Switch(Activity::kBusy), Activity::kWait);
}

// A reader that mixed an old total with a new start would see time run backwards, or a sum that is off.
TEST(ActivityClock, ReadersSeeWholeChanges) {
  ActivityClock clock;
  clock.Begin();
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (int i = 0; !stop; ++i) clock.Switch(static_cast<Activity>(i % kActivities));
  });
  constexpr int64_t kAgreement = 10;  // nanoseconds, of two cores' clocks
  ActivityClock::Totals last;
  for (int i = 0; i < 100'000; ++i) {
    const auto totals = clock.totals();
    ASSERT_EQ(Sum(totals), totals.since_begin);
    for (int a = 0; a < kActivities; ++a) ASSERT_GE(totals.spent[a], last.spent[a] - kAgreement);
    last = totals;
  }
  stop = true;
  writer.join();
}

TEST(ActivityClock, RecordedStretchesFollowOneAnother) {
  ActivityClock clock;
  clock.Begin();
  clock.Switch(Activity::kBusy);
  clock.Record();
  const int64_t begin = ActivityClock::Now();
  for (int i = 0; i < 10; ++i) {
    ActivityScope scope(&clock, i % 2 == 0 ? Activity::kCommunication : Activity::kBubble);
    Spend(std::chrono::microseconds(30));
  }
  clock.Switch(Activity::kWait);
  const int64_t end = ActivityClock::Now();
  const auto stretches = clock.Recorded();
  ASSERT_EQ(stretches.size(), 21u);
  int64_t sum = 0;
  for (size_t i = 0; i < stretches.size(); ++i) {
    const auto expected = i % 2 == 0 ? Activity::kBusy : i % 4 == 1 ? Activity::kCommunication : Activity::kBubble;
    EXPECT_EQ(static_cast<Activity>(stretches[i] & 3), expected);
    if (i > 0) sum += stretches[i] >> 2;  // the first began before the recording
  }
  EXPECT_LE(sum, end - begin);
  EXPECT_GE(sum, 10 * 30'000);
  clock.Switch(Activity::kBusy);
  EXPECT_TRUE(clock.Recorded().empty());
}

TEST(ActivityScope, WithoutAClockItDoesNothing) { ActivityScope scope(nullptr, Activity::kBusy); }

// A thread that is put off its core between a switch and the line that notes its time would shift all that follows.
TEST(ActivityClock, StretchesFillTheTimeFromOneSwitchToTheOther) {
  ActivityClock clock;
  clock.Begin();
  for (int i = 0; i < 3; ++i) {
    clock.Switch(Activity::kBusy);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    const int64_t begin = clock.since();
    clock.Record();
    clock.Switch(Activity::kCommunication);
    clock.Switch(Activity::kBusy);
    clock.Switch(Activity::kWait);
    int64_t sum = 0;
    const auto stretches = clock.Recorded();
    ASSERT_EQ(stretches.size(), 3u);
    for (const auto stretch : stretches) sum += static_cast<int64_t>(stretch >> 2);
    EXPECT_EQ(begin + sum, clock.since());
  }
}

}  // namespace
}  // namespace pangea
