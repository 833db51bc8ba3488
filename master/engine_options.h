// What a deployment and its plan say to the engine; the same for `pangea serve` and `pangea simulate`.
#pragma once
#include "configs/deployment.h"
#include "master/schedule/engine.h"
#include "pipeline/parallel_plan.h"

namespace pangea {

inline EngineOptions MakeEngineOptions(const Deployment& deployment, const ParallelPlan& plan) {
  return {.block_tokens = plan.block_tokens,
          .context = plan.context,
          .stages = plan.stages,
          .groups = plan.cache_groups(),
          .max_batch_tokens = deployment.schedule.max_batch_tokens,
          .max_sequences = deployment.schedule.max_sequences,
          .queue = deployment.limits.queue,
          .prefix_cache = deployment.cache.prefix,
          .prefix_min_tokens = deployment.cache.prefix_min_tokens,
          .run_ahead = deployment.schedule.run_ahead,
          .prefill_slowdown = deployment.schedule.prefill_slowdown,
          .queue_seconds = deployment.limits.queue_seconds};
}

}  // namespace pangea
