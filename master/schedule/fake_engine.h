// An engine for tests: what was asked of it, and what it answers. Thread safe.
#pragma once
#include <condition_variable>
#include <functional>
#include <mutex>
#include <set>
#include <vector>

#include "master/schedule/engine.h"

namespace pangea {

struct FakeEngine final : RequestPort {
  std::function<absl::Status(const SequenceRequest&)> on_submit;  // on the submitting thread; not set: OK
  std::vector<SequenceRequest> submitted;
  std::set<uint64_t> cancelled;
  struct Finished {
    uint64_t request;
    int choice;
    bool operator==(const Finished&) const = default;
  };
  std::vector<Finished> finished;
  struct Masked {
    uint64_t request;
    int choice, index;
    AllowedIds allowed;
  };
  std::vector<Masked> masks;
  EngineStats published;
  mutable std::mutex mutex;  // of all these, while others may be at it
  std::condition_variable changed;

  absl::Status Submit(SequenceRequest request) override;
  void Cancel(uint64_t request) override;
  void Finish(uint64_t request, int choice) override;
  void SetMask(uint64_t request, int choice, int index, AllowedIds allowed) override;
  EngineStats stats() const override;

  // Waits (bounded) until `count` requests were submitted; the last of them.
  SequenceRequest WaitSubmitted(size_t count);
  bool WaitCancelled(uint64_t request);
  // Waits (bounded) until `count` masks were given; the last of them.
  Masked WaitMasked(size_t count);
};

// An output with these ids, each with three alternatives.
Output IdList(uint64_t request, int choice, const std::vector<int32_t>& ids, FinishReason finish = FinishReason::kNone);
// One whose ids are bytes.
Output Ids(uint64_t request, int choice, const std::string& bytes, FinishReason finish = FinishReason::kNone);

}  // namespace pangea
