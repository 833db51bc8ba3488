// One way to make any group.
#pragma once
#include <memory>
#include <string>

#include "agent/group/group_base.h"
#include "agent/group/rendezvous.h"

namespace pangea {

// kind: "shm" or "gloo"; a deployment of one agent needs neither and gets a group without peers. Called by every agent
// of the epoch; blocks, bounded by spec.limit, until all have come or the rendezvous is closed.
absl::StatusOr<std::unique_ptr<Group>> MakeGroup(const std::string& kind, const GroupSpec& spec,
                                                 Rendezvous& rendezvous);

}  // namespace pangea
