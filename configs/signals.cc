#include "configs/signals.h"

#include <pthread.h>
#include <signal.h>
#include <sys/signalfd.h>

namespace pangea {

int EndSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  struct sigaction hang_up{};
  // signalfd reports a blocked signal even when the process was started to ignore it, so an ignored SIGHUP stays out.
  if (sigaction(SIGHUP, nullptr, &hang_up) == 0 && hang_up.sa_handler != SIG_IGN) sigaddset(&set, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);
  return signalfd(-1, &set, SFD_CLOEXEC);
}

}  // namespace pangea
