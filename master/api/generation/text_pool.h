// A few threads for parsing, templates and tokenising, with a bounded queue. Thread safe.
#pragma once
#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "configs/mutex.h"

namespace pangea {

class TextPool {
 public:
  TextPool(int threads, size_t queue);
  ~TextPool();                            // Stop()
  bool Push(std::function<void()> work);  // false: the queue is full, or stopped
  void Stop();                            // ends after the work in hand; what waits is dropped

 private:
  void Loop();

  const size_t limit_;
  Mutex mutex_;
  CondVar ready_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace pangea
