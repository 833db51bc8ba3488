#include "pipeline/cost_model.h"

#include <algorithm>
#include <span>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "configs/device.h"

namespace pangea {
namespace {

constexpr double kFloatBytes = sizeof(float);
constexpr double kPercent = 0.01;

double Subtrees(const SplitDefinition& split, const Range& leaves) {
  if (leaves.size() == 0) return 0;
  return static_cast<double>(split.tree.Subtrees(static_cast<int>(leaves.begin), static_cast<int>(leaves.end)).size());
}

// Partial sums that all ranks of a stage contribute to the two gathers of a layer.
double Vectors(const ParallelPlan& plan, int stage) {
  double vectors = 0;
  for (int rank = 0; rank < plan.ranks; ++rank) {
    const RankPlan& agent = plan.at(stage, rank);
    vectors += Subtrees(plan.attention, agent.attn_leaves) + Subtrees(plan.ffn, agent.ffn_leaves);
  }
  return vectors;
}

// Positions that rows at start .. start + rows - 1 look at, summed: each at its own and those before it in the window.
double Pairs(double start, double rows, double window) {
  const auto all = [](double end) { return end * (end + 1) / 2; };  // sum of 1 .. end
  if (window == 0) return all(start + rows) - all(start);
  const double below = std::clamp(window - start, 0.0, rows);  // rows that still see their whole past
  return all(start + below) - all(start) + (rows - below) * window;
}

}  // namespace

CostModel::CostModel(const TensorIndex& index, const Deployment& deployment, const ParallelPlan& plan)
    : speed_(deployment.simulate), stages_(plan.stages), ranks_(plan.ranks) {
  const ModelConfig& model = index.header().config;
  windows_ = model.window;
  std::sort(windows_.begin(), windows_.end());
  windows_.erase(std::unique(windows_.begin(), windows_.end()), windows_.end());
  hand_over_bytes_ = model.hidden * kFloatBytes;
  for (const RankPlan& agent : plan.agents) shares_.push_back(ShareOf(index, plan, agent));
}

CostModel::Share CostModel::ShareOf(const TensorIndex& index, const ParallelPlan& plan, const RankPlan& agent) const {
  const ModelConfig& model = index.header().config;
  Share share;
  const double d = model.hidden, q = agent.heads.size() * model.head_dim, kv = agent.kv_heads.size() * model.head_dim;
  const double ffn = agent.ffn_columns.size(), layers = agent.layers.size();
  const WeightSizes weights = AgentWeights(index, agent);
  share.head_weights = static_cast<double>(weights.head);
  share.sample_macs = static_cast<double>(weights.head_macs);
  share.layers = static_cast<int>(layers);
  share.layer_weights = static_cast<double>(weights.packed - weights.head);
  share.row_macs = static_cast<double>(weights.macs);
  const double matrices = model.gated ? 3 : 2;

  // Every element once read and once written: norms, what products leave for the next step of the layer, the
  // fixed-order sum of the gathered vectors into the residual stream.
  const double gathered = plan.ranks > 1 ? Vectors(plan, agent.stage) : 2;
  share.row_bytes = layers * kFloatBytes * (4 * d + 2 * (2 * q + 2 * kv) + 2 * matrices * ffn + (gathered + 4) * d);
  const double own = Subtrees(plan.attention, agent.attn_leaves) + Subtrees(plan.ffn, agent.ffn_leaves);
  if (plan.ranks > 1) share.gather_bytes = layers * (gathered - own) * d * kFloatBytes;

  share.block_bytes = static_cast<double>(agent.kv_block_bytes);
  const double token = 2.0 * agent.kv_heads.size() * KvExtentBytes(plan.cache_type, plan.block_tokens, model.head_dim) /
                       plan.block_tokens;  // of one layer
  share.context_bytes.assign(windows_.size(), 0);
  share.pair_macs.assign(windows_.size(), 0);
  for (int64_t layer = agent.layers.begin; layer < agent.layers.end; ++layer) {
    const size_t window = std::lower_bound(windows_.begin(), windows_.end(), model.window[layer]) - windows_.begin();
    share.context_bytes[window] += token;
    share.pair_macs[window] += 2 * q;
  }
  return share;
}

CostModel::Load CostModel::LoadOf(const Step& step) const {
  Load load;
  load.context.assign(windows_.size(), 0);
  load.pairs.assign(windows_.size(), 0);
  load.copies = static_cast<double>(step.copies.size());
  for (const StepSequence& part : step.sequences) {
    const double rows = part.rows(), end = part.start + rows;
    load.rows += rows;
    if (part.logits != LogitRows::kNone) load.sampled += part.logits == LogitRows::kAll ? rows : 1;
    for (size_t i = 0; i < windows_.size(); ++i) {
      load.context[i] += windows_[i] == 0 ? end : std::min(end, windows_[i] + rows - 1);
      load.pairs[i] += Pairs(part.start, rows, windows_[i]);
    }
  }
  return load;
}

StageCost CostModel::CostOf(const Share& share, const Load& load) const {
  const double macs = speed_.gflops * 1e9 / 2, bytes = speed_.memory_bandwidth * speed_.memory_percent * kPercent;
  const double product_macs = macs * speed_.compute_percent * kPercent;
  const double attention_macs = macs * speed_.attention_percent * kPercent;
  StageCost cost;
  cost.products = std::max(load.rows * share.row_macs / product_macs, share.layer_weights / bytes);
  if (load.sampled > 0)
    cost.products += std::max(load.sampled * share.sample_macs / product_macs, share.head_weights / bytes);
  for (size_t i = 0; i < windows_.size(); ++i) {
    cost.attention +=
        std::max(load.pairs[i] * share.pair_macs[i] / attention_macs, load.context[i] * share.context_bytes[i] / bytes);
  }
  cost.rows = load.rows * share.row_bytes / bytes;
  cost.copies = load.copies * 2 * share.block_bytes / bytes;  // read and written
  cost.fixed = speed_.step_seconds + share.layers * speed_.layer_seconds;
  if (ranks_ > 1) {
    // Two gathers a layer, and on the last stage that of the candidates.
    const int gathers = 2 * share.layers + (share.sample_macs > 0 && load.sampled > 0 ? 1 : 0);
    cost.gather = gathers * speed_.tensor_latency + load.rows * share.gather_bytes / speed_.tensor_bandwidth;
  }
  return cost;
}

std::vector<StageCost> CostModel::Stages(const Step& step) const {
  const Load load = LoadOf(step);
  std::vector<StageCost> costs;
  for (int stage = 0; stage < stages_; ++stage) {
    StageCost slowest;
    for (int rank = 0; rank < ranks_; ++rank) {
      const StageCost cost = CostOf(shares_[stage * ranks_ + rank], load);
      if (rank == 0 || cost.compute() + cost.gather > slowest.compute() + slowest.gather) slowest = cost;
    }
    if (stage + 1 < stages_) slowest.hand_over = load.rows * hand_over_bytes_ / speed_.stage_bandwidth;
    costs.push_back(slowest);
  }
  return costs;
}

std::string MemoryFault(const Deployment& deployment, const ParallelPlan& plan) {
  const int64_t limit = static_cast<int64_t>(deployment.simulate.memory);
  const auto needed = [&](const RankPlan& agent) { return agent.memory.total(); };
  const auto fullest = std::max_element(plan.agents.begin(), plan.agents.end(),
                                        [&](const auto& a, const auto& b) { return needed(a) < needed(b); });
  if (limit == 0 || fullest == plan.agents.end() || needed(*fullest) <= limit) return "";
  const auto over = std::count_if(plan.agents.begin(), plan.agents.end(),
                                  [&](const RankPlan& agent) { return needed(agent) > limit; });
  std::vector<std::string> parts;
  for (const auto& [name, bytes] : fullest->memory.list()) {
    if (bytes > 0) parts.push_back(absl::StrCat(std::string(name), " ", BytesText(bytes)));
  }
  return absl::StrCat("simulate.memory: rank ", fullest->rank, " of stage ", fullest->stage, " needs ",
                      BytesText(needed(*fullest)), " (", absl::StrJoin(parts, ", "), "), its device has ",
                      BytesText(limit), over > 1 ? absl::StrCat("; ", over - 1, " others need too much as well") : "");
}

namespace {

// What is wrong when these agents need more than `room` has, and the nearest change that fits. who: "agent 3", "2
// agents of this host".
std::string RoomFault(std::span<const RankPlan* const> agents, const std::string& who, const Deployment& deployment,
                      const ParallelPlan& plan, const HostMemory& room) {
  int64_t needed = 0, pages = 0, swap = 0, blocks = 0, largest = 0;
  for (const RankPlan* agent : agents) {
    needed += agent->memory.own();
    pages += agent->memory.pages;
    swap += agent->memory.swap;
    blocks += agent->kv_block_bytes;
  }
  for (const RankPlan& agent : plan.agents) largest = std::max(largest, agent.kv_block_bytes);
  if (needed <= room.available) return "";
  const std::string text = absl::StrCat("memory: ", who, agents.size() == 1 ? " needs " : " need ", BytesText(needed),
                                        ", ", BytesText(room.available), " are available (", room.source,
                                        "): ", BytesText(needed - room.available), " are missing; ");
  if (swap > 0 && needed - swap <= room.available) return text + "cache.swap: 0 fits";
  // Every agent has the same number of blocks, and the fullest one's size is what cache.memory is divided by.
  const int64_t rest = needed - swap - pages, fitting = (room.available - rest) / std::max<int64_t>(blocks, 1);
  if (fitting < 1)
    return absl::StrCat(text,
                        "even without a cache; a smaller model, smaller types, or agents on other hosts would do");
  constexpr int64_t kMiB = 1 << 20;
  const int64_t memory = largest * fitting, tokens = fitting * plan.block_tokens;
  return absl::StrCat(text, swap > 0 ? "cache.swap: 0 and " : "",
                      "cache.memory: ", memory >= kMiB ? absl::StrCat(memory / kMiB, "MiB") : absl::StrCat(memory),
                      deployment.context > 0 && tokens < plan.context ? absl::StrCat(" and context: ", tokens) : "",
                      " fits");
}

}  // namespace

std::string HostFault(const Deployment& deployment, const ParallelPlan& plan, const HostMemory& host) {
  std::vector<const RankPlan*> agents;
  for (size_t i = 0; i < plan.agents.size(); ++i) {
    const AgentConfig& agent = deployment.agent(static_cast<int>(i));
    const DeviceInfo* device = FindDevice(agent.device);
    if (agent.launch == "local" && device != nullptr && device->takes_memory) agents.push_back(&plan.agents[i]);
  }
  const std::string who = absl::StrCat(agents.size(), agents.size() == 1 ? " agent" : " agents", " of this host");
  return RoomFault(agents, who, deployment, plan, host);
}

std::string DeviceFault(const Deployment& deployment, const ParallelPlan& plan, int agent, const HostMemory& device) {
  const RankPlan* const alone = &plan.agents[agent];
  return RoomFault({&alone, 1}, absl::StrCat("agent ", agent), deployment, plan, device);
}

}  // namespace pangea
