// What to do, from what was observed: a pure function. It names the cause and not a symptom: when one agent dies, its
// peers fail too, and some of them are heard first.
//
// Before the first epoch a fault ends the fleet: nobody is served yet, and whoever started it looks on. From then on
// what befalls an agent ends the epoch only: the agents that are lost are replaced, the others keep their weights, and
// all form the groups of the next one.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "pipeline/activity.h"

namespace pangea {

enum class AgentPhase { kAwaited, kJoined, kLoaded, kFormed };

// One agent as its master sees it. Times are seconds of a monotonic clock.
struct AgentState {
  int stage = 0, rank = 0, pid = 0;
  bool local = true;
  AgentPhase phase = AgentPhase::kAwaited;
  bool running = false;  // local: a process of this place has not been reaped; another starts only when it is gone
  // The place waits for another process. What the one before it still says or does is none of its facts.
  bool lost = false;
  double lost_at = 0;
  double heard = 0;  // when its process last said anything, or was started
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
  // Its last report in this epoch.
  struct Report {
    uint64_t step = 0;  // 0: of none yet
    int layer = -1;
    uint64_t collective = 0;
    AgentDoing doing = AgentDoing::kNothing;
    double layer_seconds = 0;  // that computing the present layer may take; 0: not known
    double at = 0;             // it came
    double changed = 0;        // the first one came that told this very place
    double longest_gap = 0;    // between two reports so far
  };
  std::optional<Report> report;
};

struct FleetState {
  std::vector<AgentState> agents;
  double phase_since = 0;             // when the phase began that the slowest agent is in
  double join_seconds = 0;            // for all to join; then for all to load and form
  double silence_seconds = 0;         // without a report, or without getting on while others wait
  double step_seconds = 0;            // that a step may be under way without any agent getting on
  std::optional<double> oldest_step;  // sent at, no result yet
  double last_progress = 0;           // when an agent last told of another step, layer or collective, or a result came
  uint64_t oldest_step_number = 0;
  double looking_since = 0;  // before which this master did not look: it stood still itself
  double patient_until = 0;  // before which nobody is late: this master was away, and reads what has come meanwhile

  bool served = false;    // an epoch has begun, this one or one before
  bool trial = false;     // another layout than served before, of which no epoch has begun yet
  bool over = true;       // there is no epoch that forms or runs
  int recoveries = 0;     // that began within control.recovery_seconds, or since the last epoch that lasted
  int attempts = 0;       // as many of them are made
  double restart_at = 0;  // before which no process is started in a lost place
  int local_spares = 0, remote_spares = 0;  // agents that stand by: for places of this host, and of others
  bool leaving = false;                     // processes of another layout are not gone yet: none is started beside them
  double shrink_seconds = 0;  // that a remote agent's lost place waits for another one; 0: as long as join_seconds
};

struct Action {
  enum Kind {
    kNone,
    kInterrupt,    // the epoch is over, and `agents` (there may be none) are lost
    kRestart,      // a process is to be started in each of the places `agents`
    kMoveToSpare,  // one that stands by is to take each of the places `agents`
    kShrink,       // the places `agents` cannot be filled: another layout is to do without them
    kRegroup,      // every place is filled: a new epoch is to be formed
    kFallBack,     // the layout that is tried comes to nothing: the one before it is to be had again
    kGiveUp,
  } kind = kNone;
  absl::Status reason;               // kInterrupt, kShrink, kFallBack, kGiveUp
  std::vector<int> agents;           // kInterrupt, kRestart, kMoveToSpare, kShrink, kFallBack
  std::optional<double> look_again;  // kNone: when time alone may change the answer
};

Action Reconcile(const FleetState& state, double now);

// Seconds that lost places wait for new processes: none after an epoch that lasted, nor after the first that did not;
// then twice as many every time. short_epochs: how many in a row ended before they had lasted.
double RestartWait(int short_epochs);
// An epoch shorter than this has not lasted.
inline constexpr double kLastingEpochSeconds = 0.25;

// "agent 3 (stage 1, rank 1, pid 1234)"
std::string AgentName(const FleetState& state, int agent);
// "step 9, layer 3, collective 40", as it has last told in this epoch; "no step".
std::string PlaceText(const AgentState& agent);

}  // namespace pangea
