// Signals as a callback on a thread of its own, so that it may lock and cancel.
#pragma once
#include <signal.h>

#include <functional>
#include <initializer_list>
#include <thread>

namespace pangea::clients {

// One at a time. Make it before any other thread: the signals are blocked in the calling thread and in those it starts
// later. Signals that the process was started to ignore (as nohup does) stay ignored.
class InterruptWatcher {
 public:
  // from_terminal: the kernel sent it for a key, such as Ctrl-C; false: another process did.
  using OnSignal = std::function<void(int signal, bool from_terminal)>;
  explicit InterruptWatcher(OnSignal on_signal, std::initializer_list<int> signals = {SIGINT});
  ~InterruptWatcher();  // restores the calling thread's mask; no callback runs after it
  InterruptWatcher(const InterruptWatcher&) = delete;

 private:
  sigset_t set_;
  int stop_ = -1, signals_ = -1;
  std::thread thread_;
};

}  // namespace pangea::clients
