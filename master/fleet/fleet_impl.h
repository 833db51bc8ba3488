// The fleet's wiring: what it knows is in Facts, what it sends for the engine in AgentPort; this has the lock around
// the facts, and the three kinds of threads that bring and ask them: gRPC's (messages), the supervisor (deaths, time,
// decisions) and the callers'. One may take the port's lock while it holds this one, never the other way round.
#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "configs/mutex.h"
#include "master/fleet/agent_port.h"
#include "master/fleet/control_server.h"
#include "master/fleet/facts.h"
#include "master/fleet/fleet.h"
#include "master/fleet/fleet_watch.h"
#include "master/fleet/kept_file.h"
#include "master/fleet/launcher.h"
#include "master/fleet/layout.h"

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
  std::string recovery() const override;
  void WriteMetrics(MetricsPage& page) const override;
  void Stop() override;
  void Send(const Step& step) override { port_.Send(step); }
  void SendMask(const Mask& mask) override { port_.SendMask(mask); }
  void Regroup() override;
  absl::StatusOr<uint64_t> RestartAgent(int agent) override;
  absl::StatusOr<uint64_t> Relayout(int pipeline, int tensor, const Deployment* edited) override;

 private:
  using Mode = Facts::Mode;
  using SessionId = ControlServer::SessionId;
  // By what an agent is reached.
  struct Member {
    Child child;               // local ones
    SessionId session = 0;     // 0: none
    KeptFile weights, pages;   // local: of a process of this place
    uint64_t pages_since = 0;  // the epoch since whose forming these pages are written; 0: they are new
    uint64_t serial = 0;       // of its last Assign
    bool unproven = true;      // no epoch has been formed with its process
  };
  // An agent without a place: a spare, or one that the layout has no place for now.
  struct StandingBy {
    Child child;            // local ones
    SessionId session = 0;  // 0: a local one that has not joined yet
    Introduction introduction;
    bool local() const { return child.pid > 0; }
  };

  // gRPC's threads.
  admin::v1::FleetStatus Status() const;
  void OnMessage(SessionId session, const agent::v1::FromAgent& message);
  void OnEnd(SessionId session);
  void OnProgress(const agent::v1::ProgressReport& report);
  void OnResult(int agent, bool answers, const agent::v1::StepResult& message);
  void OnTraces(int agent, const agent::v1::StepTraces& traces);
  void OnJoin(SessionId session, const agent::v1::Join& join) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool StandBy(SessionId session, const agent::v1::Join& join) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool StandsBy(SessionId session) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // from_elsewhere: not from the host that the place names, so that its peers reach it where it says.
  void Admit(int agent, SessionId session, Introduction introduction, bool from_elsewhere)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnReady(int agent, const agent::v1::Ready& ready) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool OnFormed(int agent, uint64_t epoch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);  // true: the epoch has begun
  void OnFailure(int agent, const agent::v1::Failure& failure) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnRendezvous(SessionId session, const agent::v1::Rendezvous& message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AssignAll() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Assign(int agent, bool spin) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Form() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The layout from now on; the epoch is over. Who has joined takes a place of it, or stands by, or is ended.
  // trial: FallBack may undo it.
  void Adopt(std::shared_ptr<const Layout> next, bool trial = false) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int RemotePlaces(const Layout& layout) const;
  // Remote places that there were, or are to be, and are not: their agents stand by.
  int LeftOut() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DismissWhoIsLeftOver() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool IsWelcome() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);  // one more remote agent that stands by
  bool CanFill(const Layout& layout) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);  // its remote places
  // Why these agents, and those that stand by, have no room for it; "": they have.
  std::string NoRoom(const Layout& layout, const std::vector<int>& agents) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TellSpares() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);  // the facts
  void SendStandBy(SessionId session) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::vector<HostShare> Shares() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::vector<SessionId> Sessions(bool last_stage = false) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int AgentOf(SessionId session) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);  // -1: none
  void TellStop(const std::string& reason) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool Left() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);  // no process and no session remains
  void Wake() const;                                        // the supervisor

  // The supervisor's thread.
  void Supervise();
  absl::Status LaunchAll();
  absl::Status LaunchOne(int agent) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool Decide();  // true: something was done, so that there may be more to do
  void LaunchSpares() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void MoveToSpare(int agent) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool Shrink(const Action& action) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FallBack(const Action& action) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool GrowBack() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);  // to the layout that is wished for, if it can be filled
  void Interrupt(const std::vector<int>& lost, const absl::Status& why, bool planned)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WaitForNews();
  void ReapEnded(int pidfd);
  std::vector<int> Pidfds() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);          // of processes that are not reaped
  bool GiveUp(const absl::Status& reason) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);  // true: on_failure is to be told

  void StopOnce();

  const CheckpointHeader& header_;
  const FleetOptions options_;
  const Deployment::Control control_;
  const int context_;              // that is served, in every layout
  const int64_t memory_at_start_;  // bytes that were available on this host
  const std::string log_level_;
  FleetWatch watch_;
  AgentPort port_;
  std::unique_ptr<ControlServer> server_;
  std::thread supervisor_;
  std::string address_, token_;       // of the control port, what its callers must show: set before supervisor_ starts
  int wake_ = -1;                     // eventfd
  std::optional<double> look_again_;  // the supervisor's

  mutable Mutex mutex_;
  CondVar changed_;
  Facts facts_ ABSL_GUARDED_BY(mutex_);
  // What the agents are, and what people have asked for last: another one while some cannot be had.
  std::shared_ptr<const Layout> layout_ ABSL_GUARDED_BY(mutex_), wished_ ABSL_GUARDED_BY(mutex_);
  std::vector<Member> members_ ABSL_GUARDED_BY(mutex_);
  std::vector<StandingBy> standing_by_ ABSL_GUARDED_BY(mutex_);
  std::vector<Child> leaving_ ABSL_GUARDED_BY(mutex_);  // killed, and not reaped yet
  double next_spare_ ABSL_GUARDED_BY(mutex_) = 0;       // before which none is started
  double spare_wait_ ABSL_GUARDED_BY(mutex_) = 0;       // before the next one, as they end without having joined
  double grow_at_ ABSL_GUARDED_BY(mutex_) = 0;          // before which the layout does not grow back
  double grow_wait_ ABSL_GUARDED_BY(mutex_) = 0;        // after the next shrink
  double grown_at_ ABSL_GUARDED_BY(mutex_) = 0;         // when it did last
  Deployment asked_ ABSL_GUARDED_BY(mutex_);            // what people have asked for, of which wished_ may use a part
  struct Former {
    std::shared_ptr<const Layout> layout, wished;
    Deployment asked;
  };
  std::optional<Former> former_ ABSL_GUARDED_BY(mutex_);  // while the layout that was asked for is tried
  std::string lost_at_ ABSL_GUARDED_BY(mutex_);  // where the first of the agents was that were lost last; "": unknown
  std::string relayout_failure_ ABSL_GUARDED_BY(mutex_);           // of the last one that was asked for
  std::map<std::string, int64_t> memory_ ABSL_GUARDED_BY(mutex_);  // the most that agents of a machine have told of
  std::string isa_ ABSL_GUARDED_BY(mutex_);
  uint64_t assignments_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t pages_since_ ABSL_GUARDED_BY(mutex_) = 0;  // the epoch from which on all pages are whole
  // WaitReady has returned OK: epochs and failures go to the callbacks from now on.
  bool ready_told_ ABSL_GUARDED_BY(mutex_) = false;
  bool end_supervisor_ ABSL_GUARDED_BY(mutex_) = false;

  std::once_flag stopped_;
};

}  // namespace pangea
