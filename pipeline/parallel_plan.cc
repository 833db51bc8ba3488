#include "pipeline/parallel_plan.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "configs/device.h"
#include "configs/host.h"
#include "kernels/cuda/limits.h"
#include "pipeline/balance.h"
#include "pipeline/capacity.h"
#include "pipeline/checkpoint/hash.h"
#include "pipeline/checkpoint/tensor_table.h"

namespace pangea {
namespace {

constexpr int kVocabChunk = 256;           // docs/exactness.md, section 5
constexpr int64_t kMaxKvBlocks = 1 << 28;  // block numbers are 32-bit, and so are the tokens they hold

// Of cache.type; nullopt for what is none of its choices in configs/key_table.cc.
std::optional<DType> CacheType(std::string_view name) {
  if (name == "f16") return DType::kF16;
  if (name == "bf16") return DType::kBF16;
  if (name == "int8") return DType::kI8;
  if (name == "fp8") return DType::kF8E4M3;
  return std::nullopt;
}

int CeilCut(int64_t count, int part, int parts) { return static_cast<int>((count * part + parts - 1) / parts); }

class Planner {
 public:
  Planner(const CheckpointHeader& checkpoint, const Deployment& deployment)
      : header_(checkpoint), model_(checkpoint.config), d_(deployment), index_(checkpoint) {}

  PlanResult Run() {
    std::vector<std::string> tensor_faults = CheckTensors(header_, TensorTable(header_));
    for (std::string& fault : tensor_faults) faults_.push_back({"", std::move(fault)});
    Transport();
    Context();
    if (tensor_faults.empty()) Layout();
    if (faults_.empty()) {
      Stages();
      Ranks();
      DeviceLimits();
      Sizes();
    }
    return {std::move(plan_), std::move(faults_)};
  }

 private:
  template <typename... Parts>
  void Fault(std::string key, const Parts&... parts) {
    faults_.push_back({std::move(key), absl::StrCat(parts...)});
  }

  void Transport() {
    int threads = 0;
    for (int i = 0; i < d_.agent_count(); ++i) {
      if (d_.agent(i).launch == "local") {
        threads += d_.agent(i).threads;
      } else {
        plan_.remote = true;
      }
    }
    const std::string& asked = d_.parallel.transport;
    const DeviceInfo* device = FindDevice(d_.agent(0).device);
    const bool gpus = device != nullptr && device->kind == DeviceKind::kCuda && d_.agent_count() > 1 &&
                      d_.parallel.tensor <= kMostExchangeRanks;
    if (asked == "nccl" && d_.parallel.tensor > kMostExchangeRanks)
      Fault("parallel.transport", "nccl is for at most ", kMostExchangeRanks, " ranks a stage; use gloo");
    plan_.transport = asked != "auto" ? asked : !plan_.remote ? "shm" : gpus ? "nccl" : "gloo";
    plan_.spin = AvailableCores() >= threads;
  }

  void Context() {
    const int most = model_.max_positions;
    if (d_.context > most) Fault("context", "is ", d_.context, ", the checkpoint declares ", most, "; at most ", most);
    plan_.context = d_.context == 0 ? most : d_.context;
    plan_.block_tokens = d_.cache.block_tokens;
    plan_.cache_type = CacheType(d_.cache.type).value();
    plan_.f8_weights = std::any_of(header_.tensors.begin(), header_.tensors.end(),
                                   [](const auto& entry) { return entry.second.dtype == DType::kF8E4M3; });
  }

  // The split definitions, and whether the model has enough to share out.
  void Layout() {
    const DType output = index_.SplitType(Role::kO);
    plan_.attention = AttentionSplit(model_.heads, model_.kv_heads, model_.head_dim, output);
    plan_.ffn = FfnSplit(model_.ffn, index_.SplitType(Role::kDown));
    plan_.stages = d_.parallel.pipeline;
    plan_.ranks = d_.parallel.tensor;
    const int leaves = plan_.attention.tree.leaves();
    if (plan_.stages > model_.layers)
      Fault("parallel.pipeline", plan_.stages, " stages, but the model has ", model_.layers, " layers; at most ",
            model_.layers);
    if (plan_.ranks > leaves) {
      Fault("parallel.tensor", plan_.ranks, " ranks, but attention (", model_.heads, " heads, ", model_.kv_heads,
            " KV heads of ", model_.head_dim,
            SplitUnit(output) > 2 ? absl::StrCat("; its output weight is of ", std::string(Info(output).name),
                                                 ", cut at multiples of ", SplitUnit(output))
                                  : "",
            ") has ", leaves, leaves == 1 ? " leaf" : " leaves", " that can be shared out; at most ", leaves);
    }
  }

  void Stages() {
    BalanceProblem problem;
    for (int layer = 0; layer < model_.layers; ++layer) problem.items.push_back(index_.LayerWork(layer));
    problem.parts.assign(plan_.stages, 0);
    // What a step reads and multiplies: the head as a whole, of the embedding tables a few rows.
    problem.parts.back() += index_.Work(*index_.Find(Role::kHead));
    problem.min_items = 1;
    stage_cuts_ = Balance(problem);
  }

  // Leaf boundaries of the ranks: by KV groups where there are enough, else by leaves (a group's KV is then held
  // twice).
  std::vector<int> AttentionCuts() const {
    const int leaves = plan_.attention.tree.leaves(), groups = model_.kv_heads;
    const bool whole_groups = groups >= plan_.ranks && leaves % groups == 0;
    const int units = whole_groups ? groups : leaves;
    std::vector<int> cuts;
    for (int r = 0; r <= plan_.ranks; ++r) cuts.push_back(CeilCut(units, r, plan_.ranks) * (leaves / units));
    return cuts;
  }

  void Ranks() {
    const std::vector<int> attention = AttentionCuts();
    const std::vector<int> ffn = FfnCuts(attention);
    const int64_t chunks = (model_.vocab + kVocabChunk - 1) / kVocabChunk;
    for (int stage = 0; stage < plan_.stages; ++stage) {
      for (int rank = 0; rank < plan_.ranks; ++rank) {
        RankPlan agent;
        agent.stage = stage, agent.rank = rank;
        agent.layers = {stage_cuts_[stage], stage_cuts_[stage + 1]};
        agent.first = stage == 0, agent.last = stage == plan_.stages - 1;
        SetAttention(attention[rank], attention[rank + 1], &agent);
        agent.ffn_leaves = {ffn[rank], ffn[rank + 1]};
        agent.ffn_columns = {plan_.ffn.cuts[ffn[rank]], plan_.ffn.cuts[ffn[rank + 1]]};
        if (agent.last) {
          const auto cut = [&](int r) {
            return std::min<int64_t>(int64_t{CeilCut(chunks, r, plan_.ranks)} * kVocabChunk, model_.vocab);
          };
          agent.vocab = {cut(rank), cut(rank + 1)};
        }
        plan_.agents.push_back(agent);
      }
    }
  }

  void SetAttention(int first, int last, RankPlan* agent) const {
    const int per_group = model_.heads_per_kv();
    agent->attn_leaves = {first, last};
    agent->attn_k = {plan_.attention.cuts[first], plan_.attention.cuts[last]};
    agent->heads = {agent->attn_k.begin / model_.head_dim, agent->attn_k.end / model_.head_dim};
    agent->kv_heads = {agent->heads.begin / per_group, (agent->heads.end + per_group - 1) / per_group};
  }

  // Shares FFN leaves so that each rank reads nearly the same number of bytes, attention counted.
  std::vector<int> FfnCuts(const std::vector<int>& attention) const {
    // Bytes of one of the columns that such a slice cuts, over all layers; kMaxBlock is a multiple of every block.
    std::map<Slice, int64_t> column;
    for (const TensorRow& row : index_.rows()) {
      if (!row.matrix()) continue;
      const bool leaves = row.slice == Slice::kAttnLeaves || row.slice == Slice::kFfnLeaves;
      column[row.slice] += (leaves ? row.n : row.k) * RowBytes(index_.dtype(row), kMaxBlock) / kMaxBlock;
    }
    BalanceProblem problem;
    const int64_t ffn_column = column[Slice::kFfnColumns] + column[Slice::kFfnLeaves];
    for (size_t leaf = 0; leaf + 1 < plan_.ffn.cuts.size(); ++leaf) {
      problem.items.push_back(ffn_column * (plan_.ffn.cuts[leaf + 1] - plan_.ffn.cuts[leaf]));
    }
    for (int rank = 0; rank < plan_.ranks; ++rank) {
      RankPlan part;
      SetAttention(attention[rank], attention[rank + 1], &part);
      const int64_t q = part.heads.size() * model_.head_dim, kv = part.kv_heads.size() * model_.head_dim;
      problem.parts.push_back(q * (column[Slice::kQHeads] + column[Slice::kAttnLeaves]) + kv * column[Slice::kKvHeads]);
    }
    problem.vectors = [&](int first, int last) {
      return static_cast<int>(plan_.ffn.tree.Subtrees(first, last).size());
    };
    return Balance(problem);
  }

  // What the kernels of a device cannot do is found out here, not at its first step.
  void DeviceLimits() {
    for (size_t i = 0; i < plan_.agents.size(); ++i) {
      const DeviceInfo* device = FindDevice(d_.agent(static_cast<int>(i)).device);
      if (device == nullptr || !device->cuda_kernels) continue;
      const auto most = [&](const char* what, int64_t is, int64_t limit) {
        if (is > limit)
          Fault("agents.device", std::string(device->name), " agents have kernels for ", what, " of at most ", limit,
                "; this model's: ", is);
      };
      most("heads", model_.head_dim, cuda::kMostHeadDim);
      most("a width", model_.hidden, cuda::kMostHidden);
      most("a number of leaves", static_cast<int64_t>(plan_.attention.cuts.size()) - 1, cuda::kMostLeaves);
      return;  // the same for all
    }
  }

  void Sizes() {
    int64_t fullest = 0;
    for (RankPlan& agent : plan_.agents) {
      agent.kv_block_bytes = KvBlockBytes(model_, plan_.cache_type, plan_.block_tokens, agent);
      fullest = std::max(fullest, agent.kv_block_bytes);
    }
    const uint64_t blocks = d_.cache.memory / static_cast<uint64_t>(fullest);
    plan_.kv_blocks = static_cast<int>(std::min<uint64_t>(blocks, kMaxKvBlocks / plan_.block_tokens));
    plan_.swap_blocks = static_cast<int>(
        std::min<uint64_t>(d_.cache.swap / static_cast<uint64_t>(fullest), kMaxKvBlocks / plan_.block_tokens));
    const int64_t tokens = int64_t{plan_.kv_blocks} * plan_.block_tokens;
    if (plan_.kv_blocks < 1) {
      Fault("cache.memory", d_.cache.memory, " bytes hold no block of ", plan_.block_tokens,
            " tokens on the fullest agent; at least ", fullest);
    } else if (tokens < plan_.context) {
      Shrink(tokens, fullest);
    }
    const DeviceInfo* device = FindDevice(d_.agent(0).device);
    plan_.devices_exchange = plan_.agents.size() > 1 && plan_.transport != "gloo" &&
                             plan_.ranks <= kMostExchangeRanks && device != nullptr && device->cuda_kernels;
    for (size_t i = 0; i < plan_.agents.size(); ++i)
      plan_.agents[i].memory = MemoryOf(index_, d_, plan_, static_cast<int>(i));
    plan_.predicted_tokens_per_second = PredictTokensPerSecond(index_, d_, plan_);
  }

  // A context that the deployment leaves open shrinks to what the cache holds. One that it asks for does not, nor one
  // on which RoPE depends.
  void Shrink(int64_t tokens, int64_t fullest) {
    if (d_.context == 0 && model_.rope.scaling != RopeScaling::kDynamic) {
      plan_.context = static_cast<int>(tokens);
      return;
    }
    const int64_t needed = (int64_t{plan_.context} + plan_.block_tokens - 1) / plan_.block_tokens * fullest;
    Fault("cache.memory", d_.cache.memory, " bytes hold ", tokens, " tokens, fewer than the context of ", plan_.context,
          "; at least ", needed, ", or context: ", tokens);
    faults_.back().other = "context";
  }

  const CheckpointHeader& header_;
  const ModelConfig& model_;
  const Deployment& d_;
  const TensorIndex index_;
  ParallelPlan plan_;
  std::vector<DeploymentFault> faults_;
  std::vector<int> stage_cuts_;
};

}  // namespace

PlanResult MakePlan(const CheckpointHeader& checkpoint, const Deployment& deployment) {
  if (auto faults = ValidateLayout(deployment); !faults.empty()) return {{}, std::move(faults)};
  return Planner(checkpoint, deployment).Run();
}

std::string ParallelPlan::Hash() const {
  // What bytes on the wire and in memory depend on; not the prediction, and not spin, which is a matter of each host.
  Sha256 hash;
  const auto add = [&](const Range& range) {
    hash.Add(static_cast<uint64_t>(range.begin)).Add(static_cast<uint64_t>(range.end));
  };
  for (const int number : {stages, ranks, context, block_tokens, kv_blocks, swap_blocks})
    hash.Add(static_cast<uint64_t>(number));
  hash.Add(transport);
  for (const SplitDefinition* split : {&attention, &ffn}) {
    hash.Add(split->cuts.size());
    for (const int64_t cut : split->cuts) hash.Add(static_cast<uint64_t>(cut));
    for (const auto& node : split->tree.nodes())
      hash.Add(static_cast<uint64_t>(node.first)).Add(static_cast<uint64_t>(node.last));
  }
  for (const RankPlan& agent : agents) {
    for (const Range& range : {agent.layers, agent.heads, agent.kv_heads, agent.attn_leaves, agent.ffn_leaves,
                               agent.attn_k, agent.ffn_columns, agent.vocab})
      add(range);
    for (const int64_t bytes : {agent.memory.weights(), agent.kv_block_bytes}) hash.Add(static_cast<uint64_t>(bytes));
  }
  return hash.Hex();
}

}  // namespace pangea
