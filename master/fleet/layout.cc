#include "master/fleet/layout.h"

#include <algorithm>
#include <numeric>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "configs/device.h"
#include "pipeline/capacity.h"

namespace pangea {
namespace {

// That are tried: where so many of them do not hold the model, fewer agents will not.
constexpr size_t kMostShapes = 64;

std::string Counted(int n, const char* what) { return absl::StrCat(n, " ", what, n == 1 ? "" : "s"); }

}  // namespace

std::string LayoutName(int stages, int ranks) {
  return absl::StrCat(Counted(stages, "stage"), " x ", Counted(ranks, "rank"));
}

absl::StatusOr<Layout> MakeLayout(const CheckpointHeader& header, Deployment deployment, int pipeline, int tensor,
                                  int context) {
  if (pipeline < 1 || tensor < 1 || pipeline > kMaxAgents / tensor) {
    return absl::InvalidArgumentError(absl::StrCat("parallel: ", pipeline, " stages of ", tensor,
                                                   " ranks; each at least 1, at most ", kMaxAgents, " agents"));
  }
  const size_t agents = static_cast<size_t>(pipeline) * tensor;
  if (!deployment.agent_list.empty()) {
    if (deployment.agent_list.size() < agents) {
      return absl::InvalidArgumentError(absl::StrCat("agents: the list has ", deployment.agent_list.size(),
                                                     " entries, the layout ", agents, " agents"));
    }
    deployment.agent_list.resize(agents);
  }
  deployment.parallel.pipeline = pipeline;
  deployment.parallel.tensor = tensor;
  std::vector<DeploymentFault> faults = ValidateDeployment(deployment);
  PlanResult made;
  if (faults.empty()) {
    made = MakePlan(header, deployment);
    faults = std::move(made.faults);
  }
  if (!faults.empty()) {
    return absl::InvalidArgumentError(
        absl::StrJoin(faults, "; ", [](std::string* out, const DeploymentFault& fault) { *out += fault.Text(); }));
  }
  if (made.plan.context < context) {
    return absl::InvalidArgumentError(absl::StrCat("cache.memory: the layout holds ", made.plan.context,
                                                   " tokens of a request, ", context, " are served"));
  }
  return Layout{std::move(deployment), std::move(made.plan)};
}

std::optional<Layout> ShrunkLayout(const CheckpointHeader& header, const Layout& before, const std::vector<int>& left,
                                   int context, const std::function<bool(const Layout&)>& fits) {
  const int most = static_cast<int>(left.size());
  std::vector<std::pair<int, int>> shapes;
  for (int pipeline = 1; pipeline <= std::min(most, header.config.layers); ++pipeline) {
    for (int tensor = 1; tensor <= most / pipeline; ++tensor) shapes.emplace_back(pipeline, tensor);
  }
  const auto rank = [&](const std::pair<int, int>& shape) {
    return std::tuple(-shape.first * shape.second, shape.first != before.plan.stages, shape.first);
  };
  std::sort(shapes.begin(), shapes.end(), [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
  Deployment deployment = before.deployment;
  for (size_t i = 0; i < deployment.agent_list.size() && i < left.size(); ++i)
    deployment.agent_list[i] = before.deployment.agent_list[left[i]];
  if (shapes.size() > kMostShapes) shapes.resize(kMostShapes);
  for (const auto& [pipeline, tensor] : shapes) {
    auto layout = MakeLayout(header, deployment, pipeline, tensor, context);
    if (layout.ok() && (!fits || fits(*layout))) return *std::move(layout);
  }
  return std::nullopt;
}

std::string WhatMayBeLost(const CheckpointHeader& header, const Layout& layout,
                          const std::function<bool(const Layout&)>& fits) {
  const int agents = static_cast<int>(layout.plan.agents.size());
  std::vector<int> left(agents);
  std::iota(left.begin(), left.end(), 0);
  std::string text;
  for (int lost = 1; lost < agents; lost = lost < 3 ? lost + 1 : 2 * lost) {
    left.resize(agents - lost);
    const auto shrunk = ShrunkLayout(header, layout, left, layout.plan.context, fits);
    absl::StrAppend(&text, text.empty() ? "" : "; ", lost,
                    lost == 1 ? absl::StrCat(" of ", agents, " agents: ") : std::string(": "),
                    shrunk ? shrunk->Name() : "none");
    if (!shrunk) break;
  }
  return text;
}

std::vector<int> Seats(const Layout& layout, const std::vector<Seeker>& seekers) {
  const int places = static_cast<int>(layout.plan.agents.size());
  std::vector<int> seats(places, -1);
  std::vector<bool> seated(seekers.size());
  for (const bool by_host : {true, false}) {
    for (int place = 0; place < places; ++place) {
      const AgentConfig& asked = layout.deployment.agent(place);
      if (seats[place] >= 0 || (by_host && asked.host.empty())) continue;
      for (size_t i = 0; i < seekers.size() && seats[place] < 0; ++i) {
        const bool fits = seekers[i].local == (asked.launch != "remote") && (!by_host || seekers[i].host == asked.host);
        if (seated[i] || !fits) continue;
        seats[place] = static_cast<int>(i);
        seated[i] = true;
      }
    }
  }
  return seats;
}

std::string RemoteFault(const Layout& layout, const std::vector<Seeker>& seekers,
                        const std::map<std::string, int64_t>& memory) {
  const std::vector<int> seats = Seats(layout, seekers);
  struct Need {
    std::string host;
    int agents = 0;
    int64_t bytes = 0;
  };
  std::map<std::string, Need> needs;  // by machine
  for (size_t place = 0; place < seats.size(); ++place) {
    const DeviceInfo* device = FindDevice(layout.deployment.agent(static_cast<int>(place)).device);
    const bool holds = device != nullptr && device->takes_memory;
    if (seats[place] < 0 || seekers[seats[place]].local || !holds) continue;
    Need& need = needs[seekers[seats[place]].machine];
    need.host = seekers[seats[place]].host;
    ++need.agents;
    need.bytes += layout.plan.agents[place].memory.own();
  }
  for (const auto& [machine, need] : needs) {
    const auto found = memory.find(machine);
    if (found == memory.end() || found->second <= 0 || need.bytes <= found->second) continue;
    return absl::StrCat("memory: ", Counted(need.agents, "agent"), " of ", need.host, " need ", BytesText(need.bytes),
                        ", ", BytesText(found->second), " were available there");
  }
  return "";
}

}  // namespace pangea
