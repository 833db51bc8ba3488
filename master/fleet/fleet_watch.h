// What the fleet shows of itself: its metrics, and the steps of its agents on the timeline. Thread safe; no lock is
// held while steps are sent or results taken.
#pragma once
#include <array>
#include <vector>

#include "configs/mutex.h"
#include "master/metrics/metrics.h"
#include "master/metrics/timeline_file.h"
#include "pipeline/parallel_plan.h"
#include "protos/agent.pb.h"

namespace pangea {

// The order of agent.v1.Activity.spent.
inline constexpr std::array<const char*, 4> kAgentActivities = {"wait", "busy", "communication", "bubble"};

inline constexpr double kStepSecondsBounds[] = {0.0005, 0.001, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.015,
                                                0.02,   0.03,  0.04,  0.05,  0.075, 0.1,   0.15,   0.2,  0.3,
                                                0.5,    1,     2.5,   5,     10,    30,    60};
inline constexpr double kStepRowsBounds[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192};
inline constexpr double kRecoverySecondsBounds[] = {0.1, 0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 20, 30, 60, 120, 300, 600};

class FleetWatch {
 public:
  // timeline: null, or outlives this.
  FleetWatch(const ParallelPlan& plan, TimelineFile* timeline);

  Histogram step_seconds{{"pangea_step_seconds",
                          "Time that a step took: from when it was sent, or the step before it was answered, whichever "
                          "is later, to its result."},
                         kStepSecondsBounds};
  Histogram step_rows{{"pangea_step_rows", "Rows (tokens computed) of a step.", {"vllm:iteration_tokens_total"}},
                      kStepRowsBounds};
  Histogram recovery_seconds{
      {"pangea_recovery_seconds", "Time from the end of an epoch to the beginning of the next one: nobody is served."},
      kRecoverySecondsBounds};
  // Of those seconds: until every lost place has a process that has joined; until all are loaded; until the groups are
  // formed.
  void OnRecovered(double fill, double load, double form);
  Counter restarts{{"pangea_agent_restarts_total", "Agents that were started again."}};

  // Another layout of agents, of whom nothing is known yet.
  void Lay(const ParallelPlan& plan);
  // agent: as in the plan, or nothing is noted. now: seconds of the master's monotonic clock.
  void OnJoin(int agent, bool same_host);
  void OnActivity(int agent, const agent::v1::Activity& activity, double now);
  void OnProgress(int agent, const agent::v1::ProgressReport& report, double now);
  void OnTrace(int agent, const agent::v1::StepTrace& trace, double now);
  void Write(MetricsPage& page) const;

 private:
  struct Agent {
    MetricLabels labels;
    int stage = 0, rank = 0;
    agent::v1::Activity activity;
    double cpu_seconds = 0;
    uint64_t resident_bytes = 0;
    // What to add to the agent's clock to get the master's. A message is received after it was sent, so the smallest
    // difference seen is the nearest; it may creep up, for clocks that drift.
    bool same_host = false, clock_known = false;
    int64_t clock_offset = 0;
    bool kernels_named = false;  // their row of the timeline
  };
  void SetClock(Agent& agent, int64_t agent_now, double now);

  TimelineFile* const timeline_;
  mutable Mutex mutex_;
  std::vector<Agent> agents_ ABSL_GUARDED_BY(mutex_);
  double fill_ ABSL_GUARDED_BY(mutex_) = 0, load_ ABSL_GUARDED_BY(mutex_) = 0, form_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace pangea
