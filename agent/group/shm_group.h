// Agents of one host over shared memory. Waits spin (spec.spin) and then sleep on a futex; a wait allocates nothing.
#pragma once
#include <memory>

#include "agent/group/group_base.h"
#include "agent/group/rendezvous.h"
#include "agent/group/shm_region.h"

namespace pangea {

// All agents of one deployment over one region; also several agents as threads of one process over the very same
// mapping.
std::unique_ptr<Group> MakeShmGroup(const GroupSpec& spec, std::shared_ptr<ShmRegion> region);
// Agent 0 makes the region; the others open it at the address that the rendezvous brings.
absl::StatusOr<std::unique_ptr<Group>> FormShmGroup(const GroupSpec& spec, Rendezvous& rendezvous);

}  // namespace pangea
