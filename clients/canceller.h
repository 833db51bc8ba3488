// Cancels one call at a time from another thread. Thread safe.
#pragma once
#include <functional>
#include <mutex>
#include <utility>

namespace pangea::clients {

class Canceller {
 public:
  void Cancel() {
    std::lock_guard lock(mutex_);
    cancelled_ = true;
    if (hook_) hook_();
  }
  bool cancelled() const {
    std::lock_guard lock(mutex_);
    return cancelled_;
  }
  // What ends the call that is under way; run at once if Cancel came first. Runs under the lock: after Clear it cannot
  // run any more.
  void Set(std::function<void()> hook) {
    std::lock_guard lock(mutex_);
    hook_ = std::move(hook);
    if (cancelled_ && hook_) hook_();
  }
  void Clear() {
    std::lock_guard lock(mutex_);
    hook_ = nullptr;
  }
  void Reset() {  // ready for the next call
    std::lock_guard lock(mutex_);
    cancelled_ = false;
  }

 private:
  mutable std::mutex mutex_;
  bool cancelled_ = false;
  std::function<void()> hook_;
};

}  // namespace pangea::clients
