// The decoder layers that one agent holds: weights, activations and the forward pass. One decoder for every
// architecture; what differs is config data (pipeline/model_config.h), read in small helpers. Opens no socket:
// collectives come through group.h, pages through kv_view.h. Executor thread only.
//
// Exactness: products, norms and attention give a row bytes that depend on the row alone (kernels/ops.h); a K-split
// product (attention output, FFN down) is added in the model's fixed tree over all ranks (reduction_tree.h), then bias,
// then residual.
#pragma once
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "configs/deployment.h"
#include "kernels/ops.h"
#include "pipeline/checkpoint/weights.h"
#include "pipeline/group.h"
#include "pipeline/kv_view.h"
#include "pipeline/parallel_plan.h"
#include "pipeline/progress.h"

namespace pangea {

// Products over the same input, their columns side by side in one row: q|k|v, gate|up. Neighbours of one dtype share a
// Weight.
struct FusedProduct {
  std::vector<Weight> weights;
  std::vector<int64_t> offsets;  // first column of each in the row
  std::vector<float> bias;       // [columns]; empty: none
  int64_t columns = 0;
};

// A K-split product: this rank's leaves; with the bias of the whole (added after the tree).
struct SplitProduct {
  Weight weight;  // empty: this rank holds no leaf
  std::vector<float> bias;
};

struct LayerWeights {
  std::vector<float> attn_norm, attn_norm_bias, ffn_norm, ffn_norm_bias, q_norm, k_norm;
  FusedProduct qkv;    // q|k|v; of the query layer: k|v
  FusedProduct query;  // of the query layer: q, whose input is the position's row of a table
  SplitProduct o, down;
  FusedProduct up;  // gate|up, or up alone
};

class Stage {
 public:
  // Packs this agent's slices out of the mapped checkpoint; long, one log line a layer. max_rows: the largest step.
  static absl::StatusOr<std::unique_ptr<Stage>> Load(const CheckpointHeader& header, const Deployment& deployment,
                                                     const ParallelPlan& plan, int agent, Queue* queue);
  ~Stage();

  // First stage: `ids` are the rows' ids, x [M][hidden] is filled from the embedding.
  void Embed(std::span<const int32_t> ids, std::span<const KvRow> rows, float* x);
  // Runs this stage's layers over x in place. An error means the group is dead.
  absl::Status Forward(const KvView& kv, Group& group, Progress& progress, float* x);
  // Last stage: logits [rows.size()][vocab slice] of the rows named (indices into x).
  void Logits(const float* x, std::span<const int32_t> rows, float* logits);

  int64_t weight_bytes() const { return weight_bytes_; }
  int64_t vocab_slice() const { return self_.vocab.size(); }
  int hidden() const { return model_.hidden; }

 private:
  Stage(const CheckpointHeader& header, const Deployment& deployment, const ParallelPlan& plan, int agent,
        Queue* queue);

  // How all ranks' subtrees of one split become the whole: computed once, used by every layer.
  struct Reduction {
    LeafProgram program;                      // of this rank
    std::vector<int> vectors;                 // sent by each rank
    std::vector<std::pair<int, int>> finish;  // additions over the gathered vectors
    int total = 0;
  };
  Reduction MakeReduction(const SplitDefinition& split, Range RankPlan::* leaves) const;

  absl::Status LoadAll();
  LayerWeights LoadLayer(int layer);
  FusedProduct Fuse(std::vector<std::pair<Role, Range>> parts, int layer);
  SplitProduct Split(Role weight, Role bias, const Reduction& reduction, Range k, int layer);
  void Norm(const float* x, const std::vector<float>& w, const std::vector<float>& b, int64_t m, float* y) const;
  void Multiply(const FusedProduct& product, const float* x, int64_t m, float* y);
  void QueryKeyValue(const LayerWeights& layer, int64_t m, bool query_layer);
  absl::Status ReduceInto(const SplitProduct& product, const Reduction& reduction, const float* in, int64_t ld,
                          int64_t m, Group& group, float* x);
  absl::Status Layer(int index, const KvView& kv, Group& group, float* x);

  const CheckpointHeader& header_;
  const ModelConfig& model_;
  const ParallelPlan& plan_;
  const RankPlan& self_;
  Queue* queue_;
  ActivationBits bits_;
  int64_t max_rows_;
  std::unique_ptr<Weights> mapped_;
  std::vector<LayerWeights> layers_;
  FusedProduct head_;
  std::vector<float> final_norm_, final_norm_bias_;
  RopeTables rope_;
  Reduction attention_, ffn_;
  std::vector<int32_t> kv_of_head_;
  int64_t weight_bytes_ = 0;
  int64_t multiply_adds_per_row_ = 0;
  // Scratch of one step, allocated once for max_rows.
  Activations packed_;
  std::vector<int32_t> positions_;
  std::vector<float> normed_, qkv_, query_in_, query_out_, heads_, up_, gated_, mine_, all_;
};

}  // namespace pangea
