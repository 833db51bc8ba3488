// What this process has used so far. Thread safe.
#pragma once
#include <cstdint>

namespace pangea {

struct ProcessUse {
  double cpu_seconds = 0;       // user and system, of all threads
  uint64_t resident_bytes = 0;  // now
  int open_descriptors = 0;
};
ProcessUse ReadProcessUse();

}  // namespace pangea
