// The kinds of device that an agent may have, and what its CPU may be: the one place that knows their names.
#pragma once
#include <optional>
#include <string_view>

namespace pangea {

enum class DeviceKind {
  kCpu,
  kSim,        // computes nothing (agent/sim_executor)
  kCudaOnCpu,  // the CUDA agent, its kernels on the host (kernels/cuda)
  kCuda,       // a GPU; whether this build and this host can is found out where the agent starts
};

struct DeviceInfo {
  DeviceKind kind;
  std::string_view name;  // as in the deployment file
  bool takes_memory;      // of its host, for what the plan counts
  bool host_memory;       // weights, pages and tables lie in memory of the host's that others may map
  bool cuda_kernels;      // its words are those of kernels/cuda
};

inline constexpr DeviceInfo kDevices[] = {
    {DeviceKind::kCpu, "cpu", true, true, false},
    {DeviceKind::kSim, "sim", false, true, false},
    {DeviceKind::kCudaOnCpu, "cuda_on_cpu", true, false, true},
    {DeviceKind::kCuda, "cuda", false, false, true},
};
inline constexpr char kDeviceChoices[] = "cpu, sim, cuda_on_cpu, cuda";

// Classes of instruction sets, from the least to the best; kernels/isa.h orders them alike, which a test compares.
inline constexpr std::string_view kIsaClasses[] = {"reference", "avx2", "avx512", "amx"};
inline constexpr char kIsaChoices[] = "auto, amx, avx512, avx2, reference";

// Which GPU "cuda:3" names; -1: the name is none of this kind. At most three digits.
constexpr int GpuOf(std::string_view name) {
  constexpr std::string_view kPrefix = "cuda:";
  if (name.substr(0, kPrefix.size()) != kPrefix) return -1;
  name.remove_prefix(kPrefix.size());
  if (name.empty() || name.size() > 3) return -1;
  int number = 0;
  for (const char c : name) {
    if (c < '0' || c > '9') return -1;
    number = 10 * number + (c - '0');
  }
  return number;
}

constexpr const DeviceInfo* FindDevice(std::string_view name) {  // nullptr: there is none
  for (const DeviceInfo& device : kDevices) {
    if (device.name == name || (device.kind == DeviceKind::kCuda && GpuOf(name) >= 0)) return &device;
  }
  return nullptr;
}

}  // namespace pangea
