#include "master/api/generation/gate.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace pangea {
namespace {

// SHA-256 of "abc".
constexpr char kAbc[] = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad alice 3\n";

TEST(Identify, WithoutKeysAnybodyMayCome) {
  for (const char* shown : {"", "Bearer anything", "nonsense"}) {
    const auto caller = Identify(nullptr, shown);
    ASSERT_TRUE(caller.ok()) << shown;
    EXPECT_EQ(caller->account, 0u);
  }
}

TEST(Identify, WithKeysOnlyTheirHolders) {
  std::vector<std::string> faults;
  const KeyRing ring = KeyRing::Parse(kAbc, "f", &faults);
  for (const char* shown : {"Bearer abc", "bearer abc", "BEARER abc"}) {
    const auto caller = Identify(&ring, shown);
    ASSERT_TRUE(caller.ok()) << shown;
    EXPECT_EQ(caller->account, 1u);
    EXPECT_EQ(caller->weight, 3);
  }
  for (const char* shown :
       {"", "abc", "Bearer", "Bearer ", "Bearer abcd", "Bearer ab", "Bearer  abc", "Basic abc", "Bearerabc"}) {
    const auto caller = Identify(&ring, shown);
    EXPECT_TRUE(absl::IsUnauthenticated(caller.status())) << shown;
    EXPECT_EQ(caller.status().message().find("abcd"), std::string::npos);
  }
}

TEST(Bytes, ReservedBytesAreGivenBack) {
  ByteBudget budget(100);
  const auto left = [&](uint64_t bytes) { return budget.Fits(bytes) && !budget.Fits(bytes + 1); };
  {
    ByteShare a(&budget);
    EXPECT_TRUE(a.Grow(60));
    EXPECT_FALSE(budget.Fits(41));
    EXPECT_TRUE(budget.Fits(40));
    ByteShare b(&budget);
    EXPECT_FALSE(b.Grow(41));
    EXPECT_TRUE(left(40));
    EXPECT_TRUE(b.Grow(40));
    ByteShare moved = std::move(a);
    a = ByteShare();
    EXPECT_TRUE(left(0));
    moved = ByteShare();
    EXPECT_TRUE(left(60));
  }
  EXPECT_TRUE(left(100));
}

TEST(Drain, RetryAfterFollowsHowFastRequestsLeave) {
  DrainRate rate;
  EXPECT_EQ(rate.SecondsFor(1000), 1) << "nothing is known yet";
  double now = 100;
  for (int i = 0; i < 8; ++i) rate.Begin(now);
  for (int i = 0; i < 100; ++i) {  // one ends every half second, another comes
    now += 0.5;
    rate.End(now);
    rate.Begin(now);
  }
  EXPECT_EQ(rate.SecondsFor(1), 1);
  EXPECT_EQ(rate.SecondsFor(9), 5);
  EXPECT_EQ(rate.SecondsFor(64), 32);
  EXPECT_EQ(rate.SecondsFor(1000), 60);
  for (int i = 0; i < 8; ++i) rate.End(now);  // at once: the mean falls by less than a quarter
  EXPECT_LE(rate.SecondsFor(64), 32);
  EXPECT_GE(rate.SecondsFor(64), 24);
  const int before = rate.SecondsFor(64);
  rate.Begin(now + 1e6);  // a pause is no slowness
  EXPECT_EQ(rate.SecondsFor(64), before);
  for (int i = 0; i < 200; ++i) {
    rate.Begin(now + 1e6);
    rate.End(now + 1e6 + i * 0.01);
  }
  EXPECT_EQ(rate.SecondsFor(64), 1) << "it follows what happens now";
}

TEST(Accounts, EachHasItsOwnLimit) {
  AccountCounts counts(2, 2);
  EXPECT_TRUE(counts.Enter(1));
  EXPECT_FALSE(counts.Full(1));
  EXPECT_TRUE(counts.Enter(1));
  EXPECT_TRUE(counts.Full(1));
  EXPECT_FALSE(counts.Enter(1));
  EXPECT_TRUE(counts.Enter(2));
  counts.Leave(1);
  EXPECT_TRUE(counts.Enter(1));
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(counts.Enter(0)) << "who needs no key has no limit of his own";
  AccountCounts unlimited(1, 0);
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(unlimited.Enter(1));
}

TEST(Caller, DeadlineAsTheEngineTakesIt) {
  Caller caller;
  EXPECT_EQ(caller.deadline_seconds(), std::numeric_limits<double>::infinity());
  caller.deadline = Caller::Clock::time_point(std::chrono::milliseconds(1500));
  EXPECT_EQ(caller.deadline_seconds(), 1.5);
}

}  // namespace
}  // namespace pangea
