// (model, deployment) -> who holds what, to the byte; or all faults. A pure function but for `spin`, which asks this
// host: master and agents compute the same plan.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "configs/deployment.h"
#include "pipeline/agent_memory.h"
#include "pipeline/checkpoint/header.h"
#include "pipeline/reduction_tree.h"
#include "pipeline/step.h"

namespace pangea {

struct Range {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
  bool operator==(const Range&) const = default;
};

// What one agent holds. Agent index = stage * ranks + rank.
struct RankPlan {
  int stage = 0, rank = 0;
  Range layers;                      // of the model
  bool first = false, last = false;  // holds the embedding; holds final norm and head
  Range heads, kv_heads;             // query heads; KV heads held (two ranks may hold one KV head)
  Range attn_leaves, ffn_leaves;     // runs of the split definitions' leaves
  Range attn_k, ffn_columns;         // those leaves in elements of K (attn_k = heads * head_dim)
  Range vocab;                 // ids whose logits this rank computes; multiples of 256 but for the end; may be empty
  int64_t kv_block_bytes = 0;  // one block over this rank's layers and KV heads
  AgentMemory memory;
};

struct ParallelPlan {
  int stages = 1, ranks = 1;
  std::vector<RankPlan> agents;
  SplitDefinition attention, ffn;  // of the model
  int context = 0;                 // tokens a sequence may have
  int block_tokens = 16;
  DType cache_type = DType::kF16;
  int kv_blocks = 0;    // the smallest that any agent can hold
  int swap_blocks = 0;  // beyond them, for preempted sequences (cache.swap)
  // What the scheduler and the agents hold blocks in. All layers are in one group, which keeps all blocks: layers whose
  // rows look back over a window keep more than they need.
  std::vector<CacheGroup> cache_groups() const { return {{.blocks = kv_blocks, .swap_blocks = swap_blocks}}; }
  int cache_group(int) const { return 0; }  // of a layer
  std::string transport;                    // shm, gloo or nccl, resolved
  bool devices_exchange = false;            // by themselves (kernels/exchange.h): GPUs of one host, or by NCCL
  bool f8_weights = false;                  // some weights are of F8_E4M3
  bool remote = false;  // some agents are started on hosts that only say when they join how many cores they have
  bool spin = false;    // this host has a core for every thread of its agents; an agent is told at the join
  // Of one stream, from weight bytes and the assumed read bandwidth (capacity.h). 0: not predicted.
  double predicted_tokens_per_second = 0;
  std::string Hash() const;                          // equal on master and agent
  std::string Text(const ModelConfig& model) const;  // what `pangea check` prints
  const RankPlan& at(int stage, int rank) const { return agents[stage * ranks + rank]; }
};

struct PlanResult {
  ParallelPlan plan;                    // meaningful when faults is empty
  std::vector<DeploymentFault> faults;  // every one, each with the limit and the nearest change that fits
};
// Knows the rules that need the model; where the deployment breaks one of the file's that a plan rests on
// (ValidateLayout), it is told those alone.
PlanResult MakePlan(const CheckpointHeader& checkpoint, const Deployment& deployment);

}  // namespace pangea
