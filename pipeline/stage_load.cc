// Loading of a stage: which slices of which tensors this agent packs.
#include <algorithm>

#include "configs/log.h"
#include "pipeline/stage.h"

namespace pangea {

Stage::Stage(const CheckpointHeader& header, const Deployment& deployment, const ParallelPlan& plan, int agent,
             Queue* queue)
    : header_(header),
      model_(header.config),
      deployment_(deployment),
      plan_(plan),
      self_(plan.agents[agent]),
      agent_(agent),
      queue_(queue),
      bits_(deployment.kernels.activations == 8 ? ActivationBits::k8 : ActivationBits::k16) {}

absl::StatusOr<std::unique_ptr<Stage>> Stage::Load(const CheckpointHeader& header, const Deployment& deployment,
                                                   const ParallelPlan& plan, int agent, Queue* queue) {
  auto stage = std::unique_ptr<Stage>(new Stage(header, deployment, plan, agent, queue));
  if (auto s = stage->LoadAll(); !s.ok()) return s;
  return stage;
}

absl::Status Stage::LoadAll() {
  auto mapped = Weights::Map(header_);
  if (!mapped.ok()) return mapped.status();
  mapped_ = std::make_unique<Weights>(*std::move(mapped));
  const TensorIndex index(header_);
  attention_ = MakeReduction(plan_.attention, &RankPlan::attn_leaves);
  ffn_ = MakeReduction(plan_.ffn, &RankPlan::ffn_leaves);
  const BatchShape shape = BatchShapeOf(model_, deployment_, plan_, agent_);
  for (int64_t i = self_.layers.begin; i < self_.layers.end; ++i) {
    const auto window = std::find(shape.windows.begin(), shape.windows.end(), model_.window[i]);
    work_of_layer_.push_back(static_cast<int>(window - shape.windows.begin()));
  }

  for (int64_t i = self_.layers.begin; i < self_.layers.end; ++i) {
    layers_.push_back(LoadLayer(index, static_cast<int>(i)));
    mapped_->Release();
    LogDebug("loaded layer %d (%d of %d)", i, i - self_.layers.begin + 1, self_.layers.size());
  }
  for (const TensorRow& row : index.rows()) {
    if (row.matrix() || row.k == 0 || ShareOf(row, model_, self_).empty()) continue;
    const TensorView table = mapped_->Find(row.role);
    (queue_->host_memory() ? held_.mapped : held_.vectors) += table.n * table.pitch;
    const int i = row.role == Role::kTokenEmbedding ? 0 : row.role == Role::kPositionEmbedding ? 1 : 2;
    *std::array{&tokens_, &positions_, &queries_}[i] = PlaceTable(table.Run(0, table.n, 0), &table_memory_[i], *queue_);
  }
  if (self_.last) {
    final_norm_ = LoadNorm(Role::kFinalNorm, Role::kFinalNormBias, -1);
    const int64_t layers_only = multiply_adds_per_row_;
    head_ = Fuse(index.Of(Product::kHead));
    multiply_adds_per_row_ = layers_only;  // the head runs for some rows only
    mapped_->Release();
  }
  if (model_.rope.rot > 0) {
    const RopeTables rope = MakeRopeTables(model_.rope, plan_.context, plan_.context);
    cos_ = Keep(rope.cos);
    sin_ = Keep(rope.sin);
  }
  ActivationBuffers<int64_t> sizes = ActivationSizes(model_, deployment_, plan_, agent_);
  for (size_t i = 0; i < memory_.size(); ++i) {
    memory_[i] = Buffer<std::byte>(*sizes.list()[i], *queue_);
    *sizes.list()[i] = memory_[i].bytes();
    *a_.list()[i] = reinterpret_cast<float*>(memory_[i].data());
  }
  AddBuffers(sizes, &held_);
  if (!queue_->host_memory()) {
    const auto make = [](std::vector<float>& image, int64_t bytes) { image.resize(bytes / sizeof(float)); };
    make(host_x_, sizes.x);
    make(host_mine_, sizes.mine);
    make(host_all_, sizes.all);
    if (sizes.drawing == 0 || !CanSample(*queue_)) {
      make(host_logits_, sizes.logits);
      make(raw_, sizes.raw);
    }
    make(seen_, std::max({sizes.qkv, sizes.up, sizes.x}));
  }
  if (sizes.workspace > 0) queue_->UseWorkspace(reinterpret_cast<std::byte*>(a_.workspace), sizes.workspace);
  packed_ = {.data = reinterpret_cast<std::byte*>(a_.packed), .capacity = sizes.packed};
  return absl::OkStatus();
}

Buffer<float> Stage::Keep(const std::vector<float>& values) {
  Buffer<float> kept{std::span<const float>(values), *queue_};
  held_.vectors += kept.bytes();
  return kept;
}

Buffer<float> Stage::LoadVector(Role role, int layer, int64_t n) { return Keep(mapped_->Vector(role, layer, 0, n)); }

NormWeights Stage::LoadNorm(Role weight, Role bias, int layer) {
  return {LoadVector(weight, layer, model_.hidden), LoadVector(bias, layer, model_.hidden)};
}

Stage::Reduction Stage::MakeReduction(const SplitDefinition& split, Range RankPlan::* leaves) const {
  Reduction r;
  if (!AddsAlongTree(deployment_)) {  // each rank's sum, added in the order of ranks
    for (int rank = 0; rank < plan_.ranks; ++rank) {
      const bool holds = (plan_.at(self_.stage, rank).*leaves).size() > 0;
      r.vectors.push_back(holds ? 1 : 0);
      if (holds && r.total++ > 0) r.finish.emplace_back(0, r.total - 1);
    }
    r.sizes.resize(plan_.ranks);
    return r;
  }
  std::vector<int> held;
  for (int rank = 0; rank < plan_.ranks; ++rank) {
    const Range run = plan_.at(self_.stage, rank).*leaves;
    const auto nodes = run.size() > 0 ? split.tree.Subtrees(run.begin, run.end) : std::vector<int>{};
    held.insert(held.end(), nodes.begin(), nodes.end());
    r.vectors.push_back(static_cast<int>(nodes.size()));
  }
  r.total = static_cast<int>(held.size());
  r.sizes.resize(plan_.ranks);
  r.finish = split.tree.Finish(held);
  const Range own = self_.*leaves;
  if (own.size() > 0) r.program = split.tree.Program(own.begin, own.end, split.cuts);
  return r;
}

LayerWeights Stage::LoadLayer(const TensorIndex& index, int layer) {
  LayerWeights w;
  w.attn_norm = LoadNorm(Role::kAttnNorm, Role::kAttnNormBias, layer);
  w.ffn_norm = LoadNorm(Role::kFfnNorm, Role::kFfnNormBias, layer);
  w.q_norm = LoadVector(Role::kQNorm, layer, model_.head_dim);
  w.k_norm = LoadVector(Role::kKNorm, layer, model_.head_dim);
  w.qkv = Fuse(index.Of(Product::kQkv, layer));
  w.query = Fuse(index.Of(Product::kQuery, layer));
  w.o = Split(index.Of(Product::kO, layer), attention_);
  w.up = Fuse(index.Of(Product::kUp, layer));
  w.down = Split(index.Of(Product::kDown, layer), ffn_);
  return w;
}

FusedProduct Stage::Fuse(std::span<const TensorRow> rows) {
  FusedProduct p;
  std::vector<WeightRows> runs;
  std::vector<float> bias;
  int64_t k = 0, columns = 0;  // of the runs that wait to be packed
  bool any_bias = false;
  const auto flush = [&] {
    if (columns == 0) return;
    p.weights.push_back(Weight::Pack(runs, k, *queue_));
    p.offsets.push_back(p.columns);
    p.columns += columns;
    held_.packed += p.weights.back().bytes();
    multiply_adds_per_row_ += columns * k;
    runs.clear();
    columns = 0;
  };
  for (const TensorRow& row : rows) {
    const TensorShare share = ShareOf(row, model_, self_);
    if (share.empty()) continue;
    if (!row.matrix()) {  // of the columns that came last
      const auto values = mapped_->Vector(row.role, row.layer, share.n.begin, share.n.end);
      std::copy(values.begin(), values.end(), bias.end() - static_cast<int64_t>(values.size()));
      any_bias = true;
      continue;
    }
    const TensorView view = mapped_->Find(row.role, row.layer, row.expert);
    if (!runs.empty() && runs.back().dtype != view.dtype) flush();
    k = view.k;
    columns += share.n.size();
    runs.push_back(view.Run(share.n.begin, share.n.end, 0));
    bias.resize(bias.size() + share.n.size(), 0.0f);
  }
  flush();
  if (any_bias) p.bias = Keep(bias);
  return p;
}

SplitProduct Stage::Split(std::span<const TensorRow> rows, const Reduction& r) {
  SplitProduct p;
  for (const TensorRow& row : rows) {
    if (!row.matrix()) {
      p.bias = LoadVector(row.role, row.layer, row.n);
      continue;
    }
    const Range k = ShareOf(row, model_, self_).k;
    if (k.size() == 0) continue;
    const TensorView view = mapped_->Find(row.role, row.layer, row.expert);
    const WeightRows run = view.Run(0, view.n, k.begin);
    p.weight = Weight::Pack(std::span(&run, 1), k.size(), r.program, *queue_);
    held_.packed += p.weight.bytes();
    multiply_adds_per_row_ += view.n * k.size();
  }
  return p;
}

}  // namespace pangea
