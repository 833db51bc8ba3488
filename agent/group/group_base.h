// What every group shares: argument checks, the collective counter, and "one error and the group is dead".
#pragma once
#include <atomic>
#include <chrono>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "configs/mutex.h"
#include "pipeline/activity.h"
#include "pipeline/group.h"

namespace pangea {

struct GroupSpec {
  int stages = 1, ranks = 1;  // of the deployment
  int agent = 0;              // stage * ranks + rank
  uint64_t epoch = 1;
  absl::Duration limit = absl::Seconds(60);  // of every call, and of forming the group
  bool spin = false;                         // spin a while before sleeping: only with a core for every agent thread
  std::string host = "127.0.0.1";            // gloo: address on which this agent listens for its peers
  size_t slot_bytes = 256 << 10;             // shared memory: of a message from rank to rank, cut into so many bytes
  size_t channel_bytes = 1 << 20;     // sent to another stage and not yet received, at most (one message always fits)
  ActivityClock* activity = nullptr;  // told what the caller's time goes into; outlives the group
};

// Gather, DoSend and DoReceive may assume valid arguments, a live group and the executor thread.
class GroupBase : public Group {
 public:
  int stages() const final { return spec_.stages; }
  int ranks() const final { return spec_.ranks; }
  int stage() const final { return spec_.agent / spec_.ranks; }
  int rank() const final { return spec_.agent % spec_.ranks; }
  absl::Status AllGather(std::span<const std::byte> mine, std::span<const size_t> sizes,
                         std::span<std::byte> all) final;
  absl::Status Send(int to_stage, std::span<const std::byte> data) final;
  absl::Status Receive(int from_stage, std::span<std::byte> data) final;
  absl::Status status() const final { return dead() ? why() : absl::OkStatus(); }
  void Abort(const absl::Status& why) final;
  uint64_t collectives() const final { return collectives_.load(std::memory_order_relaxed); }

 protected:
  explicit GroupBase(const GroupSpec& spec) : spec_(spec) {}
  virtual absl::Status Gather(std::span<const std::byte> mine, std::span<const size_t> sizes,
                              std::span<std::byte> all) = 0;
  virtual absl::Status DoSend(int to_stage, std::span<const std::byte> data) = 0;
  virtual absl::Status DoReceive(int from_stage, std::span<std::byte> data) = 0;
  // DoReceive's, when the first bytes are there: what was a wait for another stage becomes a transfer.
  void Arrived() const {
    if (spec_.activity != nullptr) spec_.activity->Switch(Activity::kCommunication);
  }
  // Wakes this agent's waiting call and tells the peers, as far as the transport can. Any thread; once.
  virtual void Wake() = 0;

  const GroupSpec& spec() const { return spec_; }
  int agent(int stage, int rank) const { return stage * spec_.ranks + rank; }
  std::chrono::steady_clock::time_point Deadline() const {
    return std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(spec_.limit);
  }
  bool dead() const { return dead_.load(std::memory_order_acquire); }
  absl::Status why() const;  // OK while alive

 private:
  // Runs one call: refuses when dead, counts, and turns the first error into the group's death.
  template <typename Call>
  absl::Status Enter(absl::string_view what, Activity activity, const absl::Status& arguments, Call call);
  absl::Status Kill(const absl::Status& why);

  const GroupSpec spec_;
  std::atomic<uint64_t> collectives_{0};
  std::atomic<bool> dead_{false};
  mutable Mutex mutex_;
  absl::Status why_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pangea
