// Agents on any hosts, over Gloo's point-to-point TCP transport (its own collectives are not used). Source:
// gloo/transport/tcp.
#pragma once
#include <memory>

#include "agent/group/group_base.h"
#include "agent/group/rendezvous.h"

namespace pangea {

// Connects every agent with every other. Listens on spec.host, at ports that the rendezvous carries.
absl::StatusOr<std::unique_ptr<Group>> FormGlooGroup(const GroupSpec& spec, Rendezvous& rendezvous);

}  // namespace pangea
