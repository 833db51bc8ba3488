// Ranks as threads of one process: for tests, and for a deployment of a single agent.
#pragma once
#include <memory>
#include <vector>

#include "agent/group/group_base.h"

namespace pangea {

// One group object per agent, in agent order (stage * ranks + rank); each is used by a thread of its own. Abort of one
// fails all. Send never blocks: the queues between stages are unbounded.
std::vector<std::unique_ptr<Group>> MakeThreadGroups(int stages, int ranks, absl::Duration limit = absl::Seconds(60));

}  // namespace pangea
