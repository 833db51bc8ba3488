#include "configs/values.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "absl/strings/str_join.h"
#include "configs/deployment.h"
#include "configs/device.h"

namespace pangea {
namespace {

TEST(Devices, NamesAreInSmallLetters) { EXPECT_EQ(FindDevice("CPU"), nullptr); }

TEST(Devices, AGpuMayBeNamedByItsNumber) {
  EXPECT_EQ(FindDevice("cuda:3"), FindDevice("cuda"));
  EXPECT_EQ(GpuOf("cuda:3"), 3);
  EXPECT_EQ(GpuOf("cuda:127"), 127);
  for (const char* none : {"cuda", "cuda:", "cuda:x", "cuda:-1", "cuda:1000", "cuda: 1", "cpu:1", ""}) {
    EXPECT_EQ(GpuOf(none), -1) << none;
  }
  EXPECT_EQ(FindDevice("cuda:x"), nullptr);
}

TEST(Bytes, UnitsAndRefusals) {
  EXPECT_EQ(*ParseBytes("0"), 0u);
  EXPECT_EQ(*ParseBytes("268435456"), 268435456u);
  EXPECT_EQ(*ParseBytes("256MiB"), 268435456u);
  EXPECT_EQ(*ParseBytes("256 mib"), 268435456u);
  EXPECT_EQ(*ParseBytes("1GB"), 1000000000u);
  EXPECT_EQ(*ParseBytes("1.5GiB"), 1610612736u);
  EXPECT_EQ(*ParseBytes("2TiB"), 2199023255552u);
  EXPECT_EQ(*ParseBytes("7B"), 7u);
  for (const char* bad : {"", "x", "-1", "+1", "1e9", "1 2", "MiB", "1MiBs", "1M", "0.3B", ".5GiB", "1.GiB", "1..5GiB",
                          "nan", "8388608TiB", "9223372036854775808", "1MiB ", " 1"}) {
    EXPECT_FALSE(ParseBytes(bad).ok()) << bad;
  }
}

TEST(Bytes, FormatIsExact) {
  for (uint64_t bytes : {0ull, 1ull, 1000ull, 1024ull, 1536ull, 1ull << 20, (1ull << 20) + 1, 1ull << 40, 5ull << 50}) {
    EXPECT_EQ(*ParseBytes(FormatBytes(bytes)), bytes);
  }
  EXPECT_EQ(FormatBytes(256 << 20), "256MiB");
}

TEST(Seconds, UnitsAndRefusals) {
  EXPECT_EQ(*ParseSeconds("30"), 30);
  EXPECT_EQ(*ParseSeconds("0.25"), 0.25);
  EXPECT_EQ(*ParseSeconds("30s"), 30);
  EXPECT_EQ(*ParseSeconds("500ms"), 0.5);
  EXPECT_EQ(*ParseSeconds("20us"), 20e-6);
  EXPECT_EQ(*ParseSeconds("2m"), 120);
  EXPECT_EQ(*ParseSeconds("1h"), 3600);
  for (const char* bad : {"", "s", "-1", "1e3", "1d", "1 s s", "inf", "nan", "0x1"})
    EXPECT_FALSE(ParseSeconds(bad).ok()) << bad;
  for (double seconds : {0.0, 0.1, 1.0 / 3, 1e-3, 604800.0}) EXPECT_EQ(*ParseSeconds(FormatSeconds(seconds)), seconds);
}

TEST(Integer, Strict) {
  EXPECT_EQ(*ParseInteger("-5"), -5);
  for (const char* bad : {"", "+5", "5 ", "0x5", "5.0", "9223372036854775808", "five"})
    EXPECT_FALSE(ParseInteger(bad).ok()) << bad;
}

TEST(Environment, Expansion) {
  setenv("PANGEA_TEST_A", "x", 1);
  EXPECT_EQ(*ExpandEnvironment("a${PANGEA_TEST_A}b$${PANGEA_TEST_A}$ $5$"), "axb${PANGEA_TEST_A}$ $5$");
  setenv("PANGEA_TEST_A", "${PANGEA_TEST_A}", 1);
  EXPECT_EQ(*ExpandEnvironment("${PANGEA_TEST_A}"), "${PANGEA_TEST_A}") << "a value is not expanded again";
  for (const char* bad : {"${", "${}", "${PANGEA_TEST_NONE}", "${a b}", "${9}", "${PANGEA_TEST_A"})
    EXPECT_FALSE(ExpandEnvironment(bad).ok()) << bad;
}

TEST(Nearest, EditDistanceAgainstRecursion) {
  auto slow = [](auto& self, std::string_view a, std::string_view b) -> int {
    if (a.empty() || b.empty()) return static_cast<int>(a.size() + b.size());
    const std::string_view c = a.substr(1), d = b.substr(1);
    return std::min({self(self, c, d) + (a[0] != b[0]), self(self, c, b) + 1, self(self, a, d) + 1});
  };
  for (const char* a : {"", "a", "cache", "kitten", "memroy"}) {
    for (const char* b : {"", "b", "cahce", "sitting", "memory"})
      EXPECT_EQ(EditDistance(a, b), slow(slow, a, b)) << a << " " << b;
  }
  EXPECT_EQ(Nearest("memroy", {"model", "cache.memory", "cache"}), "cache.memory");
}

TEST(HostPort, AcceptsAndRefuses) {
  EXPECT_EQ(ParseHostPort("127.0.0.1:8000")->host, "127.0.0.1");
  EXPECT_EQ(ParseHostPort("127.0.0.1:8000")->port, 8000);
  EXPECT_EQ(ParseHostPort("[::1]:0")->host, "::1");
  EXPECT_EQ(ParseHostPort("host.name:65535")->port, 65535);
  for (const char* bad : {"", "x", ":1", "x:", "x:y", "x:65536", "x:70000", "x:-1", "x:+1", "::1:0", "[::1:0", "[]:0",
                          "[x]:0", "a b:1", "http://x:1", "x:1 ", "x: 1", "u@x:1", "x:99999999999999999999"}) {
    EXPECT_FALSE(ParseHostPort(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace pangea
