#include "clients/interrupt.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <utility>

namespace pangea::clients {
namespace {

bool Ignored(int signal) {
  struct sigaction action;
  return sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

}  // namespace

InterruptWatcher::InterruptWatcher(OnSignal on_signal, std::initializer_list<int> signals) {
  sigemptyset(&set_);
  for (int signal : signals) {
    if (!Ignored(signal)) sigaddset(&set_, signal);
  }
  pthread_sigmask(SIG_BLOCK, &set_, nullptr);
  stop_ = eventfd(0, EFD_CLOEXEC);
  signals_ = signalfd(-1, &set_, SFD_CLOEXEC);
  thread_ = std::thread([this, on_signal = std::move(on_signal)] {
    for (;;) {
      pollfd fds[] = {{stop_, POLLIN, 0}, {signals_, POLLIN, 0}};
      if (poll(fds, 2, -1) < 0) continue;  // EINTR
      if (fds[0].revents != 0) return;
      signalfd_siginfo info;
      if (fds[1].revents != 0 && read(signals_, &info, sizeof(info)) == sizeof(info))
        on_signal(static_cast<int>(info.ssi_signo), info.ssi_code == SI_KERNEL);
    }
  });
}

InterruptWatcher::~InterruptWatcher() {
  eventfd_write(stop_, 1);
  thread_.join();
  close(stop_);
  close(signals_);
  pthread_sigmask(SIG_UNBLOCK, &set_, nullptr);
}

}  // namespace pangea::clients
