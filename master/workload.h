// The requests of a simulation: read from a trace file, or drawn from a seed.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "master/schedule/simulation.h"

namespace pangea {

// A trace is CSV whose first line names its columns, in any order:
//   arrival (seconds), prompt, output (tokens); optional: prefix (a number; requests of one prefix begin alike),
//   prefix_tokens (how far, at most prompt), priority.
// Blank lines and lines that begin with # are passed over. All faults name FILE:LINE and the column; at most 10 of
// them. Limits: 256 MiB, 10 million requests, 2^24 tokens, 10^9 seconds.
absl::StatusOr<std::vector<SimulatedRequest>> ReadTrace(const std::string& path);
absl::StatusOr<std::vector<SimulatedRequest>> ParseTrace(const std::string& text, const std::string& name);

struct TokenRange {
  int low = 1, high = 1;  // every length of the range is equally likely
};
absl::StatusOr<TokenRange> ParseTokenRange(const std::string& text);  // "512", "100-1000"

struct WorkloadShape {
  int requests = 200;
  double rate = 0;  // arrivals a second, as a Poisson process; 0: all at once
  TokenRange prompt{512, 512}, output{128, 128};
  uint64_t seed = 1;
};
std::vector<SimulatedRequest> DrawWorkload(const WorkloadShape& shape);

}  // namespace pangea
