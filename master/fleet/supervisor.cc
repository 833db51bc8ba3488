// The fleet's supervisor: starts the local agents (they die with this thread, which lives as long as the fleet), sees
// them end through their pidfds, and acts on what Reconcile says.
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "configs/log.h"
#include "master/fleet/clock.h"
#include "master/fleet/fleet_impl.h"

namespace pangea {

namespace wire = agent::v1;

void FleetImpl::Supervise() {
  if (const absl::Status status = LaunchAll(); !status.ok()) {
    bool tell;
    {
      MutexLock lock(mutex_);
      tell = GiveUp(status);
    }
    if (tell) options_.on_failure(status);
  }
  while (true) {
    {
      MutexLock lock(mutex_);
      if (end_supervisor_) return;
    }
    while (Decide()) {
    }
    WaitForNews();
  }
}

absl::Status FleetImpl::LaunchAll() {
  for (int i = 0;; ++i) {
    // Under the lock: the agent may join before this thread goes on, and is known by its number.
    MutexLock lock(mutex_);
    if (i >= facts_.agents()) return absl::OkStatus();
    if (!facts_.agent(i).local) continue;
    if (facts_.mode() != Mode::kStarting) return absl::OkStatus();
    if (const absl::Status status = LaunchOne(i); !status.ok()) return status;
  }
}

absl::Status FleetImpl::LaunchOne(int agent) {
  auto child = Launch({options_.executable, "agent", "--launched", "--master", address_, "--agent", absl::StrCat(agent),
                       "--log", log_level_},
                      token_);
  if (!child.ok()) return child.status();
  members_[agent].child = *child;
  if (facts_.OnLaunched(agent, child->pid, MonotonicSeconds())) watch_.restarts.Add();
  return absl::OkStatus();
}

bool FleetImpl::Decide() {
  const std::optional<AgentPort::Outstanding> oldest = port_.oldest();
  const auto sent = oldest ? std::optional(oldest->sent) : std::nullopt;
  Action action;
  bool tell = false;
  {
    MutexLock lock(mutex_);
    const bool was_told = ready_told_ && facts_.mode() == Mode::kRunning;
    action = facts_.Decide(sent, oldest ? oldest->number : 0, port_.last_result(), MonotonicSeconds());
    switch (action.kind) {
      case Action::kNone:
        break;
      case Action::kInterrupt:
        Interrupt(action.agents, action.reason, /*planned=*/false);
        tell = was_told && options_.on_interrupted;
        break;
      case Action::kRestart:
        for (const int agent : action.agents) {
          LogInfo("agent %d is started again", agent);
          if (const absl::Status status = LaunchOne(agent); !status.ok()) {
            facts_.OnNotLaunched(agent, {.at = MonotonicSeconds(), .text = std::string(status.message())});
          }
        }
        break;
      case Action::kMoveToSpare:
        for (const int agent : action.agents) MoveToSpare(agent);
        break;
      case Action::kRegroup:
        Form();
        break;
      case Action::kFallBack:
        FallBack(action);
        break;
      case Action::kShrink:
        if (Shrink(action)) {
          tell = was_told && options_.on_interrupted;
          break;
        }
        action.kind = Action::kGiveUp;
        [[fallthrough]];
      case Action::kGiveUp:
        tell = GiveUp(action.reason);
        break;
    }
    look_again_ = action.look_again;
    if (action.kind == Action::kNone && GrowBack()) {
      action.kind = Action::kShrink;
      action.reason = facts_.interruption();
      tell = was_told && options_.on_interrupted;
    }
    if (action.kind == Action::kNone) LaunchSpares();
  }
  if (tell) (action.kind == Action::kGiveUp ? options_.on_failure : options_.on_interrupted)(action.reason);
  return action.kind != Action::kNone;
}

// Survivors are told to let go of their groups; those who are lost are rid of, so that their places can be filled.
void FleetImpl::Interrupt(const std::vector<int>& lost, const absl::Status& why, bool planned) {
  LogWarning("epoch %d is over: %s", facts_.epoch(), why.message());
  port_.Close();
  lost_at_.clear();
  for (const int agent : lost) {
    if (lost_at_.empty() && facts_.agent(agent).report) lost_at_ = PlaceText(facts_.agent(agent));
    Member& member = members_[agent];
    if (member.session != 0) server_->Close(member.session, absl::UnavailableError("this agent is replaced"));
    member.session = 0;
    if (member.child.pidfd >= 0) kill(member.child.pid, SIGKILL);  // not reaped yet: still that process
  }
  wire::FromMaster message;
  message.mutable_epoch_over()->set_epoch(facts_.epoch());
  std::vector<SessionId> others;
  for (const int agent : facts_.EndEpoch(lost, why, planned, MonotonicSeconds())) {
    others.push_back(members_[agent].session);
  }
  server_->Send(others, message);
}

bool FleetImpl::GiveUp(const absl::Status& reason) {
  if (!facts_.Fail(reason)) return false;
  LogError("giving up: %s", reason.message());
  port_.Close();
  TellStop(absl::StrCat("the deployment has failed: ", reason.message()));
  changed_.notify_all();
  return ready_told_ && options_.on_failure;
}

std::vector<int> FleetImpl::Pidfds() const {
  std::vector<int> pidfds;
  const auto add = [&](const Child& child) {
    if (child.pidfd >= 0) pidfds.push_back(child.pidfd);
  };
  for (const Member& member : members_) add(member.child);
  for (const StandingBy& agent : standing_by_) add(agent.child);
  for (const Child& child : leaving_) add(child);
  return pidfds;
}

void FleetImpl::WaitForNews() {
  std::vector<pollfd> fds = {{wake_, POLLIN, 0}};
  int timeout = -1;
  {
    MutexLock lock(mutex_);
    for (const int pidfd : Pidfds()) fds.push_back({pidfd, POLLIN, 0});
    // At least once a minute, so that no configured time overflows the milliseconds.
    if (look_again_) timeout = std::ceil(std::clamp((*look_again_ - MonotonicSeconds()) * 1000, 0.0, 60'000.0));
  }
  if (poll(fds.data(), fds.size(), timeout) <= 0) return;
  if (fds[0].revents != 0) {
    uint64_t count;
    [[maybe_unused]] const auto n = read(wake_, &count, sizeof(count));
  }
  for (size_t i = 1; i < fds.size(); ++i) {
    if (fds[i].revents != 0) ReapEnded(fds[i].fd);
  }
}

void FleetImpl::ReapEnded(int pidfd) {
  MutexLock lock(mutex_);
  for (size_t i = 0; i < members_.size(); ++i) {
    if (members_[i].child.pidfd != pidfd) continue;
    const ChildEnd end = Reap(members_[i].child);
    const int agent = static_cast<int>(i);
    // What has ended it by itself may have written anywhere; and pages with which no process begins are no use.
    if (!end.killed || members_[i].unproven) members_[i].pages.Drop();
    facts_.OnEnded(agent, {.at = MonotonicSeconds(), .by_signal = end.by_signal, .text = end.text});
    if (facts_.IsAlive()) LogWarning("%s %s", facts_.Name(agent), end.text);
  }
  for (StandingBy& agent : standing_by_) {
    if (agent.child.pidfd != pidfd) continue;
    const int pid = agent.child.pid;
    const ChildEnd end = Reap(agent.child);
    if (facts_.IsAlive()) LogWarning("the spare agent with pid %d %s", pid, end.text);
    agent.child = {};
    agent.session = 0;
  }
  std::erase_if(standing_by_, [](const StandingBy& agent) { return agent.session == 0 && !agent.local(); });
  for (Child& child : leaving_) {
    if (child.pidfd == pidfd) Reap(child);
  }
  std::erase_if(leaving_, [](const Child& child) { return child.pidfd < 0; });
  TellSpares();
  changed_.notify_all();
}

}  // namespace pangea
