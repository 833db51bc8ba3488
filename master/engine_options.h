// What a deployment and its plan say to the engine; the same for `pangea serve` and `pangea simulate`.
#pragma once
#include "configs/deployment.h"
#include "master/schedule/engine.h"
#include "pipeline/parallel_plan.h"

namespace pangea {

inline EngineLayout MakeEngineLayout(const ParallelPlan& plan) {
  return {.stages = plan.stages, .groups = plan.cache_groups()};
}

inline EngineOptions MakeEngineOptions(const Deployment& deployment, const ParallelPlan& plan) {
  EngineOptions options{MakeEngineLayout(plan)};
  options.block_tokens = plan.block_tokens;
  options.context = plan.context;
  options.max_batch_tokens = deployment.schedule.max_batch_tokens;
  options.max_sequences = deployment.schedule.max_sequences;
  options.queue = deployment.limits.queue;
  options.prefix_cache = deployment.cache.prefix;
  options.prefix_min_tokens = deployment.cache.prefix_min_tokens;
  options.run_ahead = deployment.schedule.run_ahead;
  options.prefill_slowdown = deployment.schedule.prefill_slowdown;
  options.queue_seconds = deployment.limits.queue_seconds;
  return options;
}

}  // namespace pangea
