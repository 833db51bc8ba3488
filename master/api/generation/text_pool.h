// A few threads for parsing, templates and tokenising, with a bounded queue. Thread safe.
#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

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
  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<std::function<void()>> queue_;
  bool stopped_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace pangea
