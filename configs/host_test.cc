#include "configs/host.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <limits>

namespace pangea {
namespace {

namespace fs = std::filesystem;

// A root of its own with the files of a host.
class Host : public testing::Test {
 protected:
  Host() : root_(fs::temp_directory_path() / ("pangea_host_" + std::to_string(getpid()))) {
    fs::remove_all(root_);
    Put("/proc/meminfo", "MemTotal:       32000000 kB\nMemFree:  1000 kB\nMemAvailable:   20000000 kB\n");
  }
  ~Host() override { fs::remove_all(root_); }
  void Put(const std::string& path, const std::string& text) {
    fs::create_directories(fs::path(root_.string() + path).parent_path());
    std::ofstream(root_.string() + path) << text;
  }
  HostMemory Available() const { return AvailableMemory(root_.string()); }
  int Cores() const { return AvailableCores(root_.string()); }

 private:
  const fs::path root_;
};

constexpr int64_t kGiB = int64_t{1} << 30;

TEST_F(Host, AHostWithoutLimitsHasWhatItsKernelSays) {
  Put("/proc/self/cgroup", "0::/user.slice\n");
  Put("/sys/fs/cgroup/user.slice/memory.max", "max\n");
  Put("/sys/fs/cgroup/user.slice/memory.current", "12345\n");
  EXPECT_EQ(Available().available, int64_t{20000000} * 1024);
  EXPECT_EQ(Available().source, "MemAvailable of /proc/meminfo");
}

TEST_F(Host, AGroupsLimitCountsWhatItUsesButForFilesThatCanBeDropped) {
  Put("/proc/self/cgroup", "0::/a/b\n");
  Put("/sys/fs/cgroup/a/b/memory.max", std::to_string(4 * kGiB) + "\n");
  Put("/sys/fs/cgroup/a/b/memory.current", std::to_string(3 * kGiB) + "\n");
  Put("/sys/fs/cgroup/a/b/memory.stat", "anon 5\ninactive_file " + std::to_string(kGiB) + "\nactive_file 7\n");
  EXPECT_EQ(Available().available, 2 * kGiB + 7);
  EXPECT_EQ(Available().source, "the limit of cgroup /sys/fs/cgroup/a/b");
}

TEST_F(Host, TheTightestGroupOnTheWayUpDecides) {
  Put("/proc/self/cgroup", "0::/a/b\n");
  Put("/sys/fs/cgroup/a/b/memory.max", std::to_string(4 * kGiB));
  Put("/sys/fs/cgroup/a/b/memory.current", "0");
  Put("/sys/fs/cgroup/a/memory.max", std::to_string(2 * kGiB));
  Put("/sys/fs/cgroup/a/memory.current", std::to_string(3 * kGiB));
  EXPECT_EQ(Available().available, 0) << "it is over its limit already";
  EXPECT_EQ(Available().source, "the limit of cgroup /sys/fs/cgroup/a");
}

// In a container the group's own folder is the mount's root.
TEST_F(Host, TheRootOfTheMountIsAGroupToo) {
  Put("/proc/self/cgroup", "0::/\n");
  Put("/sys/fs/cgroup/memory.max", std::to_string(kGiB));
  Put("/sys/fs/cgroup/memory.current", "1000");
  EXPECT_EQ(Available().available, kGiB - 1000);
}

TEST_F(Host, TheFirstVersionOfCgroupsIsReadToo) {
  Put("/proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/1\n");
  Put("/sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes", std::to_string(3 * kGiB));
  Put("/sys/fs/cgroup/memory/docker/1/memory.usage_in_bytes", std::to_string(kGiB));
  Put("/sys/fs/cgroup/memory/docker/1/memory.stat", "total_inactive_file 500\n");
  EXPECT_EQ(Available().available, 2 * kGiB + 500);
}

TEST_F(Host, TheFirstVersionsNumberForNoLimitIsNone) {
  Put("/proc/self/cgroup", "4:memory:/\n");
  Put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712");
  Put("/sys/fs/cgroup/memory/memory.usage_in_bytes", "1000");
  Put("/sys/fs/cgroup/memory/memory.stat", "total_inactive_file 500\ntotal_active_file 90000\n");  // more than is used
  EXPECT_EQ(Available().source, "MemAvailable of /proc/meminfo");
}

TEST_F(Host, AQuotaOfAGroupIsCountedInWholeCores) {
  const int all = AvailableCores("/nonexistent");  // without quotas that this test itself is held to
  Put("/proc/self/cgroup", "0::/a\n");
  Put("/sys/fs/cgroup/a/cpu.max", "max 100000\n");
  EXPECT_EQ(Cores(), all);
  Put("/sys/fs/cgroup/a/cpu.max", "190000 100000\n");
  EXPECT_EQ(Cores(), 1);
  Put("/sys/fs/cgroup/a/cpu.max", "50000 100000\n");
  EXPECT_EQ(Cores(), 1) << "never none";
  Put("/proc/self/cgroup", "3:cpu,cpuacct:/b\n");
  Put("/sys/fs/cgroup/cpu/b/cpu.cfs_quota_us", "-1\n");
  Put("/sys/fs/cgroup/cpu/b/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(Cores(), all);
  Put("/sys/fs/cgroup/cpu/b/cpu.cfs_quota_us", "100000\n");
  EXPECT_EQ(Cores(), 1);
}

TEST_F(Host, ProcessesOfOneKernelSayTheSameId) {
  EXPECT_EQ(BootId(), BootId());
  EXPECT_FALSE(BootId().empty());
  Put("/proc/sys/kernel/random/boot_id", "1234-5678\n");
  EXPECT_EQ(BootId("/nonexistent"), "");
}

TEST(HostMemory, WhereNothingIsToldNothingIsLimited) {
  EXPECT_EQ(AvailableMemory("/nonexistent").available, std::numeric_limits<int64_t>::max());
}

TEST(HostMemory, ThisHostHasSomeAndLessThanItsTotal) {
  const HostMemory memory = AvailableMemory();
  EXPECT_GT(memory.available, 0);
  EXPECT_LT(memory.available, int64_t{1} << 50) << memory.source;
}

}  // namespace
}  // namespace pangea
