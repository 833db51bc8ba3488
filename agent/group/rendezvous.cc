#include "agent/group/rendezvous.h"

#include <chrono>

#include "absl/strings/str_cat.h"

namespace pangea {

void Rendezvous::Set(const std::string& key, const std::string& value) {
  Deliver(key, value);
  publish_(key, value);
}

void Rendezvous::Deliver(const std::string& key, const std::string& value) {
  MutexLock lock(mutex_);
  values_[key] = value;
  changed_.notify_all();
}

absl::StatusOr<std::string> Rendezvous::Get(const std::string& key, absl::Duration limit) {
  MutexLock lock(mutex_);
  const auto deadline = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(limit);
  const bool in_time = changed_.wait_until(lock, deadline, [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !closed_.ok() || values_.find(key) != values_.end();
  });
  if (!closed_.ok()) return closed_;
  if (!in_time) {
    return absl::DeadlineExceededError(
        absl::StrCat("rendezvous: nobody set \"", key, "\" within ", absl::FormatDuration(limit)));
  }
  return values_[key];
}

void Rendezvous::Close(const absl::Status& why) {
  std::function<void()> then;
  {
    MutexLock lock(mutex_);
    if (closed_.ok()) closed_ = why.ok() ? absl::AbortedError("the rendezvous was closed") : why;
    changed_.notify_all();
    then = then_;
  }
  if (then) then();
}

void Rendezvous::OnClose(std::function<void()> then) {
  bool closed;
  {
    MutexLock lock(mutex_);
    then_ = then;
    closed = !closed_.ok();
  }
  if (closed && then) then();
}

}  // namespace pangea
