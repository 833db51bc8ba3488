// Starts the agents of this host as child processes, and learns of their end at once.
#pragma once
#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace pangea {

struct Child {
  pid_t pid = -1;
  int pidfd = -1;  // readable when the process has ended
};

// Starts `arguments` (the first is the path of the executable) with PANGEA_AGENT_TOKEN in its environment: a command
// line can be read by every user of the host. The child dies with the THREAD that calls this (PR_SET_PDEATHSIG),
// ignores SIGINT and SIGHUP, reads nothing, writes to our standard error only, and inherits no other descriptor.
absl::StatusOr<Child> Launch(const std::vector<std::string>& arguments, const std::string& token);

// Reaps it, closes the descriptor: "exited with code 1", "was killed by signal 9 (Killed)". Waits when it still runs.
struct ChildEnd {
  bool by_signal = false;
  bool killed = false;  // by SIGKILL
  std::string text;
};
ChildEnd Reap(Child& child);

}  // namespace pangea
