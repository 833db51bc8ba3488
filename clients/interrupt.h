// SIGINT as a callback on a thread of its own, so that it may lock and cancel.
#pragma once
#include <functional>
#include <thread>

namespace pangea::clients {

// One at a time. Make it before any other thread: the signal is blocked in the calling thread and in those it starts
// later.
class InterruptWatcher {
 public:
  explicit InterruptWatcher(std::function<void()> on_interrupt);
  ~InterruptWatcher();  // restores the calling thread's mask
  InterruptWatcher(const InterruptWatcher&) = delete;

 private:
  int stop_ = -1, signals_ = -1;
  std::thread thread_;
};

}  // namespace pangea::clients
