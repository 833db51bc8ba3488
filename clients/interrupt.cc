#include "clients/interrupt.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <utility>

namespace pangea::clients {
namespace {

sigset_t Interrupt() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  return set;
}

}  // namespace

InterruptWatcher::InterruptWatcher(std::function<void()> on_interrupt) {
  const sigset_t set = Interrupt();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  stop_ = eventfd(0, EFD_CLOEXEC);
  signals_ = signalfd(-1, &set, SFD_CLOEXEC);
  thread_ = std::thread([this, on_interrupt = std::move(on_interrupt)] {
    for (;;) {
      pollfd fds[] = {{stop_, POLLIN, 0}, {signals_, POLLIN, 0}};
      if (poll(fds, 2, -1) < 0) continue;  // EINTR
      if (fds[0].revents != 0) return;
      signalfd_siginfo info;
      if (fds[1].revents != 0 && read(signals_, &info, sizeof(info)) == sizeof(info)) on_interrupt();
    }
  });
}

InterruptWatcher::~InterruptWatcher() {
  eventfd_write(stop_, 1);
  thread_.join();
  close(stop_);
  close(signals_);
  const sigset_t set = Interrupt();
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

}  // namespace pangea::clients
