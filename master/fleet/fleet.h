// The agents of one deployment: launched or awaited, joined, loaded, grouped, watched. A StepPort for the engine.
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "configs/deployment.h"
#include "master/metrics/metrics.h"
#include "master/metrics/timeline_file.h"
#include "master/schedule/step_port.h"
#include "pipeline/checkpoint/header.h"
#include "pipeline/parallel_plan.h"

namespace pangea {

struct FleetOptions {
  std::string executable;                     // what the launcher starts: this very file
  std::function<void(StepResult)> on_result;  // on a gRPC thread; of the present epoch
  // All agents have formed their groups for this epoch, and know nothing of an older one: steps carry it from now on.
  // The first is told by WaitReady before it returns, later ones on a gRPC thread; of two that are told at once, the
  // older may come last. plan: of the layout that they have now. May be empty.
  // pages_since: their KV pages still hold what was written in that epoch and those after it; `epoch`: nothing yet.
  std::function<void(uint64_t epoch, const ParallelPlan& plan, uint64_t pages_since)> on_epoch;
  // An epoch that was told has ended, and why; the next one is on its way. On the fleet's own thread, or on that of who
  // asked for it. May be empty.
  std::function<void(const absl::Status&)> on_interrupted;
  // Once, when the fleet cannot go on (recovery is spent): why, naming the agent (stage, rank, pid, signal).
  std::function<void(const absl::Status&)> on_failure;
  // For administrators; any thread. Empty: requests are none of the caller's affair.
  std::function<absl::Status(bool take)> take_requests;
  struct Requests {
    bool taken = true;
    int running = 0, waiting = 0;
  };
  std::function<Requests()> requests;
  TimelineFile* timeline = nullptr;  // where the agents' steps are drawn; null: nowhere
};

// The token that agents join with: control.token_file's, or one made for this run.
absl::StatusOr<std::string> ControlToken(const Deployment& deployment);

class Fleet : public StepPort {
 public:
  // header: must outlive the fleet.
  static absl::StatusOr<std::unique_ptr<Fleet>> Start(const Deployment& deployment, const CheckpointHeader& header,
                                                      const ParallelPlan& plan, FleetOptions options);
  ~Fleet() override;  // Stop()
  // Of the present epoch, or it is dropped: then it is void, and on_epoch will tell or has told.
  void Send(const Step& step) override = 0;
  void SendMask(const Mask& mask) override = 0;
  // Waits until every agent has joined, loaded its slices and formed its groups, or one of them failed, or the join
  // time is over.
  virtual absl::Status WaitReady() = 0;
  // Has all agents form their groups anew, in a new epoch, whatever they are at: what is under way is void. They keep
  // their weights. Any thread. Nothing happens before the agents are loaded, or when the fleet has failed or stops.
  virtual void Regroup() = 0;
  // Has the process of an agent that this master has started replaced: as if it had died, but that it counts for no
  // recovery. -> the epoch that has ended. FailedPrecondition: no epoch serves now.
  virtual absl::StatusOr<uint64_t> RestartAgent(int agent) = 0;
  // Has the model split over other stages and ranks: the epoch ends, agents that have joined take the places of the new
  // layout and load anew, others are started, and what is left over is ended or stands by. Of the new deployment
  // `agents`, `agent_list` and cache.memory count. -> the epoch that has ended. InvalidArgument: it cannot be, and why;
  // FailedPrecondition: no epoch serves now, or there are too few agents of other hosts.
  virtual absl::StatusOr<uint64_t> Relayout(int pipeline, int tensor, const Deployment* edited) = 0;
  virtual std::string isa() const = 0;  // resolved: the best that all have
  virtual int agents_up() const = 0;
  virtual std::string recovery() const = 0;                // between two epochs: why, and for how long; else empty
  virtual void WriteMetrics(MetricsPage& page) const = 0;  // any thread
  // Tells all agents to stop, waits (bounded), kills what is left. No process, shared memory or socket remains.
  virtual void Stop() = 0;
};

}  // namespace pangea
