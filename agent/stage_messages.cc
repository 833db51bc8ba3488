// What goes from stage to stage: hidden states, and the ids that were drawn; through the hosts' group, or from device
// to device.
#include <algorithm>

#include "agent/stage_executor.h"

namespace pangea {

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
    if (auto s = ReceiveIds(ids, group); !s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::Status StageExecutor::ReceiveIds(const std::vector<uint64_t>& ids, Group& group) {
  std::vector<int32_t> slots;  // negative: of a sequence that has ended
  for (const uint64_t id : ids) {
    const auto at = slot_of_.find(id);
    slots.push_back(at != slot_of_.end() ? at->second : -1);
  }
  const auto n = static_cast<int64_t>(ids.size());
  if (exchange_ != nullptr) {
    const ExchangeMemory own(exchange_->shape, exchange_->own);
    pangea::ReceiveRows(*exchange_, own.ids, n, *queue_);
    queue_->Upload(own.ids_at, slots.data(), n * static_cast<int64_t>(sizeof(int32_t)));
    MoveIds({.to = batch_->device_last(), .to_at = own.ids_at, .from = own.ids, .n = n, .limit = header_.config.vocab},
            *queue_);
    for (const int slot : slots)
      if (slot >= 0) batch_->LastIsDrawn(slot);
    return absl::OkStatus();
  }
  std::vector<int32_t> samples(ids.size());
  if (auto s = group.Receive(plan_.stages - 1, std::as_writable_bytes(std::span(samples))); !s.ok()) return s;
  for (size_t i = 0; i < ids.size(); ++i)
    if (slots[i] >= 0) batch_->SetLast(slots[i], samples[i]);
  return absl::OkStatus();
}

absl::Status StageExecutor::SendSamples(const Step& step, Group& group) {
  if (plan_.stages == 1) return absl::OkStatus();
  std::vector<int32_t> samples, slots;
  for (const uint64_t id : SampledIn(step)) slots.push_back(slot_of_.at(id));
  if (slots.empty()) return absl::OkStatus();
  if (exchange_ != nullptr) {
    const ExchangeMemory own(exchange_->shape, exchange_->own);
    const auto n = static_cast<int64_t>(slots.size());
    queue_->Upload(own.ids_at, slots.data(), n * static_cast<int64_t>(sizeof(int32_t)));
    MoveIds(
        {.to = own.ids, .from = batch_->device_last(), .from_at = own.ids_at, .n = n, .limit = header_.config.vocab},
        *queue_);
    SendRows(*exchange_, own.ids, n, *queue_);
    return absl::OkStatus();
  }
  for (const int slot : slots) samples.push_back(std::max(batch_->last(slot), 0));
  return group.Send(0, std::as_bytes(std::span(samples)));
}

// The hidden state, from the stage before and to the one behind.
absl::Status StageExecutor::ReceiveX(const Batch& batch, int64_t rows, Group& group) {
  if (exchange_ != nullptr) {
    ReceiveRows(*exchange_, stage_->device_x(), rows * header_.config.hidden, *queue_);
    return absl::OkStatus();
  }
  if (auto s = group.Receive(self_.stage - 1, stage_->HostX(batch)); !s.ok()) return s;
  stage_->PutX(batch);
  return absl::OkStatus();
}

absl::Status StageExecutor::SendX(const Batch& batch, int64_t rows, Group& group) {
  if (exchange_ != nullptr) {
    SendRows(*exchange_, stage_->device_x(), rows * header_.config.hidden, *queue_);
    return absl::OkStatus();
  }
  const auto x = stage_->ReadX(batch);
  progress_.LeaveLayer();
  return group.Send(self_.stage + 1, x);
}

}  // namespace pangea
