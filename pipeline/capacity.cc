#include "pipeline/capacity.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "absl/strings/str_format.h"
#include "configs/device.h"

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

bool RunsCudaKernels(const AgentConfig& agent) {
  const DeviceInfo* device = FindDevice(agent.device);
  return device != nullptr && device->cuda_kernels;
}

int Vectors(const SplitDefinition& split, const Range& leaves, bool tree) {
  if (leaves.size() == 0) return 0;
  if (!tree) return 1;
  return static_cast<int>(split.tree.Subtrees(static_cast<int>(leaves.begin), static_cast<int>(leaves.end)).size());
}

}  // namespace

TensorIndex::TensorIndex(const CheckpointHeader& header) : TensorIndex(header, TensorTable(header)) {}

TensorIndex::TensorIndex(const CheckpointHeader& header, std::vector<TensorRow> rows)
    : header_(&header), rows_(std::move(rows)) {
  for (size_t i = 0; i < rows_.size(); ++i) {
    if (rows_[i].expert < 0) index_[{rows_[i].role, rows_[i].layer}] = i;
  }
}

const TensorRow* TensorIndex::Find(Role role, int layer) const {
  const auto it = index_.find({role, layer});
  return it == index_.end() ? nullptr : &rows_[it->second];
}

DType TensorIndex::dtype(Role role, int layer) const { return header_->tensors.at(Find(role, layer)->name).dtype; }

std::vector<TensorRow> TensorIndex::Of(Product product, int layer) const {
  std::vector<TensorRow> found;
  for (const TensorRow& row : rows_) {
    if (row.product == product && row.layer == layer) found.push_back(row);
  }
  return found;
}

int64_t TensorIndex::StoredBytes(const TensorRow& row) const {
  return row.k == 0       ? RowBytes(dtype(row), row.n)
         : row.transposed ? row.k * RowBytes(dtype(row), row.n)
                          : row.n * RowBytes(dtype(row), row.k);
}

int64_t TensorIndex::Work(const TensorRow& row) const {
  return std::max(StoredBytes(row), static_cast<int64_t>(kWorkRows * kBytesAMac * row.n * row.k));
}

int64_t TensorIndex::LayerWork(int layer) const {
  int64_t work = 0;
  for (const TensorRow& row : rows_) {
    if (row.layer == layer) work += Work(row);
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

TensorShare ShareOf(const TensorRow& row, const ModelConfig& model, const RankPlan& agent) {
  const bool held = row.holder == Holder::kFirst  ? agent.first
                    : row.holder == Holder::kLast ? agent.last
                                                  : row.layer >= agent.layers.begin && row.layer < agent.layers.end;
  if (!held) return {};
  const auto heads = [&](const Range& range) {
    return Range{range.begin * model.head_dim, range.end * model.head_dim};
  };
  TensorShare share{{0, row.n}, {0, row.k}};
  switch (row.slice) {
    case Slice::kWhole:
      break;
    case Slice::kQHeads:
      share.n = heads(agent.heads);
      break;
    case Slice::kKvHeads:
      share.n = heads(agent.kv_heads);
      break;
    case Slice::kFfnColumns:
      share.n = agent.ffn_columns;
      break;
    case Slice::kVocab:
      share.n = agent.vocab;
      break;
    case Slice::kAttnLeaves:
      share.k = agent.attn_k;
      break;
    case Slice::kFfnLeaves:
      share.k = agent.ffn_columns;
      break;
  }
  return row.k > 0 && share.k.size() == 0 ? TensorShare{} : share;
}

WeightSizes AgentWeights(const TensorIndex& index, const RankPlan& agent) {
  WeightSizes sizes;
  // Neighbours of one product and type lie in one weight, as the stage packs them: its columns so far.
  const TensorRow* open = nullptr;
  int64_t columns = 0, inputs = 0;
  const auto close = [&] {
    if (open == nullptr) return;
    const int64_t bytes = PackedBytes(index.dtype(*open), columns, inputs);
    const int64_t macs = columns * inputs;
    sizes.packed += bytes;
    (open->product == Product::kHead ? sizes.head_macs : sizes.macs) += macs;
    if (open->product == Product::kHead) sizes.head += bytes;
    open = nullptr;
    columns = 0;
  };
  for (const TensorRow& row : index.rows()) {
    const TensorShare share = ShareOf(row, index.header().config, agent);
    if (share.empty()) continue;
    if (!row.matrix()) {
      if (row.k > 0) {
        sizes.mapped += index.StoredBytes(row);
      } else {
        sizes.vectors += share.n.size() * kFloat;
      }
      continue;
    }
    const bool beside = open != nullptr && open->product == row.product && open->layer == row.layer &&
                        open->expert == row.expert && index.dtype(*open) == index.dtype(row);
    if (!beside) close();
    open = &row;
    columns += share.n.size();
    inputs = share.k.size();
  }
  close();
  return sizes;
}

int64_t KvBlockBytes(const ModelConfig& model, DType dtype, int block_tokens, const RankPlan& agent) {
  return agent.layers.size() * agent.kv_heads.size() * 2 * KvExtentBytes(dtype, block_tokens, model.head_dim);
}

BatchShape BatchShapeOf(const ModelConfig& model, const Deployment& deployment, const ParallelPlan& plan, int index) {
  const RankPlan& agent = plan.agents[index];
  BatchShape shape{.rows = deployment.schedule.max_batch_tokens,
                   .slots = deployment.schedule.max_sequences,
                   .stride = (int64_t{plan.context} + plan.block_tokens - 1) / plan.block_tokens,
                   .groups = static_cast<int>(plan.cache_groups().size()),
                   .block_tokens = plan.block_tokens,
                   .queries = AddsAlongTree(deployment) ? kMaxQueries : kCudaMaxQueries,
                   .alone_first = RunsCudaKernels(deployment.agent(index))};
  for (int64_t h = agent.heads.begin; h < agent.heads.end; ++h)
    shape.kv_of_head.push_back(static_cast<int32_t>(h / model.heads_per_kv() - agent.kv_heads.begin));
  shape.windows.assign(model.window.begin() + agent.layers.begin, model.window.begin() + agent.layers.end);
  std::sort(shape.windows.begin(), shape.windows.end());
  shape.windows.erase(std::unique(shape.windows.begin(), shape.windows.end()), shape.windows.end());
  return shape;
}

bool AddsAlongTree(const Deployment& deployment) {
  return deployment.kernels.exact || !RunsCudaKernels(deployment.agent(0));
}

ExchangeShape ExchangeShapeOf(const ModelConfig& model, const Deployment& deployment, const ParallelPlan& plan) {
  if (!plan.devices_exchange) return {};
  ExchangeShape shape{.ranks = plan.ranks, .library = plan.transport == "nccl"};
  if (plan.stages == 1) return shape;
  shape.slots = deployment.schedule.max_sequences;
  if (shape.library) return shape;
  // A whole batch, so that a stage goes on while the next one still computes; and the ids of all steps that are under
  // way, a piece each. A power of two, as counts go around.
  const int64_t batch = int64_t{deployment.schedule.max_batch_tokens} * model.hidden;
  const int64_t all = int64_t{kExchangeBlocks} * kExchangeFloats;
  const int64_t pieces = std::max<int64_t>((batch + all - 1) / all, plan.stages + 2);
  shape.pieces = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(pieces)));
  return shape;
}

bool DrawsOnDevice(const Deployment& deployment, const ParallelPlan& plan, int index) {
  return plan.agents[index].last && RunsCudaKernels(deployment.agent(index)) &&
         (plan.ranks == 1 || plan.devices_exchange);
}

int64_t LogitRowsAtOnce(const Deployment& deployment, const ParallelPlan& plan, int index) {
  if (!DrawsOnDevice(deployment, plan, index)) return kLogitRows;
  return std::clamp<int64_t>(deployment.schedule.max_sequences, kLogitRows, kMostLogitRows);
}

SamplingShape SamplingShapeOf(const Deployment& deployment, const ParallelPlan& plan, int index) {
  return {.rows = LogitRowsAtOnce(deployment, plan, index),
          .slots = deployment.schedule.max_sequences,
          .vocab = plan.at(plan.agents[index].stage, plan.ranks - 1).vocab.end,
          .tops = deployment.limits.top_logprobs};
}

ActivationBuffers<int64_t> ActivationSizes(const ModelConfig& model, const Deployment& deployment,
                                           const ParallelPlan& plan, int index) {
  const RankPlan& agent = plan.agents[index];
  const int64_t rows = deployment.schedule.max_batch_tokens;
  const int64_t d = model.hidden, q = agent.heads.size() * model.head_dim, kv = agent.kv_heads.size() * model.head_dim;
  const int64_t ffn = agent.ffn_columns.size();
  const auto floats = [&](int64_t columns) { return rows * columns * kFloat; };
  const bool tree = AddsAlongTree(deployment);
  int all_attention = 0, all_ffn = 0;
  for (int rank = 0; rank < plan.ranks; ++rank) {
    all_attention += Vectors(plan.attention, plan.at(agent.stage, rank).attn_leaves, tree);
    all_ffn += Vectors(plan.ffn, plan.at(agent.stage, rank).ffn_leaves, tree);
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
  const AgentConfig& config = deployment.agent(index);
  sizes.attention = RunsCudaKernels(config) ? CudaAttentionScratchBytes(model.head_dim)
                                            : AttentionScratchBytes(std::max(config.threads, 1), model.head_dim);
  sizes.mine =
      floats(d * std::max(Vectors(plan.attention, agent.attn_leaves, tree), Vectors(plan.ffn, agent.ffn_leaves, tree)));
  sizes.all = plan.ranks > 1 ? floats(d * std::max(all_attention, all_ffn)) : 0;
  sizes.workspace = tree ? 0 : kCudaWorkspaceBytes + (plan.f8_weights ? kCudaWidenedBytes : 0);
  const int64_t judged = agent.last ? LogitRowsAtOnce(deployment, plan, index) : 0;
  sizes.judged = judged * d * kFloat;
  sizes.logits = sizes.raw = judged * agent.vocab.size() * kFloat;
  if (DrawsOnDevice(deployment, plan, index)) {  // of all ranks' ids
    const SamplingShape drawing = SamplingShapeOf(deployment, plan, index);
    sizes.logits = sizes.raw = judged * drawing.vocab * kFloat;
    sizes.drawing = SamplingBytes(drawing);
  }
  return sizes;
}

void AddBuffers(const ActivationBuffers<int64_t>& sizes, AgentMemory* memory) {
  memory->activations += sizes.x + sizes.normed + sizes.qkv + sizes.query_in + sizes.query + sizes.heads + sizes.up +
                         sizes.gated + sizes.packed + sizes.workspace;
  memory->attention += sizes.attention;
  memory->communication += sizes.mine + sizes.all;
  memory->sampler += sizes.judged + sizes.logits + sizes.raw + sizes.drawing;
}

AgentMemory MemoryOf(const TensorIndex& index, const Deployment& deployment, const ParallelPlan& plan, int agent) {
  const ModelConfig& model = index.header().config;
  const WeightSizes weights = AgentWeights(index, plan.agents[agent]);
  const int64_t block = plan.agents[agent].kv_block_bytes;
  const DeviceInfo* device = FindDevice(deployment.agent(agent).device);
  const bool mapped = device == nullptr || device->host_memory;  // else tables are copied to the device
  AgentMemory memory{
      .packed = weights.packed,
      .mapped = mapped ? weights.mapped : 0,
      .vectors = weights.vectors + int64_t{plan.context} * model.rope.rot * kFloat + (mapped ? 0 : weights.mapped),
      .pages = block * plan.kv_blocks,
      .swap = block * plan.swap_blocks,
      .activations = BatchBytes(BatchShapeOf(model, deployment, plan, agent))};
  AddBuffers(ActivationSizes(model, deployment, plan, agent), &memory);
  if (plan.devices_exchange) memory.communication += ExchangeBytes(ExchangeShapeOf(model, deployment, plan));
  return memory;
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
