// The signals that ask a process to end, as a file descriptor.
#pragma once

namespace pangea {

// SIGINT, SIGTERM and, unless this process was started with it ignored (nohup), SIGHUP, which a closed terminal sends.
// They are blocked in the calling thread and in every one that is started later. SIGPIPE is ignored. -1 with errno.
int EndSignals();

}  // namespace pangea
