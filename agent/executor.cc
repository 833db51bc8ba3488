#include "agent/executor.h"

#include <algorithm>
#include <chrono>

#include "absl/strings/str_cat.h"
#include "agent/stage_executor.h"
#include "configs/deployment.h"
#include "kernels/threads.h"
#include "pipeline/capacity.h"

namespace pangea {

StageExecutor::StageExecutor(const CheckpointHeader& header, const Deployment& deployment, const ParallelPlan& plan,
                             int agent, const StageOptions& options)
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

absl::Status StageExecutor::Load() {
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
  // As many on every stage: they pad steps alike.
  logit_rows_ = static_cast<size_t>(LogitRowsAtOnce(deployment_, plan_, static_cast<int>(plan_.agents.size()) - 1));
  if (plan_.devices_exchange) {
    auto place = ExchangePlace::Make(ExchangeShapeOf(header_.config, deployment_, plan_), queue_);
    if (!place.ok()) return place.status();
    place_ = *std::move(place);
  }
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
  if (place_ != nullptr) memory.communication += place_->bytes();
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

std::unique_ptr<Executor> MakeStageExecutor(const CheckpointHeader& header, const Deployment& deployment,
                                            const ParallelPlan& plan, int agent, const StageOptions& options) {
  return std::make_unique<StageExecutor>(header, deployment, plan, agent, options);
}

}  // namespace pangea
