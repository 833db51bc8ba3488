// The steps of an agent that computes.
#include <algorithm>
#include <deque>

#include "agent/mask_box.h"
#include "agent/stage_executor.h"
#include "configs/deployment.h"

namespace pangea {

absl::Status StageExecutor::Begin(const Step& step, Group& group) {
  exchange_ = group.exchange();
  OpenStep& open = open_.emplace_back();
  open.group = &group;
  auto s = Compute(step, group, &open);
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
    if (auto s = ReceiveX(batch, batch.rows, group); !s.ok()) return s;
  }
  if (auto s = stage_->Forward(batch, cache_->layers(), group, progress_); !s.ok()) return s;
  if (auto s = self_.last ? Judge(step, batch, group, open) : SendX(batch, batch.rows, group); !s.ok()) return s;
  if (overlaps()) {
    open->mark = queue_->Mark();  // before the ids go: the first stage may take them much later
    return self_.last ? SendSamples(step, group) : absl::OkStatus();
  }
  if (!self_.last) return absl::OkStatus();
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
  // A graph of a library's transfers would keep an aborted connection alive.
  if (exchange_ != nullptr && exchange_->shape.library) return false;
  if (step.sequences.size() > logit_rows_) return false;
  return OnlyDecodes(step);
}

// The device has done the like before, but for the numbers that it is told first. False: it has no room for all edits.
absl::StatusOr<bool> StageExecutor::ComputeAgain(const Step& step, Group& group, OpenStep* open) {
  const int64_t padded =
      std::min<int64_t>(PaddedRows(open->rows), std::min<int64_t>(logit_rows_, deployment_.schedule.max_batch_tokens));
  StepResult result = open->result;
  std::vector<WantedRow> wanted;
  DeviceSampler::Drawn drawn;
  SampleArgs args;
  if (self_.last) {
    wanted = Wanted(step, &result);
    std::vector<DeviceSampler::Row> rows;
    for (const WantedRow& row : wanted) rows.push_back({row.row, row.slot});
    DeviceSampler::MakeRoom(rows, &drawn);
    args.tops = static_cast<int64_t>(drawn.most);
    if (device_sampler_->Tell(SampledOn(), rows, static_cast<size_t>(padded), &args) < rows.size()) return false;
  }
  batch_->Pad(padded);
  const Batch& batch = batch_->Finish();
  std::vector<int64_t> key{padded, args.cuts, args.draws, args.logprobs, args.tops};
  for (const AttentionWork& work : batch.attention)
    key.insert(key.end(), {static_cast<int64_t>(work.items.size()), work.queries, work.longest});  // all of one row
  absl::Status status = self_.first ? group.status() : ReceiveX(batch, open->rows, group);
  queue_->Repeat(key, [&] {
    if (self_.first) stage_->Embed(batch);
    status = stage_->Forward(batch, cache_->layers(), group, progress_);
    if (self_.last) {
      stage_->MakeLogits(batch, 0, padded, group);
      SampleIds(args, *queue_);
    }
    return status.ok();
  });
  if (status.ok() && !self_.last) status = SendX(batch, open->rows, group);
  if (!status.ok()) return status;
  if (self_.last) {
    open->result = std::move(result);
    open->drawn.push_back(std::move(drawn));
    device_sampler_->Fetch(args, wanted.size(), 0, &open->drawn.back());
    AreDrawn(wanted);
    open->wanted = std::move(wanted);
  }
  open->mark = queue_->Mark();
  if (auto s = self_.last ? SendSamples(step, group) : absl::OkStatus(); !s.ok()) return s;
  return true;
}

absl::StatusOr<std::optional<StepResult>> StageExecutor::End() {
  OpenStep& open = open_.front();
  if (overlaps()) {
    queue_->Wait(open.mark);
    progress_.LeaveLayer();
    if (auto s = open.group->status(); exchange_ != nullptr && !s.ok()) {  // what its device has made is void
      open_.pop_front();
      return s;
    }
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
    stage_->MakeLogits(batch, static_cast<int64_t>(at), static_cast<int64_t>(n), group);
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
    if (plan_.stages > 1 && exchange_ == nullptr && wanted.row.known_id < 0)
      batch_->SetLast(wanted.slot, drawn.finite ? drawn.sample.id : 0);
  }
}

}  // namespace pangea
