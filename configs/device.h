// The kinds of device that an agent may have, and what its CPU may be: the one place that knows their names.
#pragma once
#include <optional>
#include <string_view>

namespace pangea {

enum class DeviceKind {
  kCpu,
  kSim,   // computes nothing (agent/sim_executor)
  kCuda,  // not built yet
};

struct DeviceInfo {
  DeviceKind kind;
  std::string_view name;      // as in the deployment file
  std::string_view hardware;  // what the agent's host must have, as it says when it joins
  bool built_in;
};

inline constexpr DeviceInfo kDevices[] = {
    {DeviceKind::kCpu, "cpu", "cpu", true},
    {DeviceKind::kSim, "sim", "cpu", true},
    {DeviceKind::kCuda, "cuda", "cuda", false},
};
inline constexpr char kBuiltInDevices[] = "cpu, sim";

// Classes of instruction sets, from the least to the best; kernels/isa.h orders them alike, which a test compares.
inline constexpr std::string_view kIsaClasses[] = {"reference", "avx2", "avx512", "amx"};
inline constexpr char kIsaChoices[] = "auto, amx, avx512, avx2, reference";

constexpr const DeviceInfo* FindDevice(std::string_view name) {  // nullptr: there is none
  for (const DeviceInfo& device : kDevices) {
    if (device.name == name) return &device;
  }
  return nullptr;
}

}  // namespace pangea
