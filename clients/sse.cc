#include "clients/sse.h"

#include <utility>

namespace pangea::clients {

absl::Status SseParser::Push(std::string_view bytes, std::vector<std::string>& events) {
  for (char c : bytes) {
    const bool second_half = after_cr_ && c == '\n';  // CR LF is one line end
    after_cr_ = c == '\r';
    if (second_half) continue;
    if (c == '\n' || c == '\r') {
      Line(events);
      continue;
    }
    if (line_.size() + data_.size() >= max_) return absl::ResourceExhaustedError("a server-sent event is too large");
    line_ += c;
  }
  return absl::OkStatus();
}

void SseParser::Line(std::vector<std::string>& events) {
  std::string line = std::exchange(line_, "");
  if (std::exchange(first_line_, false) && line.starts_with("\xEF\xBB\xBF")) line.erase(0, 3);
  if (line.empty()) {
    if (std::exchange(has_data_, false)) events.push_back(std::exchange(data_, ""));
    return;
  }
  const size_t colon = line.find(':');
  if (std::string_view(line).substr(0, colon) != "data") return;
  std::string_view value = colon == std::string::npos ? std::string_view() : std::string_view(line).substr(colon + 1);
  if (value.starts_with(' ')) value.remove_prefix(1);
  if (has_data_) data_ += '\n';
  data_ += value;
  has_data_ = true;
}

}  // namespace pangea::clients
