// Where masks wait for the draws they belong to. The control thread puts them in as they come, behind their steps; the
// executor thread asks between logits and draw, and waits, for a bounded time, for one that has not come yet. So a mask
// may be made while its step is computed.
#pragma once
#include <cstdint>
#include <map>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "configs/mutex.h"
#include "pipeline/step.h"

namespace pangea {

// Only masks that a step has asked for are kept, and only until that step is done: what it can hold is bounded by what
// the master may have outstanding. Thread safe.
class MaskBox {
 public:
  // limit: of one wait. Until it is called, nobody waits.
  void Open(absl::Duration limit);
  // Masks and waits of older epochs are over.
  void BeginEpoch(uint64_t epoch);
  // Every wait, now and until the next epoch begins, ends with this error.
  void Abort(const absl::Status& why);
  // Before the executor is given the step: which masks it will ask for.
  void Expect(const Step& step);
  // InvalidArgument: no step that came before has asked for it, or it came twice. One of an older epoch, or of a step
  // that is done, is dropped.
  absl::Status Deliver(Mask mask);

  // Whether a mask that a step has asked for has not come yet: what brings it must be read on.
  bool Waiting();

  // The executor thread: takes out the mask of one of the step's masked sequences. DeadlineExceeded when it does not
  // come in time, else as Abort or BeginEpoch say: the step has then failed, and its group with it, since another rank
  // may have got what this one did not.
  absl::StatusOr<AllowedIds> Take(const Step& step, uint64_t sequence);
  // The step is done: what nobody has taken is dropped.
  void Forget(const Step& step);

 private:
  using Key = std::pair<uint64_t, uint64_t>;  // step, sequence

  Mutex mutex_;
  CondVar changed_;
  absl::Duration limit_ ABSL_GUARDED_BY(mutex_);
  uint64_t epoch_ ABSL_GUARDED_BY(mutex_) = 0, done_ ABSL_GUARDED_BY(mutex_) = 0;  // done_: steps up to this one are
  absl::Status aborted_ ABSL_GUARDED_BY(mutex_);
  std::map<Key, std::optional<AllowedIds>> wanted_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pangea
