// What the fleet knows of its agents and of itself: facts go in, what follows from them comes out. No thread, no lock,
// no clock, no socket, no process: FleetImpl has those. So every order of events can be tried in microseconds.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "configs/deployment.h"
#include "master/fleet/join_rules.h"
#include "master/fleet/reconcile.h"
#include "pipeline/parallel_plan.h"

namespace pangea {

// What an agent says of itself when it joins.
struct Introduction {
  int pid = 0;
  std::string isa;      // the best class of its CPU
  std::string host;     // where its peers reach it
  std::string machine;  // which agents of it share its memory: its kernel, and where it says it is (containers)
  HostShare share;
  std::string executable;  // which file its process runs
};
// host and threads: as the agent says; the place that it gets may say otherwise.
Introduction IntroductionOf(const agent::v1::Join& join);

// Not thread safe. agent: as in the plan. now: seconds of a monotonic clock.
class Facts {
 public:
  // kStarting: no epoch has begun yet. kForming: the groups are formed anew, once every place is filled. kFailed,
  // kStopping: for good.
  enum class Mode { kStarting, kForming, kRunning, kFailed, kStopping };

  Facts(const Deployment& deployment, const ParallelPlan& plan, double now);

  Mode mode() const { return mode_; }
  bool IsAlive() const { return mode_ < Mode::kFailed; }
  uint64_t epoch() const { return epoch_; }                 // of the latest Form; 0: none
  const absl::Status& failure() const { return failure_; }  // kFailed: why
  int agents() const { return static_cast<int>(state_.agents.size()); }
  const AgentState& agent(int i) const { return state_.agents[i]; }
  const Introduction& introduction(int i) const { return introductions_[i]; }
  std::string Name(int agent) const { return AgentName(state_, agent); }
  int Up() const;  // in their groups and well
  bool All(AgentPhase phase) const;
  std::vector<Place> Places() const;  // for PlaceFor

  // True: the master has started an agent in this place before.
  bool OnLaunched(int agent, int pid, double now);
  void OnNotLaunched(int agent, AgentState::End why);  // no process could be started in a lost place
  // These three return whether the slowest agent has got on with it: all are joined, loaded, formed.
  bool OnJoined(int agent, Introduction introduction, double now);  // the place is free (PlaceFor)
  bool OnLoaded(int agent, double now);
  bool OnFormed(int agent, uint64_t epoch, double now);  // true: the epoch has begun; mode is kRunning
  // Begins to form an epoch, whatever the agents are at; all have loaded. What was a fact of the one before is none of
  // this one. That an agent's process has ended, that its stream broke or that it has a fault of its own stays true
  // until another process takes its place.
  void Form(double now);
  // The epoch is over, for this reason; these agents are lost, and what their processes say from now on is not to be
  // told. The others are as if they had just loaded. planned: it is no recovery that counts. -> those that have to be
  // told so, and to let go of their groups.
  std::vector<int> EndEpoch(const std::vector<int>& lost, const absl::Status& why, bool planned, double now);
  // These return whether it is news, upon which Decide may decide otherwise.
  bool OnFailure(int agent, uint64_t epoch, AgentState::Failure failure);
  bool OnReport(int agent, uint64_t epoch, AgentState::Report report, double now);
  void OnDisconnected(int agent, double now);
  void OnEnded(int agent, AgentState::End end);  // a process of its place, maybe the one that was lost

  // Another layout in the place of this one, whose epoch is over. from: for each of its places the agent that takes it,
  // which has joined and is to load anew; -1: the place is lost, and to be filled. trial: there is a way back until an
  // epoch of it begins (kFallBack).
  void Lay(const Deployment& deployment, const ParallelPlan& plan, const std::vector<int>& from, bool trial,
           double now);
  // Agents that stand by; whether processes of a layout before this one are not gone yet.
  void SetSpares(int local, int remote, bool leaving);
  void CannotShrink();  // no layout holds the model on the agents that are left, until others are

  // The fleet cannot go on. False: it has failed or stops already.
  bool Fail(const absl::Status& reason);
  void Stop() { mode_ = Mode::kStopping; }

  // What to do: Reconcile, of these facts and of the oldest step without a result (sent at; none: there is none).
  Action Decide(std::optional<double> oldest_step, uint64_t number, double last_result, double now);
  // kForming: since when no epoch has served, and why.
  double forming_since() const { return forming_since_; }
  const absl::Status& interruption() const { return interruption_; }
  int recoveries() const { return state_.recoveries; }
  // Of the recovery that the present epoch has ended: when every place had a process that had joined, and when all were
  // loaded.
  double filled_at() const { return filled_at_; }
  double loaded_at() const { return loaded_at_; }
  double last_epoch_seconds() const { return last_epoch_seconds_; }  // that the last one to end has run
  double running_since() const { return running_since_; }
  double restart_at() const { return state_.restart_at; }

 private:
  bool IsOf(uint64_t epoch, int agent) const;  // a message of the epoch that forms or runs
  void CountRecovery(double now);
  bool Advance(int agent, AgentPhase phase, double now);

  FleetState state_;
  std::vector<Introduction> introductions_;
  std::vector<int> launches_;
  std::vector<bool> fresh_;  // by agent: its place was filled, or tried to be, since the last epoch ended
  Mode mode_ = Mode::kStarting;
  uint64_t epoch_ = 0;
  std::optional<double> next_look_;
  double last_look_ = 0;
  int dozes_ = 0;  // in a row: looks after a time without any
  double last_epoch_seconds_ = 0, forming_since_ = 0, filled_at_ = 0, loaded_at_ = 0, running_since_ = 0;
  const double window_, shrink_seconds_;
  std::vector<double> recoveries_;  // when they began
  bool lasted_ = false;             // the present epoch
  int short_epochs_ = 0;            // in a row, up to the present one
  absl::Status failure_, interruption_;
};

}  // namespace pangea
