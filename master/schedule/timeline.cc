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

std::string Arguments(const std::vector<std::pair<std::string, int64_t>>& args) {
  if (args.empty()) return "";
  std::string out = ",\"args\":{";
  for (size_t i = 0; i < args.size(); ++i)
    absl::StrAppend(&out, i == 0 ? "" : ",", Quoted(args[i].first), ":", args[i].second);
  return out + "}";
}

}  // namespace

std::string TimelineNames(int stage, int rank) {
  const std::string place = absl::StrCat("\"pid\":", Process(stage), ",\"tid\":", rank);
  return absl::StrCat(Metadata("process_name", place, stage < 0 ? "master" : absl::StrCat("stage ", stage)), ",\n",
                      Metadata("thread_name", place,
                               stage < 0             ? "engine"
                               : rank >= kKernelRows ? absl::StrCat("kernels of rank ", rank - kKernelRows)
                                                     : absl::StrCat("rank ", rank)));
}

std::string TimelineEvent(const TimelineSpan& span, double zero) {
  return absl::StrFormat("{\"ph\":\"X\",\"name\":%s,\"pid\":%d,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f%s}",
                         Quoted(span.name), Process(span.stage), span.rank, (span.start_seconds - zero) * 1e6,
                         span.duration_seconds * 1e6, Arguments(span.args));
}

std::string TimelineEvent(const TimelineMoment& moment, double zero) {
  return absl::StrFormat("{\"ph\":\"%c\",\"cat\":\"request\",\"id\":%d,\"name\":%s,\"pid\":0,\"tid\":0,\"ts\":%.3f%s}",
                         static_cast<char>(moment.edge), moment.id, Quoted(moment.name), (moment.seconds - zero) * 1e6,
                         Arguments(moment.args));
}

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
  for (const auto& [stage, rank] : places) add(TimelineNames(stage, rank));
  for (const TimelineSpan& span : spans) add(TimelineEvent(span, zero));
  return out + "\n]}\n";
}

}  // namespace pangea
