// The executor of an assignment, on the device that its deployment names.
#pragma once
#include <memory>

#include "absl/status/status.h"
#include "agent/assignment.h"
#include "agent/executor.h"
#include "agent/kept_memory.h"

namespace pangea {

// *queue: of a device that is not the host, and null else; outlives the executor, as do the assignment and what is
// kept. An error says what of the device could not be had.
absl::Status MakeExecutor(const Assignment& assignment, const KeptMemory& kept, std::unique_ptr<Queue>* queue,
                          std::unique_ptr<Executor>* executor, bool makes_weights_up = false);

}  // namespace pangea
