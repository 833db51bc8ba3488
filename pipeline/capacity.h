// Bytes of an agent and speed of a plan. Pure functions of checkpoint, deployment and plan.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "pipeline/activation_buffers.h"
#include "pipeline/agent_memory.h"
#include "pipeline/checkpoint/tensor_table.h"
#include "pipeline/parallel_plan.h"

namespace pangea {

// Read bandwidth that predictions assume when nothing was measured: bytes a second of one thread, and of all of one
// host's.
inline constexpr double kThreadBandwidth = 25e9, kHostBandwidth = 50e9;

// What an agent holds of a tensor: output columns n over inputs k (of a vector: elements n). Both empty: nothing.
struct TensorShare {
  Range n, k;
  bool empty() const { return n.size() == 0; }
};
TensorShare ShareOf(const TensorRow& row, const ModelConfig& model, const RankPlan& agent);

// The rows of a checkpoint's tensor table, by role and layer.
class TensorIndex {
 public:
  explicit TensorIndex(const CheckpointHeader& header);
  TensorIndex(const CheckpointHeader& header, std::vector<TensorRow> rows);
  const CheckpointHeader& header() const { return *header_; }
  const std::vector<TensorRow>& rows() const { return rows_; }
  // The matrices of one product, and their biases, in the table's order. layer -1: of none.
  std::vector<TensorRow> Of(Product product, int layer = -1) const;
  const TensorRow* Find(Role role, int layer = -1) const;  // null: the model has none
  DType dtype(Role role, int layer = -1) const;            // REQUIRES the role and its tensor to exist
  DType dtype(const TensorRow& row) const { return header_->tensors.at(row.name).dtype; }
  int64_t StoredBytes(const TensorRow& row) const;  // of the role's own columns
  // What a decoding step of a small batch costs, as bytes read in the same time. By this the stages are cut. A role:
  // the bytes that are stored or, where more, its multiply-adds. A layer: its roles, its cache (two bytes a number),
  // and what is no product. For one rank: with several, the last shrinks less than the products do.
  int64_t Work(const TensorRow& row) const;
  int64_t LayerWork(int layer) const;
  // The type whose SplitUnit decides where this role's weights are cut along K: of all layers the largest.
  DType SplitType(Role role) const;

 private:
  const CheckpointHeader* header_;
  std::vector<TensorRow> rows_;
  std::map<std::pair<Role, int>, size_t> index_;
};

// Of one agent, by the walk over the table's rows.
struct WeightSizes {
  int64_t packed = 0;  // matrices, packed: read once a token; the head's included
  int64_t head = 0;    // of those the head's
  int64_t macs = 0;    // multiply-adds of a row through the layers' matrices
  int64_t head_macs = 0;
  int64_t mapped = 0;   // embedding tables: only the rows asked for are read
  int64_t vectors = 0;  // norms and biases, f32
  int64_t total() const { return packed + mapped + vectors; }
};
WeightSizes AgentWeights(const TensorIndex& index, const RankPlan& agent);

// One block of all this agent's layers and KV heads.
int64_t KvBlockBytes(const ModelConfig& model, DType dtype, int block_tokens, const RankPlan& agent);
// What the batches of an agent have in common. agent: index in the plan.
BatchShape BatchShapeOf(const ModelConfig& model, const Deployment& deployment, const ParallelPlan& plan, int agent);
// Whether K-split products are added along the model's tree: unless the deployment lets CUDA agents do otherwise. (All
// agents are of one kind.)
bool AddsAlongTree(const Deployment& deployment);
// Of a plan whose devices exchange; else of none.
ExchangeShape ExchangeShapeOf(const ModelConfig& model, const Deployment& deployment, const ParallelPlan& plan);
// Whether the agent's device draws ids itself: those that can, and have the logits of the whole vocabulary. With
// several ranks that is where the devices exchange; else the hosts draw.
bool DrawsOnDevice(const Deployment& deployment, const ParallelPlan& plan, int agent);
// Rows of logits that an agent of the last stage makes at a time: where the device draws, those of a step that decodes.
int64_t LogitRowsAtOnce(const Deployment& deployment, const ParallelPlan& plan, int agent);
SamplingShape SamplingShapeOf(const Deployment& deployment, const ParallelPlan& plan, int agent);
// Bytes of every buffer that the agent computes a step in.
ActivationBuffers<int64_t> ActivationSizes(const ModelConfig& model, const Deployment& deployment,
                                           const ParallelPlan& plan, int agent);
// All that the agent holds. REQUIRES the plan's blocks and context.
AgentMemory MemoryOf(const TensorIndex& index, const Deployment& deployment, const ParallelPlan& plan, int agent);
// The parts of it that the buffers of a step are.
void AddBuffers(const ActivationBuffers<int64_t>& sizes, AgentMemory* memory);
// One stream: every stage after the other reads its packed weights once a token; the slowest rank of a stage counts.
double PredictTokensPerSecond(const TensorIndex& index, const Deployment& deployment, const ParallelPlan& plan);

// "1.5 MiB"
std::string BytesText(int64_t bytes);

}  // namespace pangea
