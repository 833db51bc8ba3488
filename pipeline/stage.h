// The decoder layers that one agent holds: weights, activations and the forward pass. One decoder for every
// architecture; what differs is config data (pipeline/model_config.h), read in small helpers. Opens no socket:
// collectives come through group.h, pages and rows as KvLayer and Batch. Executor thread only.
//
// Exactness: products, norms and attention give a row bytes that depend on the row alone (kernels/ops.h); a K-split
// product (attention output, FFN down) is added in the model's fixed tree over all ranks (reduction_tree.h), then bias,
// then residual.
#pragma once
#include <array>
#include <memory>
#include <source_location>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "configs/deployment.h"
#include "kernels/ops.h"
#include "pipeline/activation_buffers.h"
#include "pipeline/capacity.h"
#include "pipeline/checkpoint/weights.h"
#include "pipeline/group.h"
#include "pipeline/parallel_plan.h"
#include "pipeline/progress.h"
#include "pipeline/tap.h"

namespace pangea {

// Products over the same input, their columns side by side in one row: q|k|v, gate|up. Neighbours of one dtype share a
// Weight.
struct FusedProduct {
  std::vector<Weight> weights;
  std::vector<int64_t> offsets;  // first column of each in the row
  Buffer<float> bias;            // [columns]; empty: none
  int64_t columns = 0;
};

// A K-split product: this rank's leaves; with the bias of the whole (added after the tree).
struct SplitProduct {
  Weight weight;  // empty: this rank holds no leaf
  Buffer<float> bias;
};

struct NormWeights {
  Buffer<float> w, b;  // [hidden]; b may be empty
};

struct LayerWeights {
  NormWeights attn_norm, ffn_norm;
  Buffer<float> q_norm, k_norm;  // [head_dim]; empty: none
  FusedProduct qkv;              // q|k|v; of the query layer: k|v
  FusedProduct query;            // of the query layer: q, whose input is the position's row of a table
  SplitProduct o, down;
  FusedProduct up;  // gate|up, or up alone
};

class Stage {
 public:
  // Packs this agent's slices out of the mapped checkpoint; long, one log line a layer.
  static absl::StatusOr<std::unique_ptr<Stage>> Load(const CheckpointHeader& header, const Deployment& deployment,
                                                     const ParallelPlan& plan, int agent, Queue* queue);
  ~Stage();
  void SetTap(Tap* tap) { tap_ = tap; }

  // What travels between stages, as the host sees it, [rows][hidden]: to be filled, and then taken over by PutX; or
  // read.
  std::span<std::byte> HostX(const Batch& batch);
  void PutX(const Batch& batch);
  std::span<const std::byte> ReadX(const Batch& batch);
  float* device_x() const { return a_.x; }
  // First stage: fills x from the embedding.
  void Embed(const Batch& batch);
  // Runs this stage's layers over x in place. pages: of these layers, in order. An error means the group is dead.
  absl::Status Forward(const Batch& batch, std::span<const KvLayer> pages, Group& group, Progress& progress);
  int64_t multiply_adds_per_row() const { return multiply_adds_per_row_; }
  // Last stage: logits [n][vocab slice] of the batch's logit rows from the first on; n <= LogitRowsAtOnce. They are
  // read for the host, which may change them; where the device draws they lie in device_logits, [n][vocab]. Good until
  // the next call.
  void MakeLogits(const Batch& batch, int64_t first, int64_t n, Group& group);
  float* ReadLogits(int64_t n);
  const float* device_logits() const { return a_.logits; }

  // What it holds; without pages, swap and batch.
  const AgentMemory& memory() const { return held_; }
  float* raw() { return HostSide(a_.raw, raw_); }  // for the sampler: [LogitRowsAtOnce][vocab slice] of the host
  // For a device that draws itself: as much as device_logits, and SamplingBytes.
  float* edited() { return a_.raw; }
  std::byte* drawing() { return reinterpret_cast<std::byte*>(a_.drawing); }

 private:
  Stage(const CheckpointHeader& header, const Deployment& deployment, const ParallelPlan& plan, int agent,
        Queue* queue);

  // How all ranks' subtrees of one split become the whole: computed once, used by every layer.
  struct Reduction {
    LeafProgram program;                      // of this rank
    std::vector<int> vectors;                 // sent by each rank
    std::vector<std::pair<int, int>> finish;  // additions over the gathered vectors
    int total = 0;
    std::vector<size_t> sizes;  // [ranks] bytes of the step's rows that each sends; filled anew by every gather
  };
  Reduction MakeReduction(const SplitDefinition& split, Range RankPlan::* leaves) const;

  // What one layer is run with.
  struct Place {
    int layer;  // of the model
    const LayerWeights& w;
    const Batch& batch;
    const KvLayer& pages;
    Group& group;
    const NormWeights* next;  // through which the layer behind this one reads x; null: it sees to that itself
  };

  absl::Status LoadAll();
  LayerWeights LoadLayer(const TensorIndex& index, int layer);
  NormWeights LoadNorm(Role weight, Role bias, int layer);
  Buffer<float> Keep(const std::vector<float>& values);
  Buffer<float> LoadVector(Role role, int layer, int64_t n);
  FusedProduct Fuse(std::span<const TensorRow> rows);
  SplitProduct Split(std::span<const TensorRow> rows, const Reduction& reduction);
  bool IsQueryLayer(int layer) const { return model_.query_layer && layer == model_.layers - 1; }

  // A buffer of the device as the host reaches it: itself, or the image beside it.
  float* HostSide(float* device, std::vector<float>& image) { return queue_->host_memory() ? device : image.data(); }

  // The words of a layer.
  void Attend(const Place& at);
  void FeedForward(const Place& at);
  void Norm(const float* x, const NormWeights& w, int64_t m, float* y);
  void Product(const FusedProduct& product, const float* x, const Batch& batch, float* y);
  // x += bias + the tree's sum over all ranks' leaves of packed_ . product; then normed = norm(x), unless null.
  void ReduceAddNorm(const Place& at, const SplitProduct& product, Reduction& reduction, const NormWeights* norm);
  void Saw(const Place& at, const char* name, const float* data, int64_t columns,
           std::source_location where = std::source_location::current());

  const CheckpointHeader& header_;
  const ModelConfig& model_;
  const Deployment& deployment_;
  const ParallelPlan& plan_;
  const RankPlan& self_;
  const int agent_;
  Queue* queue_;
  Tap* tap_ = nullptr;
  ActivationBits bits_;
  std::unique_ptr<Weights> mapped_;
  std::vector<LayerWeights> layers_;
  std::vector<int> work_of_layer_;  // index into Batch::attention
  FusedProduct head_;
  NormWeights final_norm_;
  Buffer<float> cos_, sin_;
  Reduction attention_, ffn_;
  AgentMemory held_;
  int64_t multiply_adds_per_row_ = 0;
  // Scratch of one step, allocated once for the largest.
  std::array<Buffer<std::byte>, std::tuple_size_v<decltype(ActivationBuffers<float*>().list())>> memory_;
  ActivationBuffers<float*> a_;
  PackedActivations packed_;
  // Where the host cannot reach the device's memory: images of x, mine, all, logits and raw, and of what a tap sees.
  std::vector<float> host_x_, host_mine_, host_all_, host_logits_, raw_, seen_;
  WeightRows tokens_, positions_, queries_;  // tables of rows, where the device reads them
  std::array<Buffer<std::byte>, 3> table_memory_;
};

}  // namespace pangea
