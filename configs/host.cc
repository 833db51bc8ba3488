#include "configs/host.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string>
#include <thread>

namespace pangea {
namespace {

// The number in a file that holds nothing else; nullopt: there is none ("max", or no such file).
std::optional<int64_t> NumberIn(const std::string& path) {
  std::ifstream in(path);
  int64_t value = 0;
  if (in >> value) return value;
  return std::nullopt;
}

// The number behind `name` in a file of lines "name number"; 0: there is none.
int64_t Entry(const std::string& path, const std::string& name) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string first;
    int64_t value = 0;
    if (words >> first >> value && first == name) return value;
  }
  return 0;
}

constexpr int64_t kUnlimited = int64_t{1} << 60;  // version 1 says a number near 2^63 where there is no limit

// Names of the files of one version of cgroups.
struct Version {
  const char *limit, *use, *files, *used_files;
};
constexpr Version kOne = {"/memory.limit_in_bytes", "/memory.usage_in_bytes", "total_inactive_file",
                          "total_active_file"};
constexpr Version kTwo = {"/memory.max", "/memory.current", "inactive_file", "active_file"};

// Calls f(folder, version) for the groups of this process that a controller limits, from its own up to the root's.
template <class F>
void ForGroups(const std::string& root, const std::string& controller, F f) {
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // "0::/path" (version 2), "4:cpu,cpuacct:/path" (version 1)
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == line.npos || second == line.npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool two = controllers == ",,";
    if (!two && controllers.find("," + controller + ",") == controllers.npos) continue;
    const std::string mount = two ? "/sys/fs/cgroup" : "/sys/fs/cgroup/" + controller;
    for (std::string path = line.substr(second + 1);; path = path.substr(0, path.rfind('/'))) {
      f(mount + (path == "/" ? "" : path), two ? 2 : 1);
      if (path.empty() || path == "/") break;
    }
  }
}

void Take(int64_t available, const std::string& source, HostMemory* least) {
  available = std::max<int64_t>(available, 0);
  if (available < least->available) *least = {available, source};
}

}  // namespace

HostMemory AvailableMemory(const std::string& root) {
  HostMemory least{std::numeric_limits<int64_t>::max(), "nothing"};
  if (const int64_t kib = Entry(root + "/proc/meminfo", "MemAvailable:"); kib > 0)
    Take(kib * 1024, "MemAvailable of /proc/meminfo", &least);
  ForGroups(root, "memory", [&](const std::string& at, int version) {
    const Version& names = version == 2 ? kTwo : kOne;
    const auto limit = NumberIn(root + at + names.limit), use = NumberIn(root + at + names.use);
    if (!limit || !use || *limit >= kUnlimited) return;
    const std::string stat = root + at + "/memory.stat";
    Take(*limit - *use + Entry(stat, names.files) + Entry(stat, names.used_files), "the limit of cgroup " + at, &least);
  });
  return least;
}

std::string BootId(const std::string& root) {
  std::ifstream in(root + "/proc/sys/kernel/random/boot_id");
  std::string id;
  in >> id;
  return id.substr(0, 64);
}

int AvailableCores(const std::string& root) {
  int64_t cores = std::max(1u, std::thread::hardware_concurrency());  // glibc asks the affinity mask
  ForGroups(root, "cpu", [&](const std::string& at, int version) {
    std::optional<int64_t> quota, period;
    if (version == 2) {
      std::ifstream in(root + at + "/cpu.max");  // "max 100000" or "150000 100000"
      int64_t first = 0, second = 0;
      if (in >> first >> second) quota = first, period = second;
    } else {
      quota = NumberIn(root + at + "/cpu.cfs_quota_us"), period = NumberIn(root + at + "/cpu.cfs_period_us");
    }
    if (quota && period && *quota > 0 && *period > 0) cores = std::min(cores, *quota / *period);
  });
  return static_cast<int>(std::max<int64_t>(cores, 1));
}

}  // namespace pangea
