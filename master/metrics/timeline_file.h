// The running server's timeline (master/schedule/timeline.h) as a file that grows: the array form of the Chrome trace
// format. Calls append to memory and never wait for the disk; a thread of the file's own writes, a few times a second
// and whole events only, so that the file of a killed process lacks nothing but its last events and its closing
// bracket, which the format permits.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "master/schedule/timeline.h"

namespace pangea {

class TimelineFile {
 public:
  // Replaces the file. zero: seconds of the spans' clock that the file calls 0. After most_bytes nothing more is
  // recorded; a line in the log says so, as it does when the disk takes no more.
  static absl::StatusOr<std::unique_ptr<TimelineFile>> Open(const std::string& path, uint64_t most_bytes, double zero);
  ~TimelineFile();  // writes the rest and the closing bracket
  TimelineFile(const TimelineFile&) = delete;

  // Any thread. Of one stage (the master: -1) and rank, spans must nest or be apart.
  void Name(int stage, int rank);
  void Add(std::span<const TimelineSpan> spans);
  void Add(const TimelineSpan& span) { Add(std::span(&span, 1)); }
  void Add(const TimelineMoment& moment);

 private:
  struct State;
  explicit TimelineFile(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace pangea
