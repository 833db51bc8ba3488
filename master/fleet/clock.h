// Seconds of the monotonic clock.
#pragma once
#include <chrono>

namespace pangea {

inline double MonotonicSeconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace pangea
