// Loading of a stage: which slices of which tensors this agent packs.
#include <algorithm>

#include "configs/log.h"
#include "pipeline/capacity.h"
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
  attention_ = MakeReduction(plan_.attention, &RankPlan::attn_leaves);
  ffn_ = MakeReduction(plan_.ffn, &RankPlan::ffn_leaves);
  const BatchShape shape = BatchShapeOf(model_, deployment_, plan_, agent_);
  for (int64_t i = self_.layers.begin; i < self_.layers.end; ++i) {
    const auto window = std::find(shape.windows.begin(), shape.windows.end(), model_.window[i]);
    work_of_layer_.push_back(static_cast<int>(window - shape.windows.begin()));
  }

  for (int64_t i = self_.layers.begin; i < self_.layers.end; ++i) {
    layers_.push_back(LoadLayer(static_cast<int>(i)));
    mapped_->Release();
    LogDebug("loaded layer %d (%d of %d)", i, i - self_.layers.begin + 1, self_.layers.size());
  }
  const auto embedding = mapped_->Find(Role::kTokenEmbedding);
  if (self_.first) weight_bytes_ += embedding.n * embedding.pitch;
  if (self_.last) {
    final_norm_ = LoadNorm(Role::kFinalNorm, Role::kFinalNormBias, -1);
    const int64_t layers_only = multiply_adds_per_row_;
    if (self_.vocab.size() > 0) head_ = Fuse({{Role::kHead, self_.vocab}}, -1);
    multiply_adds_per_row_ = layers_only;  // the head runs for some rows only
    mapped_->Release();
  }
  if (model_.rope.rot > 0) {
    const RopeTables rope = MakeRopeTables(model_.rope, plan_.context, plan_.context);
    cos_ = Buffer<float>(rope.cos, *queue_);
    sin_ = Buffer<float>(rope.sin, *queue_);
  }
  ActivationBuffers<int64_t> sizes = ActivationSizes(model_, deployment_, plan_, agent_);
  for (size_t i = 0; i < memory_.size(); ++i) {
    memory_[i] = Buffer<std::byte>(*sizes.list()[i], *queue_);
    *a_.list()[i] = reinterpret_cast<float*>(memory_[i].data());
  }
  packed_ = {.data = reinterpret_cast<std::byte*>(a_.packed), .capacity = sizes.packed};
  return absl::OkStatus();
}

Buffer<float> Stage::LoadVector(Role role, int layer, Range elements) {
  return Buffer<float>(std::span<const float>(mapped_->Vector(role, layer, elements.begin, elements.end)), *queue_);
}

NormWeights Stage::LoadNorm(Role weight, Role bias, int layer) {
  return {LoadVector(weight, layer, {0, model_.hidden}), LoadVector(bias, layer, {0, model_.hidden})};
}

Stage::Reduction Stage::MakeReduction(const SplitDefinition& split, Range RankPlan::* leaves) const {
  Reduction r;
  std::vector<int> held;
  for (int rank = 0; rank < plan_.ranks; ++rank) {
    const Range run = plan_.at(self_.stage, rank).*leaves;
    const auto nodes = run.size() > 0 ? split.tree.Subtrees(run.begin, run.end) : std::vector<int>{};
    held.insert(held.end(), nodes.begin(), nodes.end());
    r.vectors.push_back(static_cast<int>(nodes.size()));
  }
  r.total = static_cast<int>(held.size());
  r.finish = split.tree.Finish(held);
  const Range own = self_.*leaves;
  if (own.size() > 0) r.program = split.tree.Program(own.begin, own.end, split.cuts);
  return r;
}

LayerWeights Stage::LoadLayer(int layer) {
  LayerWeights w;
  const int64_t hd = model_.head_dim;
  w.attn_norm = LoadNorm(Role::kAttnNorm, Role::kAttnNormBias, layer);
  w.ffn_norm = LoadNorm(Role::kFfnNorm, Role::kFfnNormBias, layer);
  if (model_.qk_norm) {
    w.q_norm = LoadVector(Role::kQNorm, layer, {0, hd});
    w.k_norm = LoadVector(Role::kKNorm, layer, {0, hd});
  }
  const Range q{self_.heads.begin * hd, self_.heads.end * hd}, kv{self_.kv_heads.begin * hd, self_.kv_heads.end * hd};
  if (IsQueryLayer(layer)) {
    w.query = Fuse({{Role::kQ, q}}, layer);
    w.qkv = Fuse({{Role::kK, kv}, {Role::kV, kv}}, layer);
  } else {
    w.qkv = Fuse({{Role::kQ, q}, {Role::kK, kv}, {Role::kV, kv}}, layer);
  }
  w.o = Split(Role::kO, Role::kOBias, attention_, self_.attn_k, layer);
  const Range f = self_.ffn_columns;
  if (f.size() > 0) {
    w.up = model_.gated ? Fuse({{Role::kGate, f}, {Role::kUp, f}}, layer) : Fuse({{Role::kUp, f}}, layer);
  }
  w.down = Split(Role::kDown, Role::kDownBias, ffn_, f, layer);
  return w;
}

namespace {

Role BiasOf(Role role) {
  switch (role) {
    case Role::kQ:
      return Role::kQBias;
    case Role::kK:
      return Role::kKBias;
    case Role::kV:
      return Role::kVBias;
    case Role::kGate:
      return Role::kGateBias;
    case Role::kUp:
      return Role::kUpBias;
    default:
      return role;  // the head has none
  }
}

}  // namespace

FusedProduct Stage::Fuse(std::vector<std::pair<Role, Range>> parts, int layer) {
  FusedProduct p;
  std::vector<WeightRows> runs;
  const auto flush = [&](int64_t k) {
    if (runs.empty()) return;
    int64_t n = 0;
    for (const auto& run : runs) n += run.n;
    p.weights.push_back(Weight::Pack(runs, k, *queue_));
    p.offsets.push_back(p.columns);
    p.columns += n;
    weight_bytes_ += p.weights.back().bytes();
    multiply_adds_per_row_ += n * k;
    runs.clear();
  };
  int64_t k = 0;
  bool any_bias = false;
  std::vector<float> bias;
  for (const auto& [role, columns] : parts) {
    const TensorView view = mapped_->Find(role, layer);
    if (!runs.empty() && runs.back().dtype != view.dtype) flush(k);
    k = view.k;
    runs.push_back(view.Run(columns.begin, columns.end, 0));
    auto b =
        BiasOf(role) == role ? std::vector<float>{} : mapped_->Vector(BiasOf(role), layer, columns.begin, columns.end);
    any_bias |= !b.empty();
    b.resize(columns.size(), 0.0f);
    bias.insert(bias.end(), b.begin(), b.end());
  }
  flush(k);
  if (any_bias) p.bias = Buffer<float>(std::span<const float>(bias), *queue_);
  return p;
}

SplitProduct Stage::Split(Role weight, Role bias, const Reduction& r, Range k, int layer) {
  SplitProduct p;
  p.bias = LoadVector(bias, layer, {0, model_.hidden});
  if (k.size() == 0) return p;
  const TensorView view = mapped_->Find(weight, layer);
  const WeightRows rows = view.Run(0, view.n, k.begin);
  p.weight = Weight::Pack(std::span(&rows, 1), k.size(), r.program, *queue_);
  weight_bytes_ += p.weight.bytes();
  multiply_adds_per_row_ += view.n * k.size();
  return p;
}

}  // namespace pangea
