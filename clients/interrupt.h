// Signals as a callback on a thread of its own, so that it may lock and cancel.
#pragma once
#include <signal.h>

#include <functional>
#include <initializer_list>
#include <thread>

namespace pangea::clients {

// One at a time. Make it before any other thread: the signals are blocked in the calling thread and in those it starts
// later.
class InterruptWatcher {
 public:
  explicit InterruptWatcher(std::function<void(int signal)> on_signal, std::initializer_list<int> signals = {SIGINT});
  ~InterruptWatcher();  // restores the calling thread's mask
  InterruptWatcher(const InterruptWatcher&) = delete;

 private:
  sigset_t set_;
  int stop_ = -1, signals_ = -1;
  std::thread thread_;
};

}  // namespace pangea::clients
