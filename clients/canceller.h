// Cancels one call at a time from another thread. Thread safe.
#pragma once
#include <functional>
#include <utility>

#include "configs/mutex.h"

namespace pangea::clients {

class Canceller {
 public:
  void Cancel() {
    MutexLock lock(mutex_);
    cancelled_ = true;
    if (hook_) hook_();
  }
  bool cancelled() const {
    MutexLock lock(mutex_);
    return cancelled_;
  }
  // What ends the call that is under way; run at once if Cancel came first. Runs under the lock: after Clear it cannot
  // run any more.
  void Set(std::function<void()> hook) {
    MutexLock lock(mutex_);
    hook_ = std::move(hook);
    if (cancelled_ && hook_) hook_();
  }
  void Clear() {
    MutexLock lock(mutex_);
    hook_ = nullptr;
  }
  void Reset() {  // ready for the next call
    MutexLock lock(mutex_);
    cancelled_ = false;
  }

 private:
  mutable Mutex mutex_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  std::function<void()> hook_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pangea::clients
