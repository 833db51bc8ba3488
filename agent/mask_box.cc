#include "agent/mask_box.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace pangea {

void MaskBox::Open(absl::Duration limit) {
  MutexLock lock(mutex_);
  limit_ = limit;
}

void MaskBox::BeginEpoch(uint64_t epoch) {
  MutexLock lock(mutex_);
  epoch_ = epoch;
  done_ = 0;
  aborted_ = absl::OkStatus();
  wanted_.clear();
  changed_.notify_all();
}

void MaskBox::Abort(const absl::Status& why) {
  MutexLock lock(mutex_);
  aborted_ = why;
  changed_.notify_all();
}

void MaskBox::Expect(const Step& step) {
  MutexLock lock(mutex_);
  if (step.epoch != epoch_) return;
  for (const StepSequence& sequence : step.sequences) {
    if (sequence.masked) wanted_.try_emplace({step.number, sequence.id});
  }
}

absl::Status MaskBox::Deliver(Mask mask) {
  MutexLock lock(mutex_);
  if (mask.epoch != epoch_ || mask.step <= done_) return absl::OkStatus();
  const auto wanted = wanted_.find({mask.step, mask.sequence});
  if (wanted == wanted_.end() || wanted->second) {
    return absl::InvalidArgumentError(absl::StrCat("a mask for step ", mask.step, ", sequence ", mask.sequence,
                                                   wanted == wanted_.end() ? ", which has asked for none" : " again"));
  }
  wanted->second = std::move(mask.allowed);
  changed_.notify_all();
  return absl::OkStatus();
}

bool MaskBox::Waiting() {
  MutexLock lock(mutex_);
  return std::any_of(wanted_.begin(), wanted_.end(), [](const auto& wanted) { return !wanted.second; });
}

absl::StatusOr<AllowedIds> MaskBox::Take(const Step& step, uint64_t sequence) {
  MutexLock lock(mutex_);
  const Key key = {step.number, sequence};
  // The box may be emptied while this thread waits: it looks anew each time.
  const auto found = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) -> std::optional<AllowedIds>* {
    const auto wanted = wanted_.find(key);
    return wanted == wanted_.end() ? nullptr : &wanted->second;
  };
  const auto over = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return step.epoch != epoch_ || !aborted_.ok() || !found() || *found();
  };
  if (!changed_.wait_for(lock, absl::ToChronoNanoseconds(limit_), over)) {
    return absl::DeadlineExceededError(absl::StrCat("step ", step.number, ", sequence ", sequence,
                                                    ": its mask did not come within ", absl::FormatDuration(limit_)));
  }
  if (step.epoch != epoch_) return absl::AbortedError(absl::StrCat("epoch ", step.epoch, " is over"));
  if (!aborted_.ok()) return aborted_;
  if (!found())
    return absl::InternalError(absl::StrCat("step ", step.number, ", sequence ", sequence, " has no mask to wait for"));
  AllowedIds allowed = *std::move(*found());
  wanted_.erase(key);
  return allowed;
}

void MaskBox::Forget(const Step& step) {
  MutexLock lock(mutex_);
  if (step.epoch != epoch_) return;
  done_ = std::max(done_, step.number);
  wanted_.erase(wanted_.begin(), wanted_.lower_bound({step.number + 1, 0}));
}

}  // namespace pangea
