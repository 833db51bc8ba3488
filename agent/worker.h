// One thread that runs tasks in the order in which they came.
#pragma once
#include <chrono>
#include <deque>
#include <functional>
#include <thread>

#include "configs/mutex.h"

namespace pangea {

class Worker {
 public:
  Worker() : thread_([this] { Loop(); }) {}
  // REQUIRES: Stop returned true.
  ~Worker() { thread_.join(); }
  Worker(const Worker&) = delete;

  // False: too many tasks wait, nothing was added.
  bool Post(std::function<void()> task, size_t most = 1024) {
    MutexLock lock(mutex_);
    if (tasks_.size() >= most) return false;
    tasks_.push_back(std::move(task));
    changed_.notify_all();
    return true;
  }
  // Whether a task waits for the one that runs.
  bool waits() {
    MutexLock lock(mutex_);
    return !tasks_.empty();
  }
  // Drops what waits and gives the running task so long to end; false: it is still running.
  bool Stop(std::chrono::milliseconds limit) {
    MutexLock lock(mutex_);
    stopping_ = true;
    tasks_.clear();
    changed_.notify_all();
    return changed_.wait_for(lock, limit, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return ended_; });
  }

 private:
  void Loop() {
    MutexLock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_ || !tasks_.empty(); });
      if (stopping_) break;
      std::function<void()> task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
      task = nullptr;
      lock.lock();
    }
    ended_ = true;
    changed_.notify_all();
  }

  Mutex mutex_;
  CondVar changed_;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false, ended_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace pangea
