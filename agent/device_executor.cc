#include "agent/device_executor.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "configs/device.h"
#include "configs/log.h"
#include "kernels/cuda/make_queue.h"
#include "pipeline/cost_model.h"

namespace pangea {
namespace {

// The GPU that the agent's place names, or the next of its host: agents that name none take them in order. Remote ones
// without a host's address may be anywhere: each takes the first.
int GpuFor(const Deployment& deployment, int agent) {
  const AgentConfig& own = deployment.agent(agent);
  if (const int named = GpuOf(own.device); named >= 0) return named;
  int next = 0;
  for (int i = 0; i < agent && (own.launch == "local" || !own.host.empty()); ++i) {
    const AgentConfig& other = deployment.agent(i);
    if (other.device == own.device && other.launch == own.launch && other.host == own.host) ++next;
  }
  return next;
}

// What a driver takes besides: it rounds large allocations up to pages of 2 MiB, of which each layer has about six, and
// gives kernels memory for what their threads keep apart (the leaves of products: 0.3 GB on the largest GPUs), and
// graphs theirs (not measured yet; without it steps are launched). Of a small device no more than an eighth.
constexpr int64_t kLargePage = 2 << 20, kLargeOfALayer = 6, kOfKernels = 384 << 20, kMostReserved = 8;
constexpr int64_t kGraphsOfALayer = 8 << 20;
// What NCCL takes for its channels to other agents (not measured yet).
constexpr int64_t kOfNccl = 1 << 30;

CudaOptions OptionsOf(const Assignment& a) {
  return {.threads = a.deployment.agent(a.agent).threads,
          .exact = AddsAlongTree(a.deployment),
          .fusion = a.deployment.kernels.fusion};
}

absl::StatusOr<std::unique_ptr<Queue>> OpenGpu(const Assignment& a) {
  std::string why;
  auto gpu = MakeCudaQueue(OptionsOf(a), GpuFor(a.deployment, a.agent), &why);
  if (gpu.queue == nullptr) return absl::FailedPreconditionError(why);
  const int64_t reserved =
      std::min(gpu.free_bytes / kMostReserved,
               kOfKernels + a.place().layers.size() * (kLargeOfALayer * kLargePage + kGraphsOfALayer) +
                   (a.plan.transport == "nccl" ? kOfNccl : 0));
  const HostMemory room{.available = gpu.free_bytes - reserved,
                        .source = absl::StrCat(gpu.name, ", less ", BytesText(reserved), " for its driver")};
  const std::string fault = DeviceFault(a.deployment, a.plan, a.agent, room);
  if (!fault.empty()) return absl::ResourceExhaustedError(fault);
  LogInfo("on %s, %s free", gpu.name, BytesText(gpu.free_bytes));
  return std::move(gpu.queue);
}

}  // namespace

absl::Status MakeExecutor(const Assignment& a, const KeptMemory& kept, std::unique_ptr<Queue>* queue,
                          std::unique_ptr<Executor>* executor, bool makes_weights_up) {
  switch (FindDevice(a.deployment.agent(a.agent).device)->kind) {
    case DeviceKind::kSim:
      *executor = MakeSimExecutor(a.header, a.plan, a.agent);
      return absl::OkStatus();
    case DeviceKind::kCpu:
      break;
    case DeviceKind::kCudaOnCpu:
      *queue = MakeCudaOnCpuQueue(OptionsOf(a));
      break;
    case DeviceKind::kCuda:
      auto gpu = OpenGpu(a);
      if (!gpu.ok()) return gpu.status();
      *queue = *std::move(gpu);
      break;
  }
  *executor = MakeStageExecutor(a.header, a.deployment, a.plan, a.agent,
                                {.isa = a.isa,
                                 .weights = kept.weights.get(),
                                 .pages = kept.page_memory(),
                                 .makes_weights_up = makes_weights_up,
                                 .queue = queue->get()});
  return absl::OkStatus();
}

}  // namespace pangea
