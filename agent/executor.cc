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

std::span<std::byte> Bytes(float* p, int64_t n) { return {reinterpret_cast<std::byte*>(p), n * sizeof(float)}; }

// Sequences that a step samples, in order: every stage reads this from the step alone.
std::vector<uint64_t> Sampled(const Step& step) {
  std::vector<uint64_t> ids;
  for (const StepSequence& s : step.sequences)
    if (s.logits == LogitRows::kLast || (s.logits == LogitRows::kAll && s.next_id < 0)) ids.push_back(s.id);
  return ids;
}

// What an agent remembers of a sequence between steps, beside its slot's table and last sample in the batch.
struct Slot {
  int64_t blocks = 0;  // in its table
  SamplingState sampling;
};

class CpuExecutor : public Executor {
 public:
  CpuExecutor(const CheckpointHeader& header, const Deployment& deployment, const ParallelPlan& plan, int agent,
              const CpuOptions& options)
      : header_(header),
        deployment_(deployment),
        plan_(plan),
        self_(plan.agents[agent]),
        agent_(agent),
        tap_(options.tap),
        queue_(MakeCpuQueue(deployment.agent(agent).threads, options.isa, plan.spin, deployment.kernels.fusion)) {}

  absl::Status Load() override {
    SetComputeFloatMode();
    const auto cache_type = CacheType(deployment_.cache.type);
    if (!cache_type)
      return absl::InvalidArgumentError(absl::StrCat("cache.type: \"", deployment_.cache.type, "\" is not known"));
    auto stage = Stage::Load(header_, deployment_, plan_, agent_, queue_.get());
    if (!stage.ok()) return stage.status();
    stage_ = *std::move(stage);
    stage_->SetTap(tap_);
    KvShape shape{.layers = static_cast<int>(self_.layers.size()),
                  .kv_heads = static_cast<int>(self_.kv_heads.size()),
                  .head_dim = header_.config.head_dim,
                  .block_tokens = plan_.block_tokens,
                  .blocks = plan_.kv_blocks + plan_.swap_blocks,
                  .dtype = *cache_type};
    auto cache = KvCache::Create(shape);
    if (!cache.ok()) return cache.status();
    cache_ = *std::move(cache);
    const BatchShape batch = BatchShapeOf(header_.config, deployment_, plan_, agent_);
    batch_ = std::make_unique<BatchBuilder>(batch, queue_.get());
    slots_.resize(batch.slots);
    ForgetAll();
    if (self_.last) {
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
  void ForgetAll();
  absl::StatusOr<int> SlotOf(uint64_t id);
  absl::Status Prepare(const Step& step, Group& group);
  absl::Status AddRows(const StepSequence& sequence, int slot);
  absl::Status ReceiveSamples(const Step& step, Group& group);
  absl::Status SendSamples(const Step& step, Group& group);
  absl::Status Judge(const Step& step, const Batch& batch, Group& group, StepResult* result);
  void Collect(const Step& step, std::span<const std::pair<int, LogitRow>> rows, std::span<const RowResult> judged,
               StepResult* result);

  const CheckpointHeader& header_;
  const Deployment& deployment_;
  const ParallelPlan& plan_;
  const RankPlan& self_;
  const int agent_;
  Tap* const tap_;
  std::unique_ptr<Queue> queue_;
  std::unique_ptr<Stage> stage_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<Sampler> sampler_;
  Progress progress_;
  uint64_t epoch_ = 0;
  std::unique_ptr<BatchBuilder> batch_;
  std::vector<Slot> slots_;
  std::vector<int> free_slots_;
  std::unordered_map<uint64_t, int> slot_of_;  // by sequence
  // First of several stages: steps whose samples are still under way from the last stage.
  std::deque<std::pair<uint64_t, std::vector<uint64_t>>> awaited_;
  // Of one step.
  double copy_seconds_ = 0;
};

// Applies what comes before the forward (ends, tables, sampling, copies) and lays the batch out flat.
absl::Status CpuExecutor::Prepare(const Step& step, Group& group) {
  if (step.epoch != epoch_) {  // survivors of a re-formed group keep their weights, never their sequences
    ForgetAll();
    epoch_ = step.epoch;
  }
  if (auto s = ReceiveSamples(step, group); !s.ok()) return s;
  for (uint64_t id : step.ended) {
    const auto it = slot_of_.find(id);
    if (it == slot_of_.end()) continue;
    free_slots_.push_back(it->second);
    slot_of_.erase(it);
  }
  copy_seconds_ = 0;
  if (!step.copies.empty()) {
    const auto begin = std::chrono::steady_clock::now();
    for (const BlockCopy& copy : step.copies) cache_->Copy(copy.from, copy.to);
    copy_seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
  batch_->Begin();
  for (const StepSequence& s : step.sequences) {
    const auto slot = SlotOf(s.id);
    if (!slot.ok()) return slot.status();
    if (s.sampling) slots_[*slot].sampling.Set(*s.sampling);
    if (auto added = AddRows(s, *slot); !added.ok())
      return absl::Status(added.code(), absl::StrCat("step ", step.number, ": sequence ", s.id, added.message()));
  }
  return absl::OkStatus();
}

void CpuExecutor::ForgetAll() {
  slot_of_.clear();
  awaited_.clear();
  free_slots_.clear();
  for (int slot = static_cast<int>(slots_.size()); slot-- > 0;) free_slots_.push_back(slot);
}

// The sequence's slot; a new one for a sequence that is not known yet.
absl::StatusOr<int> CpuExecutor::SlotOf(uint64_t id) {
  if (const auto it = slot_of_.find(id); it != slot_of_.end()) return it->second;
  if (free_slots_.empty())
    return absl::InternalError(absl::StrCat("sequence ", id, " is one more than the ", slots_.size(), " that fit"));
  const int slot = free_slots_.back();
  free_slots_.pop_back();
  slots_[slot] = Slot();
  batch_->SetLast(slot, -1);
  slot_of_[id] = slot;
  return slot;
}

absl::Status CpuExecutor::AddRows(const StepSequence& s, int slot) {
  Slot& state = slots_[slot];
  if (s.whole_tables) state.blocks = 0;
  if (!s.blocks.empty()) {
    const int64_t most = (int64_t{plan_.context} + plan_.block_tokens - 1) / plan_.block_tokens;
    if (state.blocks + static_cast<int64_t>(s.blocks[0].size()) > most)
      return absl::InternalError(absl::StrCat(" has more than the ", most, " blocks of a whole context"));
    batch_->SetBlocks(slot, state.blocks, s.blocks[0]);
    state.blocks += s.blocks[0].size();
  }
  const int n = s.rows(), last = s.start + n - 1;
  if (last / plan_.block_tokens >= state.blocks)
    return absl::InternalError(absl::StrCat(" has no block for position ", last));
  if (s.ids.empty() && self_.first && batch_->last(slot) < 0) return absl::InternalError(" has no sample yet");
  for (int i = 0; i < n; ++i) {
    batch_->AddRow({slot, s.start + i, s.ids.empty() ? -1 : s.ids[i], s.adapter});
    if (s.logits == LogitRows::kAll || (s.logits == LogitRows::kLast && i == n - 1)) batch_->WantLogits();
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
      if (auto it = slot_of_.find(ids[i]); it != slot_of_.end()) batch_->SetLast(it->second, samples[i]);
  }
  return absl::OkStatus();
}

absl::Status CpuExecutor::SendSamples(const Step& step, Group& group) {
  if (plan_.stages == 1) return absl::OkStatus();
  std::vector<int32_t> samples;
  for (uint64_t id : Sampled(step)) samples.push_back(std::max(batch_->last(slot_of_.at(id)), 0));
  if (samples.empty()) return absl::OkStatus();
  return group.Send(0, std::as_bytes(std::span(samples)));
}

absl::StatusOr<std::optional<StepResult>> CpuExecutor::Run(const Step& step, Group& group) {
  progress_.step.store(step.number, std::memory_order_relaxed);
  if (auto s = Prepare(step, group); !s.ok()) return s;
  if (self_.first && plan_.stages > 1) {
    if (auto ids = Sampled(step); !ids.empty()) awaited_.emplace_back(step.number, std::move(ids));
  }
  const Batch& batch = batch_->Finish();
  const std::span<std::byte> x = Bytes(stage_->x(), batch.rows * stage_->hidden());
  if (self_.first) {
    stage_->Embed(batch);
  } else if (auto s = group.Receive(self_.stage - 1, x); !s.ok()) {
    return s;
  }
  if (auto s = stage_->Forward(batch, cache_->layers(), group, progress_); !s.ok()) return s;
  if (!self_.last) {
    if (auto s = group.Send(self_.stage + 1, x); !s.ok()) return s;
    return std::optional<StepResult>{};
  }
  StepResult result{.epoch = step.epoch, .number = step.number};
  result.copy_seconds = copy_seconds_;
  if (auto s = Judge(step, batch, group, &result); !s.ok()) return s;
  if (auto s = SendSamples(step, group); !s.ok()) return s;
  if (self_.rank != 0) return std::optional<StepResult>{};
  return std::optional<StepResult>{std::move(result)};
}

// Logits and samples, kLogitRows at a time.
absl::Status CpuExecutor::Judge(const Step& step, const Batch& batch, Group& group, StepResult* result) {
  std::vector<std::pair<int, LogitRow>> wanted;  // index into step.sequences, row
  for (size_t i = 0; i < step.sequences.size(); ++i) {
    const StepSequence& s = step.sequences[i];
    const SamplingState* state = &slots_[slot_of_.at(s.id)].sampling;
    const int n = s.rows();
    const int first = s.logits == LogitRows::kAll ? 0 : s.logits == LogitRows::kLast ? n - 1 : n;
    for (int k = first; k < n; ++k) {
      const int32_t known = k + 1 < n ? s.ids[k + 1] : s.logits == LogitRows::kAll ? s.next_id : -1;
      wanted.push_back({static_cast<int>(i), LogitRow{state, s.start + k, known}});
    }
    if (s.logits != LogitRows::kNone) result->sequences.push_back({.id = s.id});
  }
  std::vector<RowResult> judged;
  std::vector<LogitRow> rows;
  for (size_t at = 0; at < wanted.size(); at += kLogitRows) {
    const size_t n = std::min<size_t>(kLogitRows, wanted.size() - at);
    float* logits = stage_->Logits(batch, static_cast<int64_t>(at), static_cast<int64_t>(n));
    rows.clear();
    for (size_t i = 0; i < n; ++i) rows.push_back(wanted[at + i].second);
    if (auto s = sampler_->Run(logits, rows, group, &judged); !s.ok()) return s;
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
      batch_->SetLast(slot_of_.at(id), 0);  // a row that ran ahead reads some id; its result is dropped
      continue;
    }
    if (!out->status.ok()) continue;
    if (rows[i].second.known_id >= 0) {
      out->prompt.push_back(judged[i].sample);
      continue;
    }
    out->samples.push_back(judged[i].sample);
    const int slot = slot_of_.at(id);
    slots_[slot].sampling.Accept(judged[i].sample.id);
    batch_->SetLast(slot, judged[i].sample.id);
  }
}

}  // namespace

std::unique_ptr<Executor> MakeCpuExecutor(const CheckpointHeader& header, const Deployment& deployment,
                                          const ParallelPlan& plan, int agent, const CpuOptions& options) {
  return std::make_unique<CpuExecutor>(header, deployment, plan, agent, options);
}

}  // namespace pangea
