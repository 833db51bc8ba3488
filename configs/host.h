// What this host, or the cgroups that this process is in, has left for new processes. root, everywhere: for tests,
// where /proc and /sys lie.
#pragma once
#include <cstdint>
#include <string>

namespace pangea {

struct HostMemory {
  int64_t available = 0;  // bytes; files in the page cache that may be dropped count as available
  std::string source;     // what says so: "MemAvailable of /proc/meminfo", or a cgroup's limit and its path
};
// The least that any of them grants: /proc/meminfo, and every memory cgroup from this process' own up to the root
// (versions 1 and 2). available is INT64_MAX where nothing can be read.
HostMemory AvailableMemory(const std::string& root = "");

// Cores that this process may use at once: the least of what the affinity mask and the CPU quotas of its cgroups grant,
// rounded down, at least 1.
int AvailableCores(const std::string& root = "");

// The same for all processes under one running kernel, in whatever container; "": unknown.
std::string BootId(const std::string& root = "");

}  // namespace pangea
