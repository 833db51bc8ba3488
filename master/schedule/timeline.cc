#include "master/schedule/timeline.h"

#include <algorithm>
#include <limits>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace pangea {
namespace {

std::string Quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\')
      out += {'\\', c};
    else if (static_cast<unsigned char>(c) < 0x20)
      absl::StrAppendFormat(&out, "\\u%04x", c);
    else
      out += c;
  }
  return out + "\"";
}

int Process(int stage) { return stage + 1; }  // a process number is not negative: the master is 0

std::string Metadata(const char* what, const std::string& place, const std::string& name) {
  return absl::StrCat("{\"ph\":\"M\",\"name\":\"", what, "\",", place, ",\"args\":{\"name\":", Quoted(name), "}}");
}

}  // namespace

std::string TimelineJson(std::span<const TimelineSpan> spans) {
  double zero = std::numeric_limits<double>::infinity();
  std::set<std::pair<int, int>> places;
  for (const TimelineSpan& span : spans) {
    zero = std::min(zero, span.start_seconds);
    places.emplace(span.stage, span.rank);
  }
  std::string out = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[";
  const char* separator = "\n";
  const auto add = [&](const std::string& event) {
    absl::StrAppend(&out, separator, event);
    separator = ",\n";
  };
  for (const auto& [stage, rank] : places) {
    const std::string place = absl::StrCat("\"pid\":", Process(stage), ",\"tid\":", rank);
    add(Metadata("process_name", place, stage < 0 ? "master" : absl::StrCat("stage ", stage)));
    add(Metadata("thread_name", place, absl::StrCat("rank ", rank)));
  }
  for (const TimelineSpan& span : spans) {
    std::string event = absl::StrCat("{\"ph\":\"X\",\"name\":", Quoted(span.name), ",\"pid\":", Process(span.stage),
                                     ",\"tid\":", span.rank);
    absl::StrAppendFormat(&event, ",\"ts\":%.3f,\"dur\":%.3f", (span.start_seconds - zero) * 1e6,
                          span.duration_seconds * 1e6);
    if (!span.args.empty()) {
      absl::StrAppend(&event, ",\"args\":{");
      for (size_t i = 0; i < span.args.size(); ++i)
        absl::StrAppend(&event, i == 0 ? "" : ",", Quoted(span.args[i].first), ":", span.args[i].second);
      absl::StrAppend(&event, "}");
    }
    add(event + "}");
  }
  return out + "\n]}\n";
}

}  // namespace pangea
