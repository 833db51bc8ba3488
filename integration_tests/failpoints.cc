// The failpoints of pangea_failpoints. PANGEA_FAILPOINTS names a folder; a file `page_write.before` in it makes one
// process, the first that gets there, do what it says, and is gone then:
//   9 0      signal 9 to itself
//   9 1234   signal 9 to the process 1234
//   sleep 200   that many milliseconds
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "configs/failpoint.h"

namespace pangea {

void Reach(Wall wall, Side side) {
  constexpr const char* kNames[] = {"join",       "load",   "form",   "step",  "collective",
                                    "page_write", "sample", "result", "commit"};
  static const char* const folder = std::getenv("PANGEA_FAILPOINTS");
  if (folder == nullptr) return;
  char path[512], what[64] = {};
  std::snprintf(path, sizeof(path), "%s/%s.%s", folder, kNames[static_cast<int>(wall)],
                side == Side::kBefore ? "before" : "after");
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return;
  const bool read_any = read(file, what, sizeof(what) - 1) > 0;
  close(file);
  if (!read_any || unlink(path) != 0) return;  // another process or thread was faster
  int signal = 0, pid = 0, milliseconds = 0;
  if (std::sscanf(what, "sleep %d", &milliseconds) == 1) {
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
  } else if (std::sscanf(what, "%d %d", &signal, &pid) == 2) {
    kill(pid == 0 ? getpid() : pid, signal);
  }
}

}  // namespace pangea
