// What an agent with a place has.
#pragma once
#include <memory>

#include "agent/assignment.h"
#include "agent/executor.h"
#include "agent/kept_memory.h"

namespace pangea {

struct Loaded : Assignment {
  KeptMemory kept;  // before the executor, which uses both
  std::unique_ptr<Queue> queue;
  std::unique_ptr<Executor> executor;
};

}  // namespace pangea
