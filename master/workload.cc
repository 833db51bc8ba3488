#include "master/workload.h"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <random>
#include <string_view>

#include "absl/strings/str_join.h"
#include "configs/cat.h"
#include "configs/read_file.h"

namespace pangea {
namespace {

constexpr uint64_t kMostBytes = 256 << 20;
constexpr size_t kMostRequests = 10'000'000, kMostFaults = 10;
constexpr int kMostTokens = 1 << 24;
constexpr double kMostSeconds = 1e9;

enum Column { kArrival, kPrompt, kOutput, kPrefix, kPrefixTokens, kPriority, kColumns };
constexpr const char* kNames[kColumns] = {"arrival", "prompt", "output", "prefix", "prefix_tokens", "priority"};
constexpr int kNeeded = 3;  // the first ones

std::string_view Trimmed(std::string_view text) {
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\r')) text.remove_suffix(1);
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  return text;
}

std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    parts.push_back(Trimmed(text.substr(begin, end - begin)));
    begin = end + 1;
  }
  return parts;
}

template <typename T>
bool Number(std::string_view text, T low, T high, T* value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end == text.data() + text.size() && *value >= low && *value <= high;
}

class TraceReader {
 public:
  explicit TraceReader(std::string name) : name_(std::move(name)) {}

  absl::StatusOr<std::vector<SimulatedRequest>> Read(std::string_view text) {
    for (const std::string_view line : Split(text, '\n')) {
      ++line_;
      if (line.empty() || line[0] == '#') continue;
      const std::vector<std::string_view> cells = Split(line, ',');
      columns_.empty() ? Head(cells) : Row(cells);
      if (columns_.empty() || faults_.size() >= kMostFaults) break;
      if (requests_.size() > kMostRequests) {
        Fault("more than ", kMostRequests, " requests");
        break;
      }
    }
    if (faults_.empty() && columns_.empty()) Fault("no line names the columns");
    if (faults_.empty() && requests_.empty()) Fault("no requests");
    if (!faults_.empty()) return absl::InvalidArgumentError(absl::StrJoin(faults_, "\n"));
    return std::move(requests_);
  }

 private:
  template <typename... Parts>
  void Fault(const Parts&... parts) {
    faults_.push_back(Cat(name_, ":", line_, ": ", parts...));
  }

  void Head(const std::vector<std::string_view>& cells) {
    bool seen[kColumns] = {};
    std::vector<Column> columns;
    for (const std::string_view cell : cells) {
      int column = 0;
      while (column < kColumns && kNames[column] != cell) ++column;
      if (column == kColumns) {
        Fault("column \"", cell.substr(0, 40), "\" is not known; there are ", absl::StrJoin(kNames, ", "));
      } else if (seen[column]) {
        Fault("column ", cell, " is named twice");
      } else {
        seen[column] = true;
        columns.push_back(static_cast<Column>(column));
      }
    }
    for (int column = 0; column < kNeeded; ++column) {
      if (!seen[column]) Fault("column ", kNames[column], " is missing");
    }
    if (faults_.empty()) columns_ = std::move(columns);
  }

  void Row(const std::vector<std::string_view>& cells) {
    if (cells.size() != columns_.size())
      return Fault("has ", cells.size(), " columns, the first line names ", columns_.size());
    SimulatedRequest request;
    for (size_t i = 0; i < cells.size(); ++i) {
      if (const std::string wrong = Set(columns_[i], cells[i], &request); !wrong.empty())
        return Fault(kNames[columns_[i]], ": ", wrong, ", not \"", cells[i].substr(0, 40), "\"");
    }
    if (request.prefix_tokens > request.prompt)
      return Fault("prefix_tokens: is ", request.prefix_tokens, ", more than the prompt of ", request.prompt);
    requests_.push_back(request);
  }

  // What is wrong, or "".
  static std::string Set(Column column, std::string_view cell, SimulatedRequest* request) {
    const std::string tokens = Cat("expected a whole number from 1 to ", kMostTokens);
    switch (column) {
      case kArrival:
        return Number(cell, 0.0, kMostSeconds, &request->arrival) ? "" : "expected seconds from 0 to 1e9";
      case kPrompt:
        return Number(cell, 1, kMostTokens, &request->prompt) ? "" : tokens;
      case kOutput:
        return Number(cell, 1, kMostTokens, &request->output) ? "" : tokens;
      case kPrefix:
        return Number<uint64_t>(cell, 0, ~uint64_t{0}, &request->prefix) ? "" : "expected a whole number";
      case kPrefixTokens:
        return Number(cell, 0, kMostTokens, &request->prefix_tokens)
                   ? ""
                   : Cat("expected a whole number from 0 to ", kMostTokens);
      case kPriority:
        return Number(cell, -1000000, 1000000, &request->priority) ? ""
                                                                   : "expected a whole number from -1000000 to 1000000";
      case kColumns:
        break;
    }
    return "no such column";
  }

  const std::string name_;
  int line_ = 0;
  std::vector<Column> columns_;
  std::vector<SimulatedRequest> requests_;
  std::vector<std::string> faults_;
};

}  // namespace

absl::StatusOr<std::vector<SimulatedRequest>> ParseTrace(const std::string& text, const std::string& name) {
  return TraceReader(name).Read(text);
}

absl::StatusOr<std::vector<SimulatedRequest>> ReadTrace(const std::string& path) {
  const auto text = ReadFile(path, kMostBytes);
  if (!text.ok()) return text.status();
  return ParseTrace(*text, path);
}

absl::StatusOr<TokenRange> ParseTokenRange(const std::string& text) {
  TokenRange range;
  const size_t dash = text.find('-');
  const std::string_view all = text;
  const bool valid = Number(all.substr(0, dash), 1, kMostTokens, &range.low) &&
                     (dash == text.npos || Number(all.substr(dash + 1), range.low, kMostTokens, &range.high));
  if (!valid)
    return absl::InvalidArgumentError(
        Cat("expected tokens from 1 to ", kMostTokens, ", such as 512, or a range, such as 100-1000"));
  if (dash == text.npos) range.high = range.low;
  return range;
}

std::vector<SimulatedRequest> DrawWorkload(const WorkloadShape& shape) {
  std::mt19937_64 random(shape.seed);
  const auto length = [&](const TokenRange& range) {
    return std::uniform_int_distribution<int>(range.low, range.high)(random);
  };
  std::vector<SimulatedRequest> requests(shape.requests);
  double now = 0;
  for (SimulatedRequest& request : requests) {
    if (shape.rate > 0) now += std::exponential_distribution<double>(shape.rate)(random);
    request.arrival = now;
    request.prompt = length(shape.prompt);
    request.output = length(shape.output);
  }
  return requests;
}

}  // namespace pangea
