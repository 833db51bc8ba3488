// std::mutex and its kin with the annotations of clang's thread-safety analysis (integration_tests/layering_test has it
// look): what a mutex guards is said where it is declared, with ABSL_GUARDED_BY, and what a function needs held with
// ABSL_EXCLUSIVE_LOCKS_REQUIRED. Not absl::Mutex: Debian's library is built without the sanitizers, so TSan would see
// none of its locks.
#pragma once
#include <condition_variable>
#include <mutex>

#include "absl/base/thread_annotations.h"

namespace pangea {

class ABSL_LOCKABLE Mutex {
 public:
  void lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() { mutex_.lock(); }
  void unlock() ABSL_UNLOCK_FUNCTION() { mutex_.unlock(); }

 private:
  friend class MutexLock;
  std::mutex mutex_;
};

// Held from here to the end of the block, but where it is let go in between.
class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex) : lock_(mutex.mutex_) {}
  ~MutexLock() ABSL_UNLOCK_FUNCTION() {}
  MutexLock(const MutexLock&) = delete;
  void unlock() ABSL_UNLOCK_FUNCTION() { lock_.unlock(); }
  void lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() { lock_.lock(); }

 private:
  friend class CondVar;
  std::unique_lock<std::mutex> lock_;
};

// Waits with the lock let go, and comes back with it held. A condition is a lambda that reads what the mutex guards:
//   changed_.wait(lock, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return ready_; });
class CondVar {
 public:
  void notify_one() { variable_.notify_one(); }
  void notify_all() { variable_.notify_all(); }
  void wait(MutexLock& lock) { variable_.wait(lock.lock_); }
  template <class Condition>
  void wait(MutexLock& lock, Condition condition) {
    variable_.wait(lock.lock_, condition);
  }
  template <class Duration, class Condition>
  bool wait_for(MutexLock& lock, Duration limit, Condition condition) {
    return variable_.wait_for(lock.lock_, limit, condition);
  }
  template <class Time>
  std::cv_status wait_until(MutexLock& lock, Time until) {
    return variable_.wait_until(lock.lock_, until);
  }
  template <class Time, class Condition>
  bool wait_until(MutexLock& lock, Time until, Condition condition) {
    return variable_.wait_until(lock.lock_, until, condition);
  }

 private:
  std::condition_variable variable_;
};

}  // namespace pangea
