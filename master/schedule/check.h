// Aborts on a broken invariant of the scheduler: only for our own bugs, never for input.
#pragma once
#include <cstdio>
#include <cstdlib>

namespace pangea {

[[noreturn]] inline void ScheduleCheckFailed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: invariant broken: %s\n", file, line, condition);
  std::abort();
}

}  // namespace pangea

#define SCHEDULE_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::pangea::ScheduleCheckFailed(#condition, __FILE__, __LINE__))
