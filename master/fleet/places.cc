// The fleet's places: who stands by to take one, who takes which when the layout changes, and what each is to load.
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "configs/device.h"
#include "configs/host.h"
#include "configs/log.h"
#include "master/fleet/clock.h"
#include "master/fleet/fleet_impl.h"
#include "master/fleet/join_rules.h"
#include "pipeline/capacity.h"
#include "pipeline/cost_model.h"

namespace pangea {

namespace wire = agent::v1;

namespace {
// Between two times that spares are started, and that the layout grows back: twice as long every time that it has come
// to nothing.
constexpr double kSpareSeconds = 1, kGrowSeconds = 1, kLongestPause = 600;
constexpr double kLastingSeconds = 1;  // of an epoch of a layout that has grown back, not to count as nothing
}  // namespace

// Spares of this host are known by their pids. An agent of another host stands by when there is no place for it.
bool FleetImpl::StandBy(SessionId session, const wire::Join& join) {
  const absl::Status able = MayStandBy(join, layout_->deployment, isa_);
  const auto spare = std::find_if(standing_by_.begin(), standing_by_.end(), [&](const StandingBy& agent) {
    return agent.local() && agent.session == 0 && agent.child.pid == join.pid();
  });
  if (spare != standing_by_.end() && join.machine() == BootId()) {
    if (!able.ok()) {  // the executable has been replaced, say
      LogWarning("a spare agent cannot stand by: %s", able.message());
      server_->Close(session, able);
      return true;
    }
    spare->session = session;
    spare->introduction = IntroductionOf(join);
    spare_wait_ = 0;
  } else {
    // The number that it asks for is one of the layout that people wish for.
    const bool ours = join.agent() >= 0 && join.agent() < static_cast<int>(wished_->plan.agents.size()) &&
                      wished_->deployment.agent(join.agent()).launch != "remote";
    if (ours || !able.ok() || !IsWelcome() || PlaceFor(join, facts_.Places(), layout_->deployment, isa_).ok())
      return false;
    standing_by_.push_back({.session = session, .introduction = IntroductionOf(join)});
  }
  LogInfo("an agent stands by, from %s with pid %d", join.host(), join.pid());
  SendStandBy(session);
  TellSpares();
  Wake();
  return true;
}

bool FleetImpl::StandsBy(SessionId session) const {
  return std::any_of(standing_by_.begin(), standing_by_.end(),
                     [session](const StandingBy& agent) { return agent.session == session; });
}

void FleetImpl::SendStandBy(SessionId session) {
  wire::FromMaster message;
  message.mutable_stand_by();
  server_->Send({session}, message);
}

int FleetImpl::RemotePlaces(const Layout& layout) const {
  int remote = 0;
  for (int i = 0; i < static_cast<int>(layout.plan.agents.size()); ++i)
    remote += layout.deployment.agent(i).launch == "remote";
  return remote;
}

bool FleetImpl::IsWelcome() const {
  const auto remote =
      std::count_if(standing_by_.begin(), standing_by_.end(), [](const StandingBy& agent) { return !agent.local(); });
  return remote < control_.spare_agents + LeftOut();
}

int FleetImpl::LeftOut() const {
  const int former = former_ ? RemotePlaces(*former_->layout) : 0;
  return std::max(RemotePlaces(*wished_), former) - RemotePlaces(*layout_);
}

void FleetImpl::DismissWhoIsLeftOver() {
  int room = control_.spare_agents + LeftOut();
  for (const StandingBy& agent : standing_by_) {
    if (!agent.local() && room-- <= 0)
      server_->Close(agent.session, absl::FailedPreconditionError("the layout has no place for this agent"));
  }
}

void FleetImpl::TellSpares() {
  int local = 0, remote = 0;
  for (const StandingBy& agent : standing_by_) {
    if (agent.session != 0) ++(agent.local() ? local : remote);
  }
  facts_.SetSpares(local, remote, !leaving_.empty());
}

std::string FleetImpl::NoRoom(const Layout& layout, const std::vector<int>& agents) const {
  HostMemory memory = AvailableMemory();
  for (int i = 0; i < facts_.agents(); ++i) {
    const bool holds = facts_.agent(i).local && facts_.agent(i).phase >= AgentPhase::kLoaded;
    if (holds && memory.available < memory_at_start_) memory.available += layout_->plan.agents[i].memory.own();
  }
  memory.available = std::min(memory.available, memory_at_start_);  // pages that nobody has touched yet are not taken
  if (std::string fault = HostFault(layout.deployment, layout.plan, memory); !fault.empty()) return fault;
  std::vector<Seeker> seekers;
  std::map<std::string, int64_t> holds, most = memory_;
  for (const int i : agents) {
    const Introduction& agent = facts_.introduction(i);
    seekers.push_back({.local = facts_.agent(i).local, .host = agent.host, .machine = agent.machine});
    if (facts_.agent(i).phase >= AgentPhase::kLoaded) holds[agent.machine] += layout_->plan.agents[i].memory.own();
  }
  // What they hold now they can hold, whatever was free when they joined.
  for (const auto& [machine, bytes] : holds) {
    if (const auto told = most.find(machine); told != most.end() && told->second > 0)
      told->second = std::max(told->second, bytes);
  }
  for (const StandingBy& agent : standing_by_) {
    if (agent.session != 0 && !agent.local())
      seekers.push_back({.local = false, .host = agent.introduction.host, .machine = agent.introduction.machine});
  }
  return RemoteFault(layout, seekers, most);
}

bool FleetImpl::CanFill(const Layout& layout) const {
  std::vector<Seeker> seekers;
  for (int i = 0; i < facts_.agents(); ++i)
    seekers.push_back({.local = facts_.agent(i).local, .host = facts_.introduction(i).host});
  for (const StandingBy& agent : standing_by_) {
    if (agent.session != 0 && !agent.local()) seekers.push_back({.local = false, .host = agent.introduction.host});
  }
  const std::vector<int> seats = Seats(layout, seekers);
  for (size_t i = 0; i < seats.size(); ++i) {
    if (seats[i] < 0 && layout.deployment.agent(static_cast<int>(i)).launch == "remote") return false;
  }
  return true;
}

absl::StatusOr<uint64_t> FleetImpl::Relayout(int pipeline, int tensor, const Deployment* edited) {
  MutexLock lock(mutex_);
  if (facts_.mode() != Mode::kRunning || !ready_told_)
    return absl::FailedPreconditionError("no epoch serves now; see the status");
  Deployment deployment = asked_;
  if (edited != nullptr) {
    deployment.agents = edited->agents;
    deployment.agent_list = edited->agent_list;
    deployment.cache.memory = edited->cache.memory;
  }
  auto made = MakeLayout(header_, deployment, pipeline, tensor, context_);
  if (!made.ok()) return made.status();
  const auto next = std::make_shared<Layout>(*std::move(made));
  for (int i = 0; i < static_cast<int>(next->plan.agents.size()); ++i) {
    const std::string& device = next->deployment.agent(i).device;
    if (FindDevice(device)->kind != FindDevice(layout_->deployment.agent(0).device)->kind)
      return absl::InvalidArgumentError(absl::StrCat("agents.device: ", device, " is not what they have now"));
  }
  std::vector<int> all(facts_.agents());
  std::iota(all.begin(), all.end(), 0);
  if (const std::string fault = NoRoom(*next, all); !fault.empty()) return absl::InvalidArgumentError(fault);
  if (!CanFill(*next))
    return absl::FailedPreconditionError(
        absl::StrCat(next->Name(), ": it has more places for agents of other hosts ", "than there are such agents"));
  const uint64_t epoch = facts_.epoch();
  former_ = Former{layout_, wished_, asked_};
  relayout_failure_.clear();
  asked_ = std::move(deployment);
  wished_ = next;
  const auto why = absl::UnavailableError(absl::StrCat("the layout becomes ", next->Name(), ", as it was asked for"));
  Interrupt({}, why, /*planned=*/true);
  Adopt(next, /*trial=*/true);
  lock.unlock();
  if (options_.on_interrupted) options_.on_interrupted(why);
  return epoch;
}

void FleetImpl::Adopt(std::shared_ptr<const Layout> next, bool trial) {
  if (!trial) former_.reset();
  LogInfo("the layout is %s from now on", next->Name());
  std::vector<Seeker> seekers;
  std::vector<int> agents;  // that seek
  for (int i = 0; i < facts_.agents(); ++i) {
    const AgentState& agent = facts_.agent(i);
    if (agent.lost || agent.phase == AgentPhase::kAwaited || members_[i].session == 0) continue;
    seekers.push_back({.local = agent.local, .host = facts_.introduction(i).host});
    agents.push_back(i);
  }
  std::vector<int> from = Seats(*next, seekers);
  for (int& seat : from) seat = seat < 0 ? -1 : agents[seat];
  std::vector<Member> members(next->plan.agents.size());
  for (size_t i = 0; i < members.size(); ++i) {
    if (from[i] < 0) continue;
    std::swap(members[i].child, members_[from[i]].child);
    std::swap(members[i].session, members_[from[i]].session);
  }
  layout_ = std::move(next);
  for (size_t i = 0; i < members_.size(); ++i) {
    Member& left = members_[i];  // over, or lost
    if (left.child.pidfd >= 0) {
      kill(left.child.pid, SIGKILL);  // not reaped yet: still that process
      leaving_.push_back(left.child);
    } else if (left.session != 0 && IsWelcome()) {
      standing_by_.push_back({.session = left.session, .introduction = facts_.introduction(static_cast<int>(i))});
      SendStandBy(left.session);
    } else if (left.session != 0) {
      server_->Close(left.session, absl::FailedPreconditionError("the new layout has no place for this agent"));
    }
  }
  members_.swap(members);
  facts_.Lay(layout_->deployment, layout_->plan, from, trial, MonotonicSeconds());
  watch_.Lay(layout_->plan);
  const std::vector<bool> spin = MaySpin(Shares());
  for (int i = 0; i < facts_.agents(); ++i) {
    if (members_[i].session == 0) continue;
    watch_.OnJoin(i, facts_.agent(i).local);
    Assign(i, spin[i]);
  }
  TellSpares();
  Wake();
}

void FleetImpl::AssignAll() {
  std::vector<std::string> isas;
  for (int i = 0; i < facts_.agents(); ++i) isas.push_back(facts_.introduction(i).isa);
  const std::string& asked = layout_->deployment.kernels.isa;
  isa_ = asked == "auto" ? CommonIsa(isas) : asked;
  LogInfo("all %d agents have joined; ISA class %s", members_.size(), isa_);
  for (const StandingBy& agent : standing_by_) {
    if (agent.session != 0 && !HasIsa(agent.introduction.isa, isa_))
      server_->Close(agent.session, absl::FailedPreconditionError("its CPU lacks the ISA class of the others"));
  }
  const std::vector<bool> spin = MaySpin(Shares());
  for (int i = 0; i < facts_.agents(); ++i) Assign(i, spin[i]);
}

void FleetImpl::Assign(int agent, bool spin) {
  wire::FromMaster message;
  wire::Assign& assign = *message.mutable_assign();
  const auto& [deployment, plan] = *layout_;
  const std::string& own = deployment.agent(agent).model;
  const std::string& model = own.empty() ? deployment.model : own;
  std::error_code error;
  const auto absolute = std::filesystem::absolute(model, error);  // an agent may run in another folder
  assign.set_agent(agent);
  assign.set_deployment(DumpDeployment(deployment));
  assign.set_model(error ? model : absolute.string());
  assign.set_header_hash(header_.hash);
  assign.set_plan_hash(plan.Hash());
  assign.set_isa(isa_);
  assign.set_kv_blocks(plan.kv_blocks);
  assign.set_spin(spin);
  assign.set_serial(members_[agent].serial = ++assignments_);
  assign.set_silence_seconds(deployment.control.silence_seconds);
  assign.set_keep_weights(facts_.agent(agent).local);
  assign.set_weights_path(members_[agent].weights.PathFor(facts_.introduction(agent).executable));
  assign.set_packed_bytes(members_[agent].weights.bytes());
  assign.set_pages_path(members_[agent].pages.PathFor(facts_.introduction(agent).executable));
  members_[agent].unproven = true;
  server_->Send({members_[agent].session}, message);
}

void FleetImpl::OnReady(int agent, const wire::Ready& ready) {
  // One that changes its place may have told of the one before.
  if (facts_.agent(agent).phase != AgentPhase::kJoined || ready.serial() != members_[agent].serial) return;
  LogInfo("%s is loaded: %s of weights, %s of KV pages, in %.2f s", facts_.Name(agent), BytesText(ready.weight_bytes()),
          BytesText(ready.kv_bytes()), ready.load_seconds());
  if (facts_.agent(agent).local && ready.weights_fd() > 0 &&
      !members_[agent].weights.Take(facts_.agent(agent).pid, ready.weights_fd(), ready.packed_bytes(),
                                    facts_.introduction(agent).executable))
    LogWarning("%s: its packed weights cannot be kept for a successor", facts_.Name(agent));
  KeptFile& pages = members_[agent].pages;
  if (!ready.pages_kept() || pages.PathFor(facts_.introduction(agent).executable).empty()) {
    pages.Drop();
    members_[agent].pages_since = 0;
    if (facts_.agent(agent).local && ready.pages_fd() > 0 &&
        !pages.Take(facts_.agent(agent).pid, ready.pages_fd(), ready.kv_bytes(), facts_.introduction(agent).executable))
      LogWarning("%s: its KV pages cannot be kept for a successor", facts_.Name(agent));
  }
  if (facts_.OnLoaded(agent, MonotonicSeconds())) Wake();
}

// While the agents serve: what befalls a spare is no reason to hurry.
void FleetImpl::LaunchSpares() {
  const Deployment& deployment = layout_->deployment;
  bool starts_any = false;
  for (int i = 0; i < facts_.agents(); ++i) starts_any |= deployment.agent(i).launch != "remote";
  const auto there =
      std::count_if(standing_by_.begin(), standing_by_.end(), [](const StandingBy& agent) { return agent.local(); });
  if (facts_.mode() != Mode::kRunning || !starts_any || there >= control_.spare_agents) return;
  const double now = MonotonicSeconds();
  if (now < next_spare_) {
    look_again_ = std::min(look_again_.value_or(next_spare_), next_spare_);
    return;
  }
  spare_wait_ = std::clamp(2 * spare_wait_, kSpareSeconds, kLongestPause);
  next_spare_ = now + spare_wait_;
  for (auto i = there; i < control_.spare_agents; ++i) {
    auto child =
        Launch({options_.executable, "agent", "--launched", "--master", address_, "--log", log_level_}, token_);
    if (!child.ok()) return LogWarning("a spare agent cannot be started: %s", child.status().message());
    standing_by_.push_back({.child = *child});
  }
}

void FleetImpl::MoveToSpare(int agent) {
  const bool local = facts_.agent(agent).local;
  const std::string& host = layout_->deployment.agent(agent).host;
  auto spare = standing_by_.end();
  for (auto it = standing_by_.begin(); it != standing_by_.end(); ++it) {
    if (it->local() != local || it->session == 0) continue;
    if (spare == standing_by_.end() || it->introduction.host == host) spare = it;
  }
  if (spare == standing_by_.end()) return;
  const StandingBy taken = *spare;
  standing_by_.erase(spare);
  TellSpares();
  LogInfo("the place of agent %d goes to a spare, pid %d", agent, taken.introduction.pid);
  if (local) {
    members_[agent].child = taken.child;
    facts_.OnLaunched(agent, taken.child.pid, MonotonicSeconds());
  }
  if (facts_.introduction(agent).pid != 0) watch_.restarts.Add();  // else a new layout's place
  Admit(agent, taken.session, taken.introduction, /*from_elsewhere=*/!local && taken.introduction.host != host);
}

// False: it has come to the end.
bool FleetImpl::Shrink(const Action& action) {
  std::vector<int> left;
  bool local = false;
  for (int i = 0; i < facts_.agents(); ++i) {
    const bool gone = std::find(action.agents.begin(), action.agents.end(), i) != action.agents.end();
    local |= gone && facts_.agent(i).local;
    if (gone || facts_.agent(i).lost) {  // the other layout may need the room
      members_[i].pages.Drop();
      members_[i].weights.Drop();
    }
    if (!gone && !facts_.agent(i).lost) left.push_back(i);
  }
  auto layout = ShrunkLayout(header_, *layout_, left, context_,
                             [&](const Layout& next)
                                 ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return NoRoom(next, left).empty(); });
  if (!layout) {
    if (!left.empty()) LogWarning("no layout of the agents that are left holds the model");
    facts_.CannotShrink();
    return !local;  // a remote agent may still come
  }
  Interrupt(action.agents, action.reason, /*planned=*/true);
  const auto next = std::make_shared<Layout>(*std::move(layout));
  if (local) wished_ = next;  // whatever ends its processes would do so again: people have to ask for it
  Adopt(next);
  const double now = MonotonicSeconds();
  const bool lasted = facts_.running_since() > grown_at_ && facts_.last_epoch_seconds() >= kLastingSeconds;
  grow_wait_ = lasted ? 0 : std::clamp(2 * grow_wait_, kGrowSeconds, kLongestPause);
  grow_at_ = now + grow_wait_;
  return true;
}

// The layout that was asked for has never served.
void FleetImpl::FallBack(const Action& action) {
  const Former former = *former_;
  relayout_failure_ = std::string(action.reason.message());
  LogWarning("a layout of %s comes to nothing; back to %s", layout_->Name(), former.layout->Name());
  Interrupt(action.agents, action.reason, /*planned=*/true);
  asked_ = former.asked;
  wished_ = former.wished;
  Adopt(former.layout);
}

bool FleetImpl::GrowBack() {
  if (layout_ == wished_ || facts_.mode() != Mode::kRunning || !CanFill(*wished_)) return false;
  const double now = MonotonicSeconds();
  if (now < grow_at_) {
    look_again_ = std::min(look_again_.value_or(grow_at_), grow_at_);
    return false;
  }
  grown_at_ = now;
  Interrupt({}, absl::UnavailableError(absl::StrCat("agents are back: the layout becomes ", wished_->Name())),
            /*planned=*/true);
  Adopt(wished_);
  return true;
}

}  // namespace pangea
