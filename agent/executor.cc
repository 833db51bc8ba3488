#include "agent/executor.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <unordered_map>

#include "absl/strings/str_cat.h"
#include "agent/kv_cache.h"
#include "agent/sampler.h"
#include "configs/deployment.h"
#include "configs/log.h"
#include "kernels/threads.h"
#include "pipeline/capacity.h"
#include "pipeline/stage.h"

namespace pangea {
namespace {

constexpr int64_t kLogitRows = 32;  // rows of logits made at a time: never prompt x vocabulary

std::span<std::byte> Bytes(float* p, int64_t n) { return {reinterpret_cast<std::byte*>(p), n * sizeof(float)}; }

// Sequences that a step samples, in order: every stage reads this from the step alone.
std::vector<uint64_t> Sampled(const Step& step) {
  std::vector<uint64_t> ids;
  for (const StepSequence& s : step.sequences)
    if (s.logits == LogitRows::kLast || (s.logits == LogitRows::kAll && s.next_id < 0)) ids.push_back(s.id);
  return ids;
}

// What an agent remembers of a sequence between steps.
struct Sequence {
  std::vector<int32_t> table;
  SamplingState sampling;
  int32_t last_sample = -1;
};

class CpuExecutor : public Executor {
 public:
  CpuExecutor(const CheckpointHeader& header, const Deployment& deployment, const ParallelPlan& plan, int agent,
              Isa isa)
      : header_(header),
        deployment_(deployment),
        plan_(plan),
        self_(plan.agents[agent]),
        agent_(agent),
        queue_(MakeCpuQueue(deployment.agent(agent).threads, isa, plan.spin)) {}

  absl::Status Load() override {
    SetComputeFloatMode();
    const auto cache_type = CacheType(deployment_.cache.type);
    if (!cache_type)
      return absl::InvalidArgumentError(absl::StrCat("cache.type: \"", deployment_.cache.type, "\" is not known"));
    auto stage = Stage::Load(header_, deployment_, plan_, agent_, queue_.get());
    if (!stage.ok()) return stage.status();
    stage_ = *std::move(stage);
    KvShape shape{.layers = static_cast<int>(self_.layers.size()),
                  .kv_heads = static_cast<int>(self_.kv_heads.size()),
                  .head_dim = header_.config.head_dim,
                  .block_tokens = plan_.block_tokens,
                  .blocks = plan_.kv_blocks + plan_.swap_blocks,
                  .dtype = *cache_type};
    auto cache = KvCache::Create(shape);
    if (!cache.ok()) return cache.status();
    cache_ = *std::move(cache);
    x_.resize(static_cast<int64_t>(deployment_.schedule.max_batch_tokens) * stage_->hidden());
    if (self_.last) {
      logits_.resize(kLogitRows * stage_->vocab_slice());
      std::vector<Range> slices;
      for (int r = 0; r < plan_.ranks; ++r) slices.push_back(plan_.at(self_.stage, r).vocab);
      sampler_ = std::make_unique<Sampler>(slices, self_.rank, queue_.get());
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::optional<StepResult>> Run(const Step& step, Group& group) override;
  const Progress& progress() const override { return progress_; }
  int64_t weight_bytes() const override { return stage_ ? stage_->weight_bytes() : 0; }
  int64_t kv_bytes() const override { return cache_ ? cache_->bytes() : 0; }

 private:
  absl::Status Prepare(const Step& step, Group& group);
  absl::Status ReceiveSamples(const Step& step, Group& group);
  absl::Status SendSamples(const Step& step, Group& group);
  absl::Status Judge(const Step& step, Group& group, StepResult* result);
  void Collect(const Step& step, std::span<const std::pair<int, LogitRow>> rows, std::span<const RowResult> judged,
               StepResult* result);

  const CheckpointHeader& header_;
  const Deployment& deployment_;
  const ParallelPlan& plan_;
  const RankPlan& self_;
  const int agent_;
  std::unique_ptr<Queue> queue_;
  std::unique_ptr<Stage> stage_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<Sampler> sampler_;
  Progress progress_;
  uint64_t epoch_ = 0;
  std::unordered_map<uint64_t, Sequence> sequences_;
  // First of several stages: steps whose samples are still under way from the last stage.
  std::deque<std::pair<uint64_t, std::vector<uint64_t>>> awaited_;
  // Of one step.
  double copy_seconds_ = 0;
  std::vector<int32_t> ids_;
  std::vector<KvRow> rows_;
  std::vector<const int32_t*> tables_;
  std::vector<float> x_, logits_;
};

// Applies what comes before the forward (ends, tables, sampling, copies) and lays the batch out flat.
absl::Status CpuExecutor::Prepare(const Step& step, Group& group) {
  if (step.epoch != epoch_) {  // survivors of a re-formed group keep their weights, never their sequences
    sequences_.clear();
    awaited_.clear();
    epoch_ = step.epoch;
  }
  if (auto s = ReceiveSamples(step, group); !s.ok()) return s;
  for (uint64_t id : step.ended) sequences_.erase(id);
  copy_seconds_ = 0;
  if (!step.copies.empty()) {
    const auto begin = std::chrono::steady_clock::now();
    for (const BlockCopy& copy : step.copies) cache_->Copy(copy.from, copy.to);
    copy_seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
  ids_.clear();
  rows_.clear();
  tables_.clear();
  for (const StepSequence& s : step.sequences) {
    Sequence& state = sequences_[s.id];
    if (s.whole_tables) state.table.clear();
    if (!s.blocks.empty()) state.table.insert(state.table.end(), s.blocks[0].begin(), s.blocks[0].end());
    if (s.sampling) state.sampling.Set(*s.sampling);
    const int last = s.start + s.rows() - 1;
    if (last / plan_.block_tokens >= static_cast<int>(state.table.size()))
      return absl::InternalError(
          absl::StrCat("step ", step.number, ": sequence ", s.id, " has no block for position ", last));
    if (s.ids.empty() && self_.first && state.last_sample < 0)
      return absl::InternalError(absl::StrCat("step ", step.number, ": sequence ", s.id, " has no sample yet"));
    for (int i = 0; i < s.rows(); ++i) {
      ids_.push_back(s.ids.empty() ? state.last_sample : s.ids[i]);
      rows_.push_back({static_cast<int32_t>(tables_.size()), s.start + i});
    }
    tables_.push_back(state.table.data());
  }
  return absl::OkStatus();
}

// Ids travel from the last stage straight to the first, one message a step. Those that this step names ("your last
// sample") are waited for; so are those that must have been sent, as the master never has more than stages + 1 steps
// outstanding.
absl::Status CpuExecutor::ReceiveSamples(const Step& step, Group& group) {
  if (!self_.first || plan_.stages == 1) return absl::OkStatus();
  size_t wanted = 0;
  for (size_t i = 0; i < awaited_.size(); ++i) {
    const auto& [number, ids] = awaited_[i];
    const bool named = std::any_of(step.sequences.begin(), step.sequences.end(), [&](const StepSequence& s) {
      return s.ids.empty() && std::find(ids.begin(), ids.end(), s.id) != ids.end();
    });
    if (named || number + plan_.stages + 1 < step.number) wanted = i + 1;
  }
  for (; wanted > 0; --wanted) {
    const auto ids = std::move(awaited_.front().second);
    awaited_.pop_front();
    std::vector<int32_t> samples(ids.size());
    if (auto s = group.Receive(plan_.stages - 1, std::as_writable_bytes(std::span(samples))); !s.ok()) return s;
    for (size_t i = 0; i < ids.size(); ++i)
      if (auto it = sequences_.find(ids[i]); it != sequences_.end()) it->second.last_sample = samples[i];
  }
  return absl::OkStatus();
}

absl::Status CpuExecutor::SendSamples(const Step& step, Group& group) {
  if (plan_.stages == 1) return absl::OkStatus();
  std::vector<int32_t> samples;
  for (uint64_t id : Sampled(step)) samples.push_back(std::max(sequences_[id].last_sample, 0));
  if (samples.empty()) return absl::OkStatus();
  return group.Send(0, std::as_bytes(std::span(samples)));
}

absl::StatusOr<std::optional<StepResult>> CpuExecutor::Run(const Step& step, Group& group) {
  progress_.step.store(step.number, std::memory_order_relaxed);
  if (auto s = Prepare(step, group); !s.ok()) return s;
  if (self_.first && plan_.stages > 1) {
    if (auto ids = Sampled(step); !ids.empty()) awaited_.emplace_back(step.number, std::move(ids));
  }
  const int64_t m = rows_.size(), size = m * stage_->hidden();
  if (self_.first) {
    stage_->Embed(ids_, rows_, x_.data());
  } else if (auto s = group.Receive(self_.stage - 1, Bytes(x_.data(), size)); !s.ok()) {
    return s;
  }
  const KvView view{.layers = cache_->layers(), .rows = rows_, .tables = tables_};
  if (auto s = stage_->Forward(view, group, progress_, x_.data()); !s.ok()) return s;
  if (!self_.last) {
    if (auto s = group.Send(self_.stage + 1, Bytes(x_.data(), size)); !s.ok()) return s;
    return std::optional<StepResult>{};
  }
  StepResult result{.epoch = step.epoch, .number = step.number};
  result.copy_seconds = copy_seconds_;
  if (auto s = Judge(step, group, &result); !s.ok()) return s;
  if (auto s = SendSamples(step, group); !s.ok()) return s;
  if (self_.rank != 0) return std::optional<StepResult>{};
  return std::optional<StepResult>{std::move(result)};
}

// Logits and samples, kLogitRows at a time.
absl::Status CpuExecutor::Judge(const Step& step, Group& group, StepResult* result) {
  std::vector<std::pair<int, LogitRow>> wanted;  // index into step.sequences, row
  std::vector<int32_t> indices;                  // into x_
  int row = 0;
  for (size_t i = 0; i < step.sequences.size(); ++i) {
    const StepSequence& s = step.sequences[i];
    const SamplingState* state = &sequences_[s.id].sampling;
    const int n = s.rows();
    const int first = s.logits == LogitRows::kAll ? 0 : s.logits == LogitRows::kLast ? n - 1 : n;
    for (int k = first; k < n; ++k) {
      const int32_t known = k + 1 < n ? s.ids[k + 1] : s.logits == LogitRows::kAll ? s.next_id : -1;
      wanted.push_back({static_cast<int>(i), LogitRow{state, s.start + k, known}});
      indices.push_back(row + k);
    }
    if (s.logits != LogitRows::kNone) result->sequences.push_back({.id = s.id});
    row += n;
  }
  std::vector<RowResult> judged;
  std::vector<LogitRow> rows;
  for (size_t at = 0; at < wanted.size(); at += kLogitRows) {
    const size_t n = std::min<size_t>(kLogitRows, wanted.size() - at);
    stage_->Logits(x_.data(), std::span(indices).subspan(at, n), logits_.data());
    rows.clear();
    for (size_t i = 0; i < n; ++i) rows.push_back(wanted[at + i].second);
    if (auto s = sampler_->Run(logits_.data(), rows, group, &judged); !s.ok()) return s;
    Collect(step, std::span(wanted).subspan(at, n), judged, result);
  }
  return absl::OkStatus();
}

void CpuExecutor::Collect(const Step& step, std::span<const std::pair<int, LogitRow>> rows,
                          std::span<const RowResult> judged, StepResult* result) {
  for (size_t i = 0; i < rows.size(); ++i) {
    const uint64_t id = step.sequences[rows[i].first].id;
    // Results stand in the step's order, so the row's sequence is found from the back.
    auto out =
        std::find_if(result->sequences.rbegin(), result->sequences.rend(), [&](const auto& s) { return s.id == id; });
    if (!judged[i].finite) {
      out->status = absl::DataLossError("the model gave a value that is not finite (NaN or infinity) in its logits");
      out->samples.clear();
      sequences_[id].last_sample = 0;  // a row that ran ahead reads some id; its result is dropped
      continue;
    }
    if (!out->status.ok()) continue;
    if (rows[i].second.known_id >= 0) {
      out->prompt.push_back(judged[i].sample);
      continue;
    }
    out->samples.push_back(judged[i].sample);
    Sequence& state = sequences_[id];
    state.sampling.Accept(judged[i].sample.id);
    state.last_sample = judged[i].sample.id;
  }
}

}  // namespace

std::unique_ptr<Executor> MakeCpuExecutor(const CheckpointHeader& header, const Deployment& deployment,
                                          const ParallelPlan& plan, int agent, Isa isa) {
  return std::make_unique<CpuExecutor>(header, deployment, plan, agent, isa);
}

}  // namespace pangea
