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

void FleetImpl::Supervise(const std::string& master_address, const std::string& token) {
  if (const absl::Status status = LaunchAll(master_address, token); !status.ok()) {
    std::unique_lock lock(mutex_);
    GiveUp(status, lock);
  }
  while (true) {
    {
      std::lock_guard lock(mutex_);
      if (end_supervisor_) return;
    }
    Decide();
    WaitForNews();
  }
}

absl::Status FleetImpl::LaunchAll(const std::string& master_address, const std::string& token) {
  for (size_t i = 0; i < members_.size(); ++i) {
    if (!state_.agents[i].local) continue;
    // Under the lock: the agent may join before this thread goes on, and is known by its number.
    std::lock_guard lock(mutex_);
    if (mode_ != Mode::kStarting) return absl::OkStatus();
    auto child = Launch({options_.executable, "agent", "--launched", "--master", master_address, "--agent",
                         absl::StrCat(i), "--log", deployment_.log.level},
                        token);
    if (!child.ok()) return child.status();
    members_[i].child = *child;
    if (members_[i].launches++ > 0) watch_.restarts.Add();
    state_.agents[i].ended.reset();
    state_.agents[i].pid = child->pid;
  }
  return absl::OkStatus();
}

void FleetImpl::Decide() {
  std::unique_lock lock(mutex_);
  look_again_.reset();
  if (!IsAlive()) return;
  state_.oldest_step.reset();
  if (!steps_.empty()) {
    state_.oldest_step_number = steps_.front().first;
    state_.oldest_step = steps_.front().second;
  }
  const Action action = Reconcile(state_, MonotonicSeconds());
  if (action.kind == Action::kGiveUp) return GiveUp(action.reason, lock);
  look_again_ = action.look_again;
}

void FleetImpl::GiveUp(const absl::Status& reason, std::unique_lock<std::mutex>& lock) {
  if (!IsAlive()) return;
  mode_ = Mode::kFailed;
  failure_ = reason;
  LogError("giving up: %s", reason.message());
  TellStop(absl::StrCat("the deployment has failed: ", reason.message()));
  changed_.notify_all();
  const bool tell = ready_told_;
  lock.unlock();
  if (tell && options_.on_failure) options_.on_failure(reason);
}

void FleetImpl::WaitForNews() {
  std::vector<pollfd> fds = {{wake_, POLLIN, 0}};
  std::vector<int> agents = {-1};
  int timeout = -1;
  {
    std::lock_guard lock(mutex_);
    for (size_t i = 0; i < members_.size(); ++i) {
      if (members_[i].child.pidfd < 0) continue;
      fds.push_back({members_[i].child.pidfd, POLLIN, 0});
      agents.push_back(i);
    }
    // At least once a minute, so that no configured time overflows the milliseconds.
    if (look_again_) timeout = std::ceil(std::clamp((*look_again_ - MonotonicSeconds()) * 1000, 0.0, 60'000.0));
  }
  if (poll(fds.data(), fds.size(), timeout) <= 0) return;
  if (fds[0].revents != 0) {
    uint64_t count;
    [[maybe_unused]] const auto n = read(wake_, &count, sizeof(count));
  }
  for (size_t i = 1; i < fds.size(); ++i) {
    if (fds[i].revents != 0) ReapEnded(agents[i]);
  }
}

void FleetImpl::ReapEnded(int agent) {
  std::lock_guard lock(mutex_);
  const ChildEnd end = Reap(members_[agent].child);
  state_.agents[agent].ended = {.at = MonotonicSeconds(), .by_signal = end.by_signal, .text = end.text};
  if (mode_ != Mode::kStopping && mode_ != Mode::kFailed) LogWarning("%s %s", AgentName(state_, agent), end.text);
  changed_.notify_all();
}

}  // namespace pangea
