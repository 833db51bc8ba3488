// What this process has used so far. Thread safe.
#pragma once
#include <cstdint>
#include <string>

namespace pangea {

struct ProcessUse {
  double cpu_seconds = 0;       // user and system, of all threads
  uint64_t resident_bytes = 0;  // now
  int open_descriptors = 0;
};
ProcessUse ReadProcessUse();

// Tells the file that this process runs from every other one, newer ones of the same name too. Empty: not known.
std::string ExecutableIdentity();

}  // namespace pangea
