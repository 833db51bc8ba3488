// What to do, from what was observed: a pure function. Today the only remedy is to give up, so all that matters is to
// name the cause and not a symptom: when one agent dies, its peers fail too, and some of them are heard first.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace pangea {

enum class AgentPhase { kAwaited, kJoined, kLoaded, kFormed };

// One agent as its master sees it. Times are seconds of a monotonic clock.
struct AgentState {
  int stage = 0, rank = 0, pid = 0;
  bool local = true;
  AgentPhase phase = AgentPhase::kAwaited;
  struct End {
    double at = 0;
    bool by_signal = false;
    std::string text;  // "was killed by signal 9 (Killed)"
  };
  std::optional<End> ended;            // local: the process
  std::optional<double> disconnected;  // its stream broke
  struct Failure {
    double at = 0;
    absl::Status status;
    bool fatal = false;  // its own fault, as against what it suffered from its peers
  };
  std::optional<Failure> failure;
  std::string progress;  // "step 12, layer 3"; empty: none reported
};

struct FleetState {
  std::vector<AgentState> agents;
  double phase_since = 0;             // when the phase began that the slowest agent is in
  double join_seconds = 0;            // for all to join; then for all to load and form
  double step_seconds = 0;            // that a step may be under way without any agent getting on
  std::optional<double> oldest_step;  // sent at, no result yet
  double last_progress = 0;           // when an agent last told of another step, layer or collective, or a result came
  uint64_t oldest_step_number = 0;
};

struct Action {
  enum Kind { kNone, kGiveUp } kind = kNone;
  absl::Status reason;               // kGiveUp
  std::optional<double> look_again;  // kNone: when time alone may change the answer
};

Action Reconcile(const FleetState& state, double now);

// "agent 3 (stage 1, rank 1, pid 1234)"
std::string AgentName(const FleetState& state, int agent);

}  // namespace pangea
