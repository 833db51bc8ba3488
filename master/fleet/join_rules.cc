#include "master/fleet/join_rules.h"

#include <algorithm>
#include <iterator>
#include <map>

#include "absl/strings/str_cat.h"
#include "configs/device.h"
#include "configs/version.h"

namespace pangea {
namespace {

int IsaRank(const std::string& name) {  // -1: not known
  const auto* found = std::find(std::begin(kIsaClasses), std::end(kIsaClasses), name);
  return found == std::end(kIsaClasses) ? -1 : static_cast<int>(found - kIsaClasses);
}

// The place whose host the agent comes from; else one that names no host; else any (an agent may dial from another
// address).
absl::StatusOr<int> FreePlace(const std::vector<Place>& places, const Deployment& deployment, const std::string& host) {
  int unnamed = -1, any = -1;
  for (int i = static_cast<int>(places.size()) - 1; i >= 0; --i) {
    if (places[i].local || places[i].taken) continue;
    any = i;
    if (deployment.agent(i).host.empty()) unnamed = i;
  }
  for (int i = 0; i < static_cast<int>(places.size()); ++i) {
    if (!places[i].local && !places[i].taken && deployment.agent(i).host == host) return i;
  }
  if (unnamed >= 0) return unnamed;
  if (any >= 0) return any;
  return absl::FailedPreconditionError("join refused: no place of this deployment waits for a remote agent");
}

// Whether it speaks this protocol.
absl::Status IsOfThisKind(const agent::v1::Join& join) {
  if (join.protocol() != kProtocol || join.exactness() != kExactness) {
    return absl::FailedPreconditionError(
        absl::StrCat("join refused: the agent's build \"", join.build(), "\" has protocol ", join.protocol(),
                     " and exactness version ", join.exactness(), ", the master ", kProtocol, " and ", kExactness));
  }
  return absl::OkStatus();
}

absl::Status IsAble(const agent::v1::Join& join, const std::string& who, const Deployment& deployment,
                    const std::string& isa) {
  if (IsaRank(join.isa()) < 0) {
    return absl::InvalidArgumentError(absl::StrCat("join refused: ISA class \"", join.isa(), "\" is not known"));
  }
  const std::string& asked = deployment.kernels.isa;
  if (asked != "auto" && IsaRank(join.isa()) < IsaRank(asked)) {
    return absl::FailedPreconditionError(absl::StrCat("join refused: kernels.isa is ", asked, ", but the CPU of ", who,
                                                      " has ", join.isa(), " at best"));
  }
  if (IsaRank(join.isa()) < IsaRank(isa)) {
    return absl::FailedPreconditionError(absl::StrCat("join refused: the agents compute in ISA class ", isa,
                                                      ", but the CPU of ", who, " has ", join.isa(), " at best"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status MayStandBy(const agent::v1::Join& join, const Deployment& deployment, const std::string& isa) {
  if (const absl::Status kind = IsOfThisKind(join); !kind.ok()) return kind;
  return IsAble(join, "an agent that stands by", deployment, isa);
}

absl::StatusOr<int> PlaceFor(const agent::v1::Join& join, const std::vector<Place>& places,
                             const Deployment& deployment, const std::string& isa) {
  if (const absl::Status kind = IsOfThisKind(join); !kind.ok()) return kind;
  int index = join.agent();
  if (index < 0) {
    const auto free = FreePlace(places, deployment, join.host());
    if (!free.ok()) return free;
    index = *free;
  }
  if (index >= static_cast<int>(places.size())) {
    return absl::OutOfRangeError(
        absl::StrCat("join refused: agent ", index, " is not one of the ", places.size(), " of the plan"));
  }
  const Place& place = places[index];
  if (place.taken) return absl::AlreadyExistsError(absl::StrCat("join refused: agent ", index, " has joined already"));
  if (place.local && (place.launched_pid == 0 || join.pid() != place.launched_pid)) {
    return absl::PermissionDeniedError(absl::StrCat("join refused: agent ", index, " is started by the master itself"));
  }
  if (const absl::Status able = IsAble(join, absl::StrCat("agent ", index), deployment, isa); !able.ok()) return able;
  return index;
}

bool HasIsa(const std::string& best, const std::string& isa) { return IsaRank(best) >= IsaRank(isa); }

std::string CommonIsa(const std::vector<std::string>& isas) {
  return *std::min_element(isas.begin(), isas.end(),
                           [](const std::string& a, const std::string& b) { return IsaRank(a) < IsaRank(b); });
}

std::vector<bool> MaySpin(const std::vector<HostShare>& agents) {
  std::map<std::string, HostShare> hosts;  // threads of all, the fewest cores that one may use
  for (const HostShare& agent : agents) {
    const auto [it, first] = hosts.try_emplace(agent.host, agent);
    if (first) continue;
    it->second.threads += agent.threads;
    it->second.cores = std::min(it->second.cores, agent.cores);
  }
  std::vector<bool> may;
  for (const HostShare& agent : agents) may.push_back(hosts[agent.host].cores >= hosts[agent.host].threads);
  return may;
}

}  // namespace pangea
