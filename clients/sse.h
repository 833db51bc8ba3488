// Server-sent events (WHATWG HTML, section 9.2): bytes in any pieces -> the `data` of each event.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace pangea::clients {

class SseParser {
 public:
  explicit SseParser(size_t max_event_bytes = 8 << 20) : max_(max_event_bytes) {}
  // Appends the data of every event that these bytes complete. Comments and other fields are skipped.
  // ResourceExhausted: an event is larger than the limit.
  absl::Status Push(std::string_view bytes, std::vector<std::string>& events);

 private:
  void Line(std::vector<std::string>& events);
  size_t max_;
  std::string line_, data_;
  bool has_data_ = false, after_cr_ = false, first_line_ = true;
};

}  // namespace pangea::clients
