#include "agent/group/thread_group.h"

#include <cstring>
#include <deque>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "configs/mutex.h"

namespace pangea {
namespace {

using Bytes = std::vector<std::byte>;

struct Shared {
  Shared(int stage_count, int ranks) : stages(stage_count) {
    for (Stage& stage : stages) stage.deposits.resize(ranks);
  }
  struct Stage {
    std::vector<std::optional<Bytes>> deposits;  // per rank; emptied when all have read
    int readers = 0;                             // ranks that still have to read this round; 0: depositing
  };
  Mutex mutex;
  CondVar changed;
  std::vector<Stage> stages ABSL_GUARDED_BY(mutex);
  std::map<std::pair<int, int>, std::deque<Bytes>> channels ABSL_GUARDED_BY(mutex);  // (from agent, to agent)
  std::optional<int> aborted_by ABSL_GUARDED_BY(mutex);                              // agent
};

class ThreadGroup : public GroupBase {
 public:
  ThreadGroup(const GroupSpec& spec, std::shared_ptr<Shared> shared) : GroupBase(spec), shared_(std::move(shared)) {}

 protected:
  absl::Status Gather(std::span<const std::byte> mine, std::span<const size_t> sizes,
                      std::span<std::byte> all) override {
    MutexLock lock(shared_->mutex);
    Shared::Stage& here = shared_->stages[stage()];
    const auto deadline = Deadline();
    // A fast rank must not start the next round while a slow one still reads this one.
    if (auto s = Wait(lock, deadline, [&] { return here.readers == 0 && !here.deposits[rank()]; }); !s.ok()) return s;
    here.deposits[rank()] = Bytes(mine.begin(), mine.end());
    auto complete = [&] {
      for (const auto& deposit : here.deposits) {
        if (!deposit) return false;
      }
      return true;
    };
    if (complete()) {
      here.readers = ranks();
      shared_->changed.notify_all();
    } else if (auto s = Wait(lock, deadline, [&] { return here.readers > 0; }); !s.ok()) {
      for (int r = 0; r < ranks(); ++r) {
        if (!here.deposits[r]) return absl::Status(s.code(), absl::StrCat("no data from rank ", r, ": ", s.message()));
      }
      return s;
    }
    size_t at = 0;
    for (int r = 0; r < ranks(); ++r) {
      const Bytes& deposit = *here.deposits[r];
      if (deposit.size() != sizes[r]) return absl::InternalError(absl::StrCat("rank ", r, " sent another size"));
      if (!deposit.empty()) std::memcpy(all.data() + at, deposit.data(), deposit.size());
      at += deposit.size();
    }
    if (--here.readers == 0) {
      for (auto& deposit : here.deposits) deposit.reset();
      shared_->changed.notify_all();
    }
    return absl::OkStatus();
  }

  absl::Status DoSend(int to_stage, std::span<const std::byte> data) override {
    MutexLock lock(shared_->mutex);
    if (shared_->aborted_by) return Aborted();
    shared_->channels[{spec().agent, agent(to_stage, rank())}].emplace_back(data.begin(), data.end());
    shared_->changed.notify_all();
    return absl::OkStatus();
  }

  absl::Status DoReceive(int from_stage, std::span<std::byte> data) override {
    MutexLock lock(shared_->mutex);
    auto& queue = shared_->channels[{agent(from_stage, rank()), spec().agent}];
    if (auto s = Wait(lock, Deadline(), [&] { return !queue.empty(); }); !s.ok()) {
      return absl::Status(s.code(), absl::StrCat("no data from stage ", from_stage, ": ", s.message()));
    }
    Arrived();
    const Bytes message = std::move(queue.front());
    queue.pop_front();
    if (message.size() != data.size()) {
      return absl::InternalError(
          absl::StrCat("stage ", from_stage, " sent ", message.size(), " bytes, not ", data.size()));
    }
    if (!message.empty()) std::memcpy(data.data(), message.data(), message.size());
    return absl::OkStatus();
  }

  void Wake() override {
    MutexLock lock(shared_->mutex);
    if (!shared_->aborted_by) shared_->aborted_by = spec().agent;
    shared_->changed.notify_all();
  }

 private:
  absl::Status Aborted() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(shared_->mutex) {
    return absl::AbortedError(absl::StrCat("aborted by agent ", *shared_->aborted_by));
  }
  template <typename Ready>
  absl::Status Wait(MutexLock& lock, std::chrono::steady_clock::time_point deadline, Ready ready)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(shared_->mutex) {
    if (!shared_->changed.wait_until(lock, deadline, [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(shared_->mutex) {
          return shared_->aborted_by.has_value() || ready();
        })) {
      return absl::DeadlineExceededError(absl::StrCat("not within ", absl::FormatDuration(spec().limit)));
    }
    return shared_->aborted_by ? Aborted() : absl::OkStatus();
  }

  const std::shared_ptr<Shared> shared_;
};

}  // namespace

std::vector<std::unique_ptr<Group>> MakeThreadGroups(int stages, int ranks, absl::Duration limit) {
  auto shared = std::make_shared<Shared>(stages, ranks);
  std::vector<std::unique_ptr<Group>> groups;
  for (int agent = 0; agent < stages * ranks; ++agent) {
    groups.push_back(std::make_unique<ThreadGroup>(
        GroupSpec{.stages = stages, .ranks = ranks, .agent = agent, .limit = limit}, shared));
  }
  return groups;
}

}  // namespace pangea
