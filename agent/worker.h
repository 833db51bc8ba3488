// One thread that runs tasks in the order in which they came.
#pragma once
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace pangea {

class Worker {
 public:
  Worker() : thread_([this] { Loop(); }) {}
  // REQUIRES: Stop returned true.
  ~Worker() { thread_.join(); }
  Worker(const Worker&) = delete;

  // False: too many tasks wait, nothing was added.
  bool Post(std::function<void()> task, size_t most = 1024) {
    std::lock_guard lock(mutex_);
    if (tasks_.size() >= most) return false;
    tasks_.push_back(std::move(task));
    changed_.notify_all();
    return true;
  }
  // Drops what waits and gives the running task so long to end; false: it is still running.
  bool Stop(std::chrono::milliseconds limit) {
    std::unique_lock lock(mutex_);
    stopping_ = true;
    tasks_.clear();
    changed_.notify_all();
    return changed_.wait_for(lock, limit, [this] { return ended_; });
  }

 private:
  void Loop() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
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

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  bool stopping_ = false, ended_ = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace pangea
