// The engine's way to the agents of the present epoch. It has a lock of its own, under which nothing but a step is
// sent: no step waits for a join, a report or a look at the metrics.
#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <vector>

#include "configs/mutex.h"
#include "master/fleet/control_server.h"
#include "master/fleet/fleet_watch.h"
#include "master/schedule/step_port.h"

namespace pangea {

// Thread safe. Times are seconds of the monotonic clock.
class AgentPort : public StepPort {
 public:
  // on_result: of the present epoch, outside the lock.
  AgentPort(FleetWatch* watch, std::function<void(StepResult)> on_result)
      : watch_(watch), on_result_(std::move(on_result)) {}

  // An epoch has begun: its steps go to all sessions, its masks to those of the last stage. server is there until
  // Close.
  void Open(uint64_t epoch, ControlServer* server, std::vector<ControlServer::SessionId> all,
            std::vector<ControlServer::SessionId> last_stage);
  // It is over: from now on no step of it is sent and no result taken. One that was taken before may still be on its
  // way to on_result.
  void Close();

  // Those of another epoch, or while none is open, are dropped: whoever waits for the result is told otherwise.
  void Send(const Step& step) override;
  void SendMask(const Mask& mask) override;
  // From the agent that answers for all. False: not of this epoch, and dropped.
  bool OnResult(const agent::v1::StepResult& message, double now);

  struct Outstanding {
    uint64_t number = 0;
    double sent = 0;
  };
  std::optional<Outstanding> oldest() const;  // sent and not answered; none while no epoch is open
  double last_result() const;                 // when one came last; 0: never

 private:
  FleetWatch* const watch_;
  const std::function<void(StepResult)> on_result_;
  mutable Mutex mutex_;
  uint64_t epoch_ ABSL_GUARDED_BY(mutex_) = 0;  // 0: none is open
  ControlServer* server_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::vector<ControlServer::SessionId> all_ ABSL_GUARDED_BY(mutex_), last_stage_ ABSL_GUARDED_BY(mutex_);
  std::deque<Outstanding> steps_ ABSL_GUARDED_BY(mutex_);
  double last_result_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace pangea
