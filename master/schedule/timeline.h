// Spans of time per stage and rank, written in the Chrome trace format that Perfetto and chrome://tracing open. The
// running server and the simulator write the same file.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace pangea {

// What a rank's device ran is drawn on a row of its own, rank + kKernelRows, as it may be ahead of what its host is at.
inline constexpr int kKernelRows = 1'000'000;

// What one rank of one stage did for a while. Spans of one rank nest or follow one another: the viewer draws what lies
// within another below it.
struct TimelineSpan {
  std::string name;                                   // "step 12", "gather"
  int stage = 0;                                      // a process of the trace, "stage 3"; -1: the master
  int rank = 0;                                       // a thread of it, "rank 0"; from kKernelRows on its kernels
  double start_seconds = 0, duration_seconds = 0;     // of one clock for all spans, its zero anywhere
  std::vector<std::pair<std::string, int64_t>> args;  // shown when the span is chosen: {"rows", 33}
};

// One event of the file, without a comma or a line's end: of a span, or naming a stage (the master: -1) and one of its
// ranks. Times in microseconds from `zero`. Thread safe.
std::string TimelineEvent(const TimelineSpan& span, double zero);
std::string TimelineNames(int stage, int rank);

// Something with a life of its own, such as a request, drawn on the master's row: a begin, moments and an end of equal
// id.
struct TimelineMoment {
  enum Edge : char { kBegin = 'b', kMoment = 'n', kEnd = 'e' } edge = kMoment;
  uint64_t id = 0;
  std::string name;  // "request"; of a moment, "first token"
  double seconds = 0;
  std::vector<std::pair<std::string, int64_t>> args;
};
std::string TimelineEvent(const TimelineMoment& moment, double zero);

// The whole file: one JSON object (Trace Event Format: complete events "X" in microseconds, metadata events "M" naming
// stages and ranks). Times are taken from the earliest start. Names may hold any UTF-8; they are escaped. Thread safe.
std::string TimelineJson(std::span<const TimelineSpan> spans);

}  // namespace pangea
