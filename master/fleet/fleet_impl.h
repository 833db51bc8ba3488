// The fleet's state, all under one lock, and the three kinds of threads that change it: gRPC's (messages), the
// supervisor (deaths, time, decisions) and the callers'.
#pragma once
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "master/fleet/control_server.h"
#include "master/fleet/fleet.h"
#include "master/fleet/fleet_watch.h"
#include "master/fleet/join_rules.h"
#include "master/fleet/launcher.h"
#include "master/fleet/reconcile.h"

namespace pangea {

class FleetImpl : public Fleet {
 public:
  FleetImpl(const Deployment& deployment, const CheckpointHeader& header, const ParallelPlan& plan,
            FleetOptions options);
  ~FleetImpl() override { Stop(); }
  // Opens the control port and has the supervisor start the local agents.
  absl::Status Open(const std::string& dial_host, const std::string& token);

  absl::Status WaitReady() override;
  std::string isa() const override;
  int agents_up() const override;
  void WriteMetrics(MetricsPage& page) const override;
  void Stop() override;
  void Send(const Step& step) override;
  void SendMask(const Mask& mask) override;
  void Regroup() override;

 private:
  // kStarting: no epoch has begun yet. kForming: the groups are formed anew.
  enum class Mode { kStarting, kForming, kRunning, kFailed, kStopping };
  // What the registry holds beside AgentState.
  struct Member {
    Child child;
    ControlServer::SessionId session = 0;  // 0: none
    std::string isa, host;
    HostShare share;
    int launches = 0;
  };

  // gRPC's threads.
  void OnMessage(ControlServer::SessionId session, const agent::v1::FromAgent& message);
  void OnEnd(ControlServer::SessionId session);
  void OnProgress(int agent, const agent::v1::ProgressReport& report);
  void OnResult(int agent, const agent::v1::StepResult& message);
  void OnTraces(int agent, const agent::v1::StepTraces& traces);
  // Under mutex_.
  void OnJoin(ControlServer::SessionId session, const agent::v1::Join& join);
  void OnReady(int agent, const agent::v1::Ready& ready);
  bool OnFormed(int agent, uint64_t epoch);  // whether the epoch has begun with that
  void OnFailure(int agent, const agent::v1::Failure& failure);
  void OnRendezvous(ControlServer::SessionId session, const agent::v1::Rendezvous& message);
  void Assign();
  void Form();
  bool IsAlive() const { return mode_ < Mode::kFailed; }
  bool All(AgentPhase phase) const;
  void Advance(int agent, AgentPhase phase);
  std::vector<ControlServer::SessionId> Sessions() const;
  int AgentOf(ControlServer::SessionId session) const;  // -1: none
  void TellStop(const std::string& reason);
  bool Left() const;  // no process and no session remains
  void Wake() const;  // the supervisor

  // The supervisor's thread.
  void Supervise(const std::string& master_address, const std::string& token);
  absl::Status LaunchAll(const std::string& master_address, const std::string& token);
  void Decide();
  void WaitForNews();
  void ReapEnded(int agent);
  void GiveUp(const absl::Status& reason, std::unique_lock<std::mutex>& lock);

  void StopOnce();

  const Deployment deployment_;
  const std::string header_hash_;
  const ParallelPlan plan_;
  const FleetOptions options_;
  FleetWatch watch_;
  std::unique_ptr<ControlServer> server_;
  std::thread supervisor_;
  int wake_ = -1;  // eventfd

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Mode mode_ = Mode::kStarting;
  bool ready_told_ = false;  // WaitReady has returned OK: epochs and failures go to the callbacks from now on
  bool end_supervisor_ = false;
  absl::Status failure_;
  std::string isa_;
  uint64_t epoch_ = 0;  // of the latest Form
  FleetState state_;
  std::vector<Member> members_;
  std::optional<double> look_again_;
  std::deque<std::pair<uint64_t, double>> steps_;  // of this epoch, sent and without a result: number, when
  double last_result_ = 0, forming_since_ = 0;

  std::once_flag stopped_;
};

}  // namespace pangea
