#include "pipeline/capacity.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"

namespace pangea {
namespace {

constexpr int64_t kFloat = sizeof(float);

// The step by whose cost the stages are cut: rows, and the positions that each looks at. A core reads 20 GB/s and does
// 90 billion multiply-adds meanwhile (docs/performance_results.md, kernels on Zen 4), whether weights have 4 or 8 bits;
// what a layer takes anyway (barriers) is 20 us, the default of simulate.layer_seconds. All this decides balance only,
// so that it need not be exact.
constexpr int64_t kWorkRows = 8;
constexpr int kWorkContext = 512;
constexpr double kBytesAMac = 0.22;
constexpr int64_t kLayerBytes = 400'000;

// PackedBytes of products over one input: neighbours of one type lie in one weight, as the stage packs them.
struct Part {
  DType dtype;
  int64_t n, k;
};
int64_t FusedBytes(const std::vector<Part>& parts) {
  int64_t bytes = 0, columns = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    columns += parts[i].n;
    if (i + 1 < parts.size() && parts[i + 1].dtype == parts[i].dtype) continue;
    if (columns > 0) bytes += PackedBytes(parts[i].dtype, columns, parts[i].k);
    columns = 0;
  }
  return bytes;
}

int Vectors(const SplitDefinition& split, const Range& leaves) {
  if (leaves.size() == 0) return 0;
  return static_cast<int>(split.tree.Subtrees(static_cast<int>(leaves.begin), static_cast<int>(leaves.end)).size());
}

}  // namespace

TensorIndex::TensorIndex(const CheckpointHeader& header) : header_(&header), rows_(TensorTable(header)) {
  for (size_t i = 0; i < rows_.size(); ++i) index_[{rows_[i].role, rows_[i].layer}] = i;
}

const TensorRow* TensorIndex::Find(Role role, int layer) const {
  const auto it = index_.find({role, layer});
  return it == index_.end() ? nullptr : &rows_[it->second];
}

DType TensorIndex::dtype(Role role, int layer) const { return header_->tensors.at(Find(role, layer)->name).dtype; }

int64_t TensorIndex::StoredBytes(Role role, int layer) const {
  const TensorRow* row = Find(role, layer);
  if (row == nullptr) return 0;
  const DType type = dtype(role, layer);
  return row->k == 0       ? RowBytes(type, row->n)
         : row->transposed ? row->k * RowBytes(type, row->n)
                           : row->n * RowBytes(type, row->k);
}

int64_t TensorIndex::Work(Role role, int layer) const {
  const TensorRow* row = Find(role, layer);
  if (row == nullptr) return 0;
  return std::max(StoredBytes(role, layer), static_cast<int64_t>(kWorkRows * kBytesAMac * row->n * row->k));
}

int64_t TensorIndex::LayerWork(int layer) const {
  int64_t work = 0;
  for (const TensorRow& row : rows_) {
    if (row.layer == layer) work += Work(row.role, layer);
  }
  const ModelConfig& model = header_->config;
  const int64_t q = int64_t{model.heads} * model.head_dim, kv = int64_t{model.kv_heads} * model.head_dim;
  const int64_t window = model.window[layer] > 0 ? std::min(model.window[layer], kWorkContext) : kWorkContext;
  // A cached position: keys and values of two bytes, or the multiply-adds over them, which run at about half the speed
  // of products.
  work += kWorkRows * window * std::max<int64_t>(4 * kv, std::llround(2 * q * 2 * kBytesAMac));
  // What is no product: the rows of docs/simulation.md, there with their source.
  const int64_t elements = 10 * model.hidden + 4 * (q + kv) + (model.gated ? 6 : 4) * model.ffn;
  return work + kWorkRows * elements * int64_t{sizeof(float)} + kLayerBytes;
}

DType TensorIndex::SplitType(Role role) const {
  DType type = dtype(role, 0);
  for (int layer = 1; layer < header_->config.layers; ++layer) {
    if (SplitUnit(dtype(role, layer)) > SplitUnit(type)) type = dtype(role, layer);
  }
  return type;
}

WeightSizes AgentWeights(const TensorIndex& index, const RankPlan& agent) {
  const ModelConfig& model = index.header().config;
  WeightSizes sizes;
  const int64_t q = agent.heads.size() * model.head_dim, kv = agent.kv_heads.size() * model.head_dim,
                ffn = agent.ffn_columns.size();
  const auto vector = [&](Role role, int layer, int64_t n) {
    if (index.Find(role, layer) != nullptr) sizes.vectors += n * kFloat;
  };
  const auto split = [&](Role role, int layer, const Range& leaves, int64_t k) {
    if (leaves.size() > 0) sizes.packed += PackedBytes(index.dtype(role, layer), model.hidden, k);
  };
  for (int layer = static_cast<int>(agent.layers.begin); layer < agent.layers.end; ++layer) {
    const auto part = [&](Role role, int64_t n) { return Part{index.dtype(role, layer), n, model.hidden}; };
    if (model.query_layer && layer == model.layers - 1) {
      sizes.packed += FusedBytes({part(Role::kQ, q)}) + FusedBytes({part(Role::kK, kv), part(Role::kV, kv)});
    } else {
      sizes.packed += FusedBytes({part(Role::kQ, q), part(Role::kK, kv), part(Role::kV, kv)});
    }
    if (ffn > 0)
      sizes.packed +=
          model.gated ? FusedBytes({part(Role::kGate, ffn), part(Role::kUp, ffn)}) : FusedBytes({part(Role::kUp, ffn)});
    split(Role::kO, layer, agent.attn_leaves, agent.attn_k.size());
    split(Role::kDown, layer, agent.ffn_leaves, ffn);
    for (const Role role :
         {Role::kAttnNorm, Role::kAttnNormBias, Role::kFfnNorm, Role::kFfnNormBias, Role::kOBias, Role::kDownBias}) {
      vector(role, layer, model.hidden);
    }
    for (const Role role : {Role::kQNorm, Role::kKNorm}) vector(role, layer, model.head_dim);
    vector(Role::kQBias, layer, q);
    for (const Role role : {Role::kKBias, Role::kVBias}) vector(role, layer, kv);
    for (const Role role : {Role::kGateBias, Role::kUpBias}) vector(role, layer, ffn);
  }
  if (agent.first) {
    sizes.mapped += index.StoredBytes(Role::kTokenEmbedding) + index.StoredBytes(Role::kPositionEmbedding);
  }
  if (agent.last) {
    sizes.mapped += index.StoredBytes(Role::kQueryEmbedding);
    vector(Role::kFinalNorm, -1, model.hidden);
    vector(Role::kFinalNormBias, -1, model.hidden);
    sizes.packed += FusedBytes({{index.dtype(Role::kHead), agent.vocab.size(), model.hidden}});
  }
  return sizes;
}

std::optional<DType> CacheType(const std::string& name) {
  if (name == "f16") return DType::kF16;
  if (name == "bf16") return DType::kBF16;
  if (name == "int8") return DType::kI8;
  return std::nullopt;
}

int64_t KvBlockBytes(const ModelConfig& model, DType dtype, int block_tokens, const RankPlan& agent) {
  return agent.layers.size() * agent.kv_heads.size() * 2 * KvExtentBytes(dtype, block_tokens, model.head_dim);
}

BatchShape BatchShapeOf(const ModelConfig& model, const Deployment& deployment, const ParallelPlan& plan, int index) {
  const RankPlan& agent = plan.agents[index];
  BatchShape shape{.rows = deployment.schedule.max_batch_tokens,
                   .slots = deployment.schedule.max_sequences,
                   .stride = (int64_t{plan.context} + plan.block_tokens - 1) / plan.block_tokens,
                   .block_tokens = plan.block_tokens};
  for (int64_t h = agent.heads.begin; h < agent.heads.end; ++h)
    shape.kv_of_head.push_back(static_cast<int32_t>(h / model.heads_per_kv() - agent.kv_heads.begin));
  shape.windows.assign(model.window.begin() + agent.layers.begin, model.window.begin() + agent.layers.end);
  std::sort(shape.windows.begin(), shape.windows.end());
  shape.windows.erase(std::unique(shape.windows.begin(), shape.windows.end()), shape.windows.end());
  return shape;
}

ActivationBuffers<int64_t> ActivationSizes(const ModelConfig& model, const Deployment& deployment,
                                           const ParallelPlan& plan, int index) {
  const RankPlan& agent = plan.agents[index];
  const int64_t rows = deployment.schedule.max_batch_tokens;
  const int64_t d = model.hidden, q = agent.heads.size() * model.head_dim, kv = agent.kv_heads.size() * model.head_dim;
  const int64_t ffn = agent.ffn_columns.size();
  const auto floats = [&](int64_t columns) { return rows * columns * kFloat; };
  int all_attention = 0, all_ffn = 0;
  for (int rank = 0; rank < plan.ranks; ++rank) {
    all_attention += Vectors(plan.attention, plan.at(agent.stage, rank).attn_leaves);
    all_ffn += Vectors(plan.ffn, plan.at(agent.stage, rank).ffn_leaves);
  }
  ActivationBuffers<int64_t> sizes;
  sizes.x = sizes.normed = floats(d);
  sizes.qkv = floats(q + 2 * kv);
  sizes.query_in = model.query_layer && agent.last ? floats(d) : 0;
  sizes.query = model.query_layer && agent.last ? floats(q) : 0;
  sizes.heads = floats(q);
  sizes.up = floats(ffn * (model.gated ? 2 : 1));
  sizes.gated = floats(ffn);
  sizes.packed = PackedActivationBytes(rows, std::max({d, q, ffn}));
  sizes.attention = AttentionScratchBytes(std::max(deployment.agent(index).threads, 1), model.head_dim);
  sizes.mine = floats(
      d * std::max(Vectors(plan.attention, agent.attn_leaves), Vectors(plan.ffn, agent.ffn_leaves)));
  sizes.all = plan.ranks > 1 ? floats(d * std::max(all_attention, all_ffn)) : 0;
  sizes.judged = agent.last ? kLogitRows * d * kFloat : 0;
  sizes.logits = agent.last ? kLogitRows * agent.vocab.size() * kFloat : 0;
  return sizes;
}

int64_t CommunicationBytes(const ActivationBuffers<int64_t>& sizes) { return sizes.mine + sizes.all; }

int64_t ActivationBytes(const ModelConfig& model, const Deployment& deployment, const ParallelPlan& plan, int index) {
  ActivationBuffers<int64_t> sizes = ActivationSizes(model, deployment, plan, index);
  int64_t bytes = -CommunicationBytes(sizes);
  for (const int64_t* size : sizes.list()) bytes += *size;
  return bytes + BatchBytes(BatchShapeOf(model, deployment, plan, index)) +
         int64_t{plan.context} * model.rope.rot * kFloat;
}

double PredictTokensPerSecond(const TensorIndex& index, const Deployment& deployment, const ParallelPlan& plan) {
  double seconds = 0;
  for (int stage = 0; stage < plan.stages; ++stage) {
    double slowest = 0;
    for (int rank = 0; rank < plan.ranks; ++rank) {
      const AgentConfig& agent = deployment.agent(stage * plan.ranks + rank);
      double bandwidth = kThreadBandwidth * std::max(agent.threads, 1);
      bandwidth = std::min(bandwidth, kHostBandwidth / (agent.launch == "local" ? plan.ranks : 1));
      slowest = std::max(slowest, static_cast<double>(AgentWeights(index, plan.at(stage, rank)).packed) / bandwidth);
    }
    seconds += slowest;
  }
  return seconds > 0 ? 1 / seconds : 0;
}

std::string BytesText(int64_t bytes) {
  const double value = static_cast<double>(bytes);
  if (bytes < 1024) return absl::StrFormat("%d B", bytes);
  if (bytes < int64_t{1} << 20) return absl::StrFormat("%.1f KiB", value / 1024);
  if (bytes < int64_t{1} << 30) return absl::StrFormat("%.1f MiB", value / (1 << 20));
  return absl::StrFormat("%.2f GiB", value / (1 << 30));
}

}  // namespace pangea
