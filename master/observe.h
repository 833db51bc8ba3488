// What the server as a whole shows: the engine's and the process's part of /metrics, and the master's row of the
// timeline.
#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "configs/deployment.h"
#include "configs/mutex.h"
#include "master/fleet/fleet.h"
#include "master/metrics/metrics.h"
#include "master/metrics/timeline_file.h"
#include "master/schedule/engine.h"
#include "master/schedule/step_port.h"

namespace pangea {

inline constexpr double kCancelSecondsBounds[] = {0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
                                                  0.05,   0.1,    0.25,  0.5,    1,     2.5,  10};
inline constexpr double kCancelStepsBounds[] = {0, 1, 2, 3, 4, 6, 8, 16};

class Observation {
 public:
  // Opens the timeline when the deployment asks for one. InvalidArgument: its file cannot be written.
  static absl::StatusOr<std::unique_ptr<Observation>> Open(const Deployment& deployment);

  // Null: none is wanted.
  TimelineFile* timeline() const { return timeline_.get(); }
  // Has the engine tell what it does.
  void Watch(EngineOptions* options);
  // The way to the agents, drawn. The result lives as long as this; port must outlive its use.
  StepPort* Watch(StepPort* port);
  // Runs it on the engine's thread, drawn.
  void Deliver(const std::function<void()>& deliver);
  // From now on their numbers are shown; null: not there (yet, or any more). Any thread.
  void Show(const Fleet* fleet, const EngineThread* engine);
  // Any thread, at any time.
  void Write(MetricsPage& page) const;

 private:
  void Draw(std::string name, double begin, double end, std::vector<std::pair<std::string, int64_t>> args = {});

  class DrawnPort;
  MetricLabels cache_;  // how the deployment has it
  std::unique_ptr<TimelineFile> timeline_;
  std::unique_ptr<StepPort> port_;
  Histogram cancel_seconds_{{"pangea_cancel_seconds",
                             "Time from the cancellation of a request (its client went away, or its time was over) to "
                             "when its last cache block was free."},
                            kCancelSecondsBounds};
  Histogram cancel_steps_{{"pangea_cancel_steps", "Steps that were answered in that time."}, kCancelStepsBounds};
  mutable Mutex mutex_;
  const Fleet* fleet_ ABSL_GUARDED_BY(mutex_) = nullptr;
  const EngineThread* engine_ ABSL_GUARDED_BY(mutex_) = nullptr;
};

}  // namespace pangea
