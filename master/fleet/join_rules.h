// Who may take which place of the plan.
#pragma once
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "configs/deployment.h"
#include "protos/agent.pb.h"

namespace pangea {

// A place of the plan, as Facts knows it.
struct Place {
  bool local = true;
  bool taken = false;
  int launched_pid = 0;  // local: what the launcher started there; 0: nothing yet
};

// The place that this join gets, or why it is refused: another protocol or exactness version, an index that is taken,
// foreign or not in the plan, a device or an ISA class that the plan needs and the agent lacks.
// isa: the class in which the agents compute already; empty: not decided yet.
absl::StatusOr<int> PlaceFor(const agent::v1::Join& join, const std::vector<Place>& places,
                             const Deployment& deployment, const std::string& isa);

// Why an agent cannot stand by for any place of this deployment; OK: it can.
absl::Status MayStandBy(const agent::v1::Join& join, const Deployment& deployment, const std::string& isa);

// Whether a CPU whose best class is this one has that class too.
bool HasIsa(const std::string& best, const std::string& isa);
// The best class that all have; each name is known (PlaceFor has seen to it).
std::string CommonIsa(const std::vector<std::string>& isas);

// An agent as its host sees it.
struct HostShare {
  std::string host;
  int threads = 1;
  int cores = 1;  // of the host, as the agent says
};
// Per agent: whether its host has a core for every thread of all agents there. Two agents that would each fill a host
// must not spin against each other, wherever it stands. (Agents that are pinned to cores of their own are judged by the
// fewest that one of them has: such a host does not spin.)
std::vector<bool> MaySpin(const std::vector<HostShare>& agents);

}  // namespace pangea
