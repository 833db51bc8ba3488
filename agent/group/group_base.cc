#include "agent/group/group_base.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "configs/failpoint.h"

namespace pangea {

absl::Status GroupBase::why() const {
  MutexLock lock(mutex_);
  return why_;
}

absl::Status GroupBase::Kill(const absl::Status& why) {
  {
    MutexLock lock(mutex_);
    if (!why_.ok()) return why_;
    why_ = why;
    dead_.store(true, std::memory_order_release);
  }
  Wake();
  return why;
}

void GroupBase::Abort(const absl::Status& why) {
  Kill(why.ok() ? absl::AbortedError("the group was aborted") : why).IgnoreError();
}

template <typename Call>
absl::Status GroupBase::Enter(absl::string_view what, Activity activity, const absl::Status& arguments, Call call) {
  if (dead()) return why();
  const ActivityScope scope(spec_.activity, activity);
  const Failpoint at(Wall::kCollective);
  const uint64_t number = collectives_.fetch_add(1, std::memory_order_relaxed) + 1;
  absl::Status status = arguments.ok() ? call() : arguments;
  if (status.ok()) return status;
  // An abort from outside names its own reason; a wait that it ended has nothing to add.
  if (dead()) return why();
  return Kill(absl::Status(status.code(), absl::StrCat("stage ", stage(), " rank ", rank(), ", epoch ", spec_.epoch,
                                                       ", collective ", number, " (", what, "): ", status.message())));
}

absl::Status GroupBase::AllGather(std::span<const std::byte> mine, std::span<const size_t> sizes,
                                  std::span<std::byte> all) {
  absl::Status arguments;
  if (static_cast<int>(sizes.size()) != ranks()) {
    arguments = absl::InvalidArgumentError(absl::StrCat(sizes.size(), " sizes for ", ranks(), " ranks"));
  } else if (mine.size() != sizes[rank()] || all.size() != std::accumulate(sizes.begin(), sizes.end(), size_t{0})) {
    arguments = absl::InvalidArgumentError(
        absl::StrCat("buffers of ", mine.size(), " and ", all.size(), " bytes do not match the sizes"));
  }
  return Enter("all-gather", ranks() == 1 ? Activity::kBusy : Activity::kCommunication, arguments,
               [&]() -> absl::Status {
                 if (ranks() == 1) {
                   std::copy(mine.begin(), mine.end(), all.begin());
                   return absl::OkStatus();
                 }
                 return Gather(mine, sizes, all);
               });
}

absl::Status GroupBase::Send(int to_stage, std::span<const std::byte> data) {
  absl::Status arguments;
  if (to_stage < 0 || to_stage >= stages() || to_stage == stage()) {
    arguments = absl::InvalidArgumentError(absl::StrCat("no way to stage ", to_stage, " of ", stages()));
  }
  return Enter("send", Activity::kCommunication, arguments, [&] { return DoSend(to_stage, data); });
}

absl::Status GroupBase::Receive(int from_stage, std::span<std::byte> data) {
  absl::Status arguments;
  if (from_stage < 0 || from_stage >= stages() || from_stage == stage()) {
    arguments = absl::InvalidArgumentError(absl::StrCat("no way from stage ", from_stage, " of ", stages()));
  }
  return Enter("receive", Activity::kBubble, arguments, [&] { return DoReceive(from_stage, data); });
}

}  // namespace pangea
