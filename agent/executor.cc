#include "agent/executor.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <deque>
#include <unordered_map>

#include "absl/strings/str_cat.h"
#include "agent/kv_cache.h"
#include "agent/mask_box.h"
#include "agent/open_step.h"
#include "agent/sampler.h"
#include "configs/deployment.h"
#include "configs/log.h"
#include "kernels/threads.h"
#include "pipeline/capacity.h"
#include "pipeline/stage.h"

namespace pangea {
namespace {

// What an agent remembers of a sequence between steps, beside its slot's table and last sample in the batch.
struct Slot {
  int64_t blocks = 0;  // in its table
  SamplingState sampling;
};

class StageExecutor : public Executor {
 public:
  StageExecutor(const CheckpointHeader& header, const Deployment& deployment, const ParallelPlan& plan, int agent,
                const StageOptions& options)
      : header_(header),
        deployment_(deployment),
        plan_(plan),
        self_(plan.agents[agent]),
        agent_(agent),
        tap_(options.tap),
        own_queue_(options.queue != nullptr ? nullptr
                                            : MakeCpuQueue(deployment.agent(agent).threads, options.isa, plan.spin,
                                                           deployment.kernels.fusion)),
        queue_(options.queue != nullptr ? options.queue : own_queue_.get()) {
    if (queue_->host_memory()) queue_->set_weight_store(options.weights);
    if (queue_->host_memory()) pages_ = options.pages;
    queue_->set_makes_weights_up(options.makes_weights_up);
  }

  ~StageExecutor() override { queue_->Finish(); }  // what is under way uses what is given back now

  absl::Status Load() override {
    SetComputeFloatMode();
    if (deployment_.timeline.kernels && !deployment_.timeline.file.empty()) queue_->TimeKernels();
    auto stage = Stage::Load(header_, deployment_, plan_, agent_, queue_);
    if (!stage.ok()) return stage.status();
    stage_ = *std::move(stage);
    stage_->SetTap(tap_);
    KvShape shape{.kv_heads = static_cast<int>(self_.kv_heads.size()),
                  .head_dim = header_.config.head_dim,
                  .block_tokens = plan_.block_tokens,
                  .dtype = plan_.cache_type};
    for (int64_t layer = self_.layers.begin; layer < self_.layers.end; ++layer)
      shape.group_of_layer.push_back(plan_.cache_group(static_cast<int>(layer)));
    for (const CacheGroup& group : plan_.cache_groups()) shape.blocks.push_back(group.blocks + group.swap_blocks);
    auto cache = KvCache::Create(shape, queue_, pages_);
    if (!cache.ok()) return cache.status();
    cache_ = *std::move(cache);
    const BatchShape batch = BatchShapeOf(header_.config, deployment_, plan_, agent_);
    batch_ = std::make_unique<BatchBuilder>(batch, queue_);
    slots_.resize(batch.slots);
    ForgetAll();
    logit_rows_ = static_cast<size_t>(LogitRowsAtOnce(deployment_, plan_, agent_));
    if (DrawsOnDevice(deployment_, plan_, agent_) && CanSample(*queue_)) {
      device_sampler_ =
          std::make_unique<DeviceSampler>(SamplingShapeOf(deployment_, plan_, agent_), stage_->drawing(), queue_);
    } else if (self_.last) {
      std::vector<Range> slices;
      for (int r = 0; r < plan_.ranks; ++r) slices.push_back(plan_.at(self_.stage, r).vocab);
      sampler_ = std::make_unique<Sampler>(slices, self_.rank, stage_->raw(), queue_);
    }
    return absl::OkStatus();
  }

  absl::Status Begin(const Step& step, Group& group) override;
  absl::StatusOr<std::optional<StepResult>> End() override;
  // Alone in the layout: what goes to other agents goes through the host.
  bool overlaps() const override { return device_sampler_ != nullptr && plan_.stages == 1; }
  bool Done(bool all) override {
    return open_.empty() || queue_->Reached(all ? open_.back().mark : open_.front().mark);
  }
  std::vector<KernelTime> TakeKernels() override { return queue_->kernels(); }
  Queue::Times device_times() const override { return queue_->times(); }
  AgentMemory memory() const override;

 private:
  void ForgetAll();
  absl::StatusOr<int> SlotOf(uint64_t id);
  absl::Status Compute(const Step& step, Group& group, OpenStep* open);
  absl::Status Prepare(const Step& step, Group& group);
  absl::Status AddRows(const StepSequence& sequence, int slot);
  absl::Status ReceiveSamples(const Step& step, Group& group);
  absl::Status SendSamples(const Step& step, Group& group);
  std::vector<WantedRow> Wanted(const Step& step, StepResult* result) const;
  absl::Status Judge(const Step& step, const Batch& batch, Group& group, OpenStep* open);
  absl::Status TakeMasks(const Step& step, std::span<WantedRow> rows, std::deque<AllowedIds>* masks);
  bool Repeats(const Step& step) const;
  absl::StatusOr<bool> ComputeAgain(const Step& step, Group& group, OpenStep* open);
  DeviceSampler::On SampledOn() const;
  void Draw(std::span<const WantedRow> rows, OpenStep* open);
  void AreDrawn(std::span<const WantedRow> rows);
  void Settle(OpenStep* open);

  const CheckpointHeader& header_;
  const Deployment& deployment_;
  const ParallelPlan& plan_;
  const RankPlan& self_;
  const int agent_;
  Tap* const tap_;
  const std::unique_ptr<Queue> own_queue_;
  Queue* const queue_;
  std::unique_ptr<Stage> stage_;
  std::span<std::byte> pages_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<Sampler> sampler_;               // of the last stage: this one,
  std::unique_ptr<DeviceSampler> device_sampler_;  // or this one
  std::deque<OpenStep> open_;
  size_t logit_rows_ = 0;  // made at a time
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
absl::Status StageExecutor::Prepare(const Step& step, Group& group) {
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
    queue_->Finish();  // a device may still be at the step before
    const auto begin = std::chrono::steady_clock::now();
    for (const BlockCopy& copy : step.copies) cache_->Copy(copy.group, copy.from, copy.to);
    queue_->Finish();
    copy_seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
  batch_->Begin();
  for (const StepSequence& s : step.sequences) {
    const auto slot = SlotOf(s.id);
    if (!slot.ok()) return slot.status();
    if (s.sampling && s.sampling->params->top_logprobs > deployment_.limits.top_logprobs)
      return absl::InternalError(
          absl::StrCat("step ", step.number, ": sequence ", s.id, " asks for ", s.sampling->params->top_logprobs,
                       " alternatives, limits.top_logprobs is ", deployment_.limits.top_logprobs));
    if (s.sampling) {
      slots_[*slot].sampling.Set(*s.sampling);
      if (device_sampler_ != nullptr) device_sampler_->Begin(*slot, slots_[*slot].sampling);
    }
    if (slots_[*slot].sampling.params == nullptr) {
      return absl::InternalError(
          absl::StrCat("step ", step.number, ": sequence ", s.id, " begins without saying how it is sampled"));
    }
    if (auto added = AddRows(s, *slot); !added.ok())
      return absl::Status(added.code(), absl::StrCat("step ", step.number, ": sequence ", s.id, added.message()));
  }
  return absl::OkStatus();
}

AgentMemory StageExecutor::memory() const {
  if (batch_ == nullptr) return {};
  AgentMemory memory = stage_->memory();
  for (const KvLayer& layer : cache_->layers()) {
    const CacheGroup group = plan_.cache_groups()[layer.group];
    memory.pages += layer.kv_heads * layer.block_stride * group.blocks;
    memory.swap += layer.kv_heads * layer.block_stride * group.swap_blocks;
  }
  memory.activations += batch_->bytes();
  return memory;
}

void StageExecutor::ForgetAll() {
  slot_of_.clear();
  awaited_.clear();
  free_slots_.clear();
  for (int slot = static_cast<int>(slots_.size()); slot-- > 0;) free_slots_.push_back(slot);
}

// The sequence's slot; a new one for a sequence that is not known yet.
absl::StatusOr<int> StageExecutor::SlotOf(uint64_t id) {
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

absl::Status StageExecutor::AddRows(const StepSequence& s, int slot) {
  Slot& state = slots_[slot];
  if (s.whole_tables) state.blocks = 0;
  if (!s.blocks.empty()) {
    const int64_t most = (int64_t{plan_.context} + plan_.block_tokens - 1) / plan_.block_tokens;
    const int64_t more = s.blocks[0].size();  // in every group
    if (state.blocks + more > most)
      return absl::InternalError(absl::StrCat(" has more than the ", most, " blocks of a whole context"));
    for (size_t g = 0; g < s.blocks.size(); ++g)
      batch_->SetBlocks({.group = static_cast<int>(g), .slot = slot, .first = state.blocks}, s.blocks[g]);
    state.blocks += more;
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
absl::Status StageExecutor::ReceiveSamples(const Step& step, Group& group) {
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

absl::Status StageExecutor::SendSamples(const Step& step, Group& group) {
  if (plan_.stages == 1) return absl::OkStatus();
  std::vector<int32_t> samples;
  for (uint64_t id : SampledIn(step)) samples.push_back(std::max(batch_->last(slot_of_.at(id)), 0));
  if (samples.empty()) return absl::OkStatus();
  return group.Send(0, std::as_bytes(std::span(samples)));
}

absl::Status StageExecutor::Begin(const Step& step, Group& group) {
  auto s = Compute(step, group, &open_.emplace_back());
  if (s.ok()) return s;
  queue_->Finish();  // it may write there
  open_.pop_back();
  return s;
}

absl::Status StageExecutor::Compute(const Step& step, Group& group, OpenStep* open) {
  if (open_.size() == 1) progress_.EnterStep(step.number, step.rows());
  queue_->Begin();
  if (auto s = Prepare(step, group); !s.ok()) return s;
  if (self_.first && plan_.stages > 1) {
    if (auto ids = SampledIn(step); !ids.empty()) awaited_.emplace_back(step.number, std::move(ids));
  }
  open->result = {.epoch = step.epoch, .number = step.number, .copy_seconds = copy_seconds_};
  open->rows = step.rows();
  progress_.rows.fetch_add(open->rows, std::memory_order_relaxed);
  progress_.multiply_adds.fetch_add(open->rows * stage_->multiply_adds_per_row(), std::memory_order_relaxed);
  if (Repeats(step)) {
    if (auto done = ComputeAgain(step, group, open); !done.ok() || *done) return done.status();
  }
  const Batch& batch = batch_->Finish();
  if (self_.first) {
    stage_->Embed(batch);
  } else {
    if (auto s = group.Receive(self_.stage - 1, stage_->HostX(batch)); !s.ok()) return s;
    stage_->PutX(batch);
  }
  if (auto s = stage_->Forward(batch, cache_->layers(), group, progress_); !s.ok()) return s;
  if (!self_.last) {
    const auto x = stage_->ReadX(batch);
    progress_.LeaveLayer();
    return group.Send(self_.stage + 1, x);
  }
  if (auto s = Judge(step, batch, group, open); !s.ok()) return s;
  if (overlaps()) {
    open->mark = queue_->Mark();
    return absl::OkStatus();
  }
  if (device_sampler_ != nullptr || batch.logit_rows.empty()) {  // else the logits were waited for
    queue_->Finish();
    progress_.LeaveLayer();
  }
  Settle(open);
  return SendSamples(step, group);
}

// A step that does nothing but decode, all of it on the device.
bool StageExecutor::Repeats(const Step& step) const {
  if (!overlaps() || !queue_->repeats() || tap_ != nullptr || step.sequences.empty()) return false;
  if (step.sequences.size() > logit_rows_) return false;
  return OnlyDecodes(step);
}

// The device has done the like before, but for the numbers that it is told first. False: it has no room for all edits.
absl::StatusOr<bool> StageExecutor::ComputeAgain(const Step& step, Group& group, OpenStep* open) {
  StepResult result = open->result;
  std::vector<WantedRow> wanted = Wanted(step, &result);
  std::vector<DeviceSampler::Row> rows;
  for (const WantedRow& row : wanted) rows.push_back({row.row, row.slot});
  const int64_t padded = std::min<int64_t>(PaddedRows(static_cast<int64_t>(rows.size())),
                                           std::min<int64_t>(logit_rows_, deployment_.schedule.max_batch_tokens));
  DeviceSampler::Drawn drawn;
  DeviceSampler::MakeRoom(rows, &drawn);
  SampleArgs args{.tops = static_cast<int64_t>(drawn.most)};
  if (device_sampler_->Tell(SampledOn(), rows, static_cast<size_t>(padded), &args) < rows.size()) return false;
  batch_->Pad(padded);
  const Batch& batch = batch_->Finish();
  std::vector<int64_t> key{padded, args.cuts, args.draws, args.logprobs, args.tops};
  for (const AttentionWork& work : batch.attention)
    key.insert(key.end(), {static_cast<int64_t>(work.items.size()), work.queries, work.longest});
  absl::Status status = group.status();
  queue_->Repeat(key, [&] {
    stage_->Embed(batch);
    status = stage_->Forward(batch, cache_->layers(), group, progress_);
    stage_->MakeLogits(batch, 0, padded);
    SampleIds(args, *queue_);
    return status.ok();
  });
  if (!status.ok()) return status;
  open->result = std::move(result);
  open->drawn.push_back(std::move(drawn));
  device_sampler_->Fetch(args, rows.size(), 0, &open->drawn.back());
  AreDrawn(wanted);
  open->wanted = std::move(wanted);
  open->mark = queue_->Mark();
  return true;
}

absl::StatusOr<std::optional<StepResult>> StageExecutor::End() {
  OpenStep& open = open_.front();
  if (overlaps()) {
    queue_->Wait(open.mark);
    progress_.LeaveLayer();
    Settle(&open);
  }
  std::optional<StepResult> result;
  if (self_.last && self_.rank == 0) result = std::move(open.result);
  open_.pop_front();
  if (!open_.empty()) progress_.EnterStep(open_.front().result.number, open_.front().rows);
  return result;
}

// All rows whose logits the step wants, in order; room for each such sequence in the result.
std::vector<WantedRow> StageExecutor::Wanted(const Step& step, StepResult* result) const {
  std::vector<WantedRow> wanted;
  for (size_t i = 0; i < step.sequences.size(); ++i) {
    const StepSequence& s = step.sequences[i];
    if (s.logits == LogitRows::kNone) continue;
    const int slot = slot_of_.at(s.id), n = s.rows();
    for (int k = s.logits == LogitRows::kAll ? 0 : n - 1; k < n; ++k) {
      const int32_t known = k + 1 < n ? s.ids[k + 1] : s.logits == LogitRows::kAll ? s.next_id : -1;
      wanted.push_back({.sequence = i,
                        .out = result->sequences.size(),
                        .slot = slot,
                        .row = {&slots_[slot].sampling, s.start + k, known}});
    }
    result->sequences.push_back({.id = s.id});
  }
  return wanted;
}

// masks: where they lie as long as the rows are looked at.
absl::Status StageExecutor::TakeMasks(const Step& step, std::span<WantedRow> rows, std::deque<AllowedIds>* masks) {
  for (WantedRow& wanted : rows) {
    const StepSequence& s = step.sequences[wanted.sequence];
    if (!s.masked || wanted.row.known_id >= 0) continue;
    auto mask = masks_->Take(step, s.id);
    if (!mask.ok()) return mask.status();
    wanted.row.mask = &masks->emplace_back(*std::move(mask));
  }
  return absl::OkStatus();
}

// Logits and samples, logit_rows_ at a time.
absl::Status StageExecutor::Judge(const Step& step, const Batch& batch, Group& group, OpenStep* open) {
  std::vector<WantedRow> wanted = Wanted(step, &open->result);
  std::vector<RowResult> judged;
  std::vector<LogitRow> rows;
  for (size_t at = 0; at < wanted.size(); at += logit_rows_) {
    const size_t n = std::min(logit_rows_, wanted.size() - at);
    const std::span<WantedRow> some = std::span(wanted).subspan(at, n);
    stage_->MakeLogits(batch, static_cast<int64_t>(at), static_cast<int64_t>(n));
    float* const logits = device_sampler_ != nullptr ? nullptr : stage_->ReadLogits(static_cast<int64_t>(n));
    std::deque<AllowedIds> masks;  // each stays where it is
    if (auto s = TakeMasks(step, some, &masks); !s.ok()) return s;
    if (device_sampler_ != nullptr) {
      Draw(some, open);
      continue;
    }
    rows.clear();
    for (const WantedRow& row : some) rows.push_back(row.row);
    if (auto s = sampler_->Run(logits, rows, group, &judged); !s.ok()) return s;
    progress_.LeaveLayer();  // as long as a layer, or longer
    for (size_t i = 0; i < n; ++i) {
      Collect(some[i], judged[i], &open->result);
      if (some[i].row.known_id >= 0) continue;
      const int slot = some[i].slot;
      if (judged[i].finite) slots_[slot].sampling.Accept(judged[i].sample.id);
      batch_->SetLast(slot, judged[i].finite ? judged[i].sample.id : 0);  // a row that ran ahead reads some id
    }
  }
  for (WantedRow& row : wanted) row.row.mask = nullptr;  // gone
  if (device_sampler_ != nullptr) open->wanted = std::move(wanted);
  return absl::OkStatus();
}

DeviceSampler::On StageExecutor::SampledOn() const {
  return {stage_->device_logits(), stage_->edited(), batch_->device_last()};
}

void StageExecutor::Draw(std::span<const WantedRow> rows, OpenStep* open) {
  std::vector<DeviceSampler::Row> told;
  for (const WantedRow& wanted : rows) told.push_back({wanted.row, wanted.slot});
  device_sampler_->Draw(SampledOn(), told, &open->drawn.emplace_back());
  AreDrawn(rows);
}

// From now on each of these sequences has an id more, though the host does not know it yet.
void StageExecutor::AreDrawn(std::span<const WantedRow> rows) {
  for (const WantedRow& wanted : rows) {
    if (wanted.row.known_id >= 0) continue;
    ++slots_[wanted.slot].sampling.count;
    batch_->LastIsDrawn(wanted.slot);
  }
}

// What the device drew.
void StageExecutor::Settle(OpenStep* open) {
  for (size_t i = 0; i < open->wanted.size(); ++i) {
    const RowResult drawn = open->drawn[i / logit_rows_].Result(i % logit_rows_);
    const WantedRow& wanted = open->wanted[i];
    Collect(wanted, drawn, &open->result);
    if (plan_.stages > 1 && wanted.row.known_id < 0) batch_->SetLast(wanted.slot, drawn.finite ? drawn.sample.id : 0);
  }
}

}  // namespace

std::unique_ptr<Executor> MakeStageExecutor(const CheckpointHeader& header, const Deployment& deployment,
                                            const ParallelPlan& plan, int agent, const StageOptions& options) {
  return std::make_unique<StageExecutor>(header, deployment, plan, agent, options);
}

}  // namespace pangea
