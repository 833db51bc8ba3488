// What an agent is to be, as its master says: read, checked against the agent's own files, and planned again.
#pragma once
#include <string>

#include "absl/status/status.h"
#include "configs/deployment.h"
#include "kernels/isa.h"
#include "pipeline/checkpoint/header.h"
#include "pipeline/parallel_plan.h"
#include "pipeline/step.h"
#include "protos/agent.pb.h"

namespace pangea {

struct Assignment {
  Deployment deployment;
  CheckpointHeader header;
  ParallelPlan plan;
  int agent = 0;
  Isa isa = Isa::kReference;

  const RankPlan& place() const { return plan.agents[agent]; }
  StepLimits limits() const {
    return {.vocab = header.config.vocab,
            .block_tokens = plan.block_tokens,
            .max_rows = deployment.schedule.max_batch_tokens,
            .max_sequences = deployment.schedule.max_sequences,
            .max_position = plan.context,
            .groups = plan.cache_groups()};
  }
};

// own_model: where the checkpoint is on this host; empty: where the master says. Sets this process's log level and
// name.
// FailedPrecondition: another checkpoint than the master's, another plan, or an ISA class that this CPU lacks.
absl::Status ReadAssignment(const agent::v1::Assign& assign, const std::string& own_model, Assignment* out);

}  // namespace pangea
