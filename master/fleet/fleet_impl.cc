// The fleet towards its callers and its agents; supervisor.cc has the part that watches.
#include "master/fleet/fleet_impl.h"

#include <google/protobuf/arena.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "configs/log.h"
#include "configs/values.h"
#include "master/fleet/clock.h"
#include "master/fleet/join_rules.h"
#include "master/fleet/step_codec.h"
#include "pipeline/capacity.h"

namespace pangea {
namespace {

namespace wire = agent::v1;

constexpr size_t kStepArenaBytes = 16 << 10;    // a step of some hundred sequences
constexpr std::chrono::seconds kStopLimit(2);   // for agents to leave by themselves
constexpr std::chrono::seconds kKillLimit(10);  // for the kernel to take killed ones away

}  // namespace

FleetImpl::FleetImpl(const Deployment& deployment, const CheckpointHeader& header, const ParallelPlan& plan,
                     FleetOptions options)
    : deployment_(deployment),
      header_hash_(header.hash),
      plan_(plan),
      options_(std::move(options)),
      watch_(plan, options_.timeline) {
  state_.join_seconds = deployment.control.join_seconds;
  state_.step_seconds = deployment.control.step_seconds;
  state_.phase_since = MonotonicSeconds();
  for (size_t i = 0; i < plan.agents.size(); ++i) {
    state_.agents.push_back(
        {.stage = plan.agents[i].stage, .rank = plan.agents[i].rank, .local = deployment.agent(i).launch != "remote"});
  }
  members_.resize(plan.agents.size());
}

absl::Status FleetImpl::Open(const std::string& dial_host, const std::string& token) {
  wake_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_ < 0) return absl::ErrnoToStatus(errno, "eventfd");
  // An agent may dial a fixed port before server_ is set: its callbacks wait for the mutex.
  std::unique_lock lock(mutex_);
  auto server = ControlServer::Start(
      deployment_.control.listen, token,
      {.on_message = [this](ControlServer::SessionId session,
                            const wire::FromAgent& message) { OnMessage(session, message); },
       .on_end = [this](ControlServer::SessionId session) { OnEnd(session); },
       .on_progress = [this](int agent, const wire::ProgressReport& report) { OnProgress(agent, report); }});
  if (!server.ok()) return server.status();
  server_ = *std::move(server);
  lock.unlock();
  const std::string address = absl::StrCat(dial_host, ":", server_->port());
  LogInfo("agents join at %s", address);
  supervisor_ = std::thread([this, address, token] { Supervise(address, token); });
  return absl::OkStatus();
}

absl::Status FleetImpl::WaitReady() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return mode_ >= Mode::kRunning; });
  if (mode_ == Mode::kStopping) return absl::CancelledError("the fleet was stopped");
  if (mode_ == Mode::kFailed) return failure_;
  ready_told_ = true;
  const uint64_t epoch = epoch_;
  lock.unlock();
  if (options_.on_epoch) options_.on_epoch(epoch);
  return absl::OkStatus();
}

std::string FleetImpl::isa() const {
  std::lock_guard lock(mutex_);
  return isa_;
}

int FleetImpl::agents_up() const {
  std::lock_guard lock(mutex_);
  return std::count_if(state_.agents.begin(), state_.agents.end(), [](const AgentState& agent) {
    return agent.phase == AgentPhase::kFormed && !agent.ended && !agent.disconnected && !agent.failure;
  });
}

void FleetImpl::WriteMetrics(MetricsPage& page) const {
  page.AddGauge({"pangea_agents", "Agents that the plan asks for."}, {{static_cast<double>(plan_.agents.size())}});
  page.AddGauge({"pangea_agents_up", "Agents that are in their groups and well."},
                {{static_cast<double>(agents_up())}});
  uint64_t epoch;
  {
    std::lock_guard lock(mutex_);
    epoch = epoch_;
  }
  page.AddGauge({"pangea_epoch", "How often the groups were formed."}, {{static_cast<double>(epoch)}});
  watch_.Write(page);
}

void FleetImpl::Send(const Step& step) {
  alignas(8) char block[kStepArenaBytes];
  google::protobuf::Arena arena(block, sizeof(block));
  auto* message = google::protobuf::Arena::CreateMessage<wire::FromMaster>(&arena);
  EncodeStep(step, message->mutable_step());
  std::lock_guard lock(mutex_);
  if (mode_ != Mode::kRunning || step.epoch != epoch_) return;  // whoever waits for its result is told otherwise
  steps_.emplace_back(step.number, MonotonicSeconds());
  watch_.step_rows.Add(step.rows());
  server_->Send(Sessions(), *message);
}

void FleetImpl::SendMask(const Mask& mask) {
  wire::FromMaster message;
  EncodeMask(mask, message.mutable_mask());
  std::lock_guard lock(mutex_);
  if (mode_ != Mode::kRunning || mask.epoch != epoch_) return;
  std::vector<ControlServer::SessionId> sessions;
  for (size_t i = 0; i < members_.size(); ++i) {
    if (plan_.agents[i].last && members_[i].session != 0) sessions.push_back(members_[i].session);
  }
  server_->Send(sessions, message);
}

void FleetImpl::Stop() {
  std::call_once(stopped_, [this] { StopOnce(); });
}

void FleetImpl::StopOnce() {
  if (supervisor_.joinable()) {
    std::unique_lock lock(mutex_);
    mode_ = Mode::kStopping;
    TellStop("the master stops");
    changed_.notify_all();
    Wake();
    if (!changed_.wait_for(lock, kStopLimit, [this] { return Left(); })) {
      for (size_t i = 0; i < members_.size(); ++i) {
        if (members_[i].child.pidfd < 0) continue;
        LogWarning("%s does not stop: killed", AgentName(state_, i));
        kill(members_[i].child.pid, SIGKILL);  // not reaped yet: still that process
      }
      changed_.wait_for(lock, kKillLimit, [this] {
        return std::all_of(members_.begin(), members_.end(), [](const Member& m) { return m.child.pidfd < 0; });
      });
    }
    end_supervisor_ = true;
    Wake();
  }
  if (supervisor_.joinable()) supervisor_.join();
  if (server_) server_->Shutdown();
  if (wake_ >= 0) close(wake_);
  wake_ = -1;
}

void FleetImpl::TellStop(const std::string& reason) {
  wire::FromMaster message;
  message.mutable_stop()->set_reason(reason);
  server_->Send(Sessions(), message);
  for (const Member& member : members_) {
    // It has not joined, so it cannot get the message; and launched agents ignore SIGTERM. It has nothing to lose yet.
    if (member.session == 0 && member.child.pidfd >= 0) kill(member.child.pid, SIGKILL);
  }
}

bool FleetImpl::Left() const {
  return std::all_of(members_.begin(), members_.end(),
                     [](const Member& m) { return m.child.pidfd < 0 && m.session == 0; });
}

std::vector<ControlServer::SessionId> FleetImpl::Sessions() const {
  std::vector<ControlServer::SessionId> sessions;
  for (const Member& member : members_) {
    if (member.session != 0) sessions.push_back(member.session);
  }
  return sessions;
}

int FleetImpl::AgentOf(ControlServer::SessionId session) const {
  for (size_t i = 0; i < members_.size(); ++i) {
    if (members_[i].session == session) return static_cast<int>(i);
  }
  return -1;
}

void FleetImpl::OnMessage(ControlServer::SessionId session, const wire::FromAgent& message) {
  std::unique_lock lock(mutex_);
  if (message.has_join()) return OnJoin(session, message.join());
  const int agent = AgentOf(session);
  if (agent < 0) return server_->Close(session, absl::FailedPreconditionError("the first message must be a join"));
  switch (message.kind_case()) {
    case wire::FromAgent::kReady:
      return OnReady(agent, message.ready());
    case wire::FromAgent::kRendezvous:
      return OnRendezvous(session, message.rendezvous());
    case wire::FromAgent::kFormed: {
      if (!OnFormed(agent, message.formed().epoch()) || !ready_told_) return;
      const uint64_t epoch = epoch_;
      lock.unlock();
      if (options_.on_epoch) options_.on_epoch(epoch);
      return;
    }
    case wire::FromAgent::kResult:
      lock.unlock();
      return OnResult(agent, message.result());
    case wire::FromAgent::kTraces:
      lock.unlock();
      return OnTraces(agent, message.traces());
    case wire::FromAgent::kFailure:
      return OnFailure(agent, message.failure());
    default:
      return server_->Close(session, absl::UnimplementedError("a message of an unknown kind"));
  }
}

void FleetImpl::OnFailure(int agent, const wire::Failure& failure) {
  // What an agent suffered in an epoch that is over (its group was aborted for the new one, say) is no news. After a
  // fault of its own its process leaves, whichever the epoch.
  if (!failure.fatal() && failure.epoch() != epoch_) return;
  AgentState& state = state_.agents[agent];
  // A fault of its own outweighs what it suffered before.
  if (state.failure && (!failure.fatal() || state.failure->fatal)) return;
  state.failure = {.at = MonotonicSeconds(),
                   .status = absl::Status(static_cast<absl::StatusCode>(failure.code()), Printable(failure.message())),
                   .fatal = failure.fatal()};
  Wake();
}

void FleetImpl::OnEnd(ControlServer::SessionId session) {
  std::lock_guard lock(mutex_);
  const int agent = AgentOf(session);
  if (agent < 0) return;
  members_[agent].session = 0;
  state_.agents[agent].disconnected = MonotonicSeconds();
  changed_.notify_all();
  Wake();
}

void FleetImpl::OnProgress(int agent, const wire::ProgressReport& report) {
  if (agent < 0 || agent >= static_cast<int>(plan_.agents.size())) return;
  watch_.OnProgress(agent, report, MonotonicSeconds());
  std::lock_guard lock(mutex_);
  std::string progress =
      absl::StrFormat("step %d, layer %d, collective %d", report.step(), report.layer(), report.collective());
  if (report.epoch() != epoch_ || progress == state_.agents[agent].progress) return;
  state_.agents[agent].progress = std::move(progress);
  state_.last_progress = MonotonicSeconds();
}

void FleetImpl::OnResult(int agent, const wire::StepResult& message) {
  const double now = MonotonicSeconds();
  watch_.OnActivity(agent, message.activity(), now);
  {
    std::lock_guard lock(mutex_);
    const RankPlan& place = plan_.agents[agent];
    if (mode_ != Mode::kRunning || message.epoch() != epoch_ || !place.last || place.rank != 0) return;
    for (; !steps_.empty() && steps_.front().first <= message.number(); steps_.pop_front()) {
      watch_.step_seconds.Add(now - std::max(steps_.front().second, last_result_));
      last_result_ = now;
    }
    state_.last_progress = now;
  }
  options_.on_result(DecodeResult(message));
  OnTraces(agent, message.traces());
}

void FleetImpl::OnTraces(int agent, const wire::StepTraces& traces) {
  for (const wire::StepTrace& trace : traces.steps()) watch_.OnTrace(agent, trace, MonotonicSeconds());
}

void FleetImpl::OnJoin(ControlServer::SessionId session, const wire::Join& join) {
  if (AgentOf(session) >= 0)
    return server_->Close(session, absl::FailedPreconditionError("join refused: this session has joined already"));
  if (mode_ == Mode::kFailed || mode_ == Mode::kStopping) {
    return server_->Close(session, absl::UnavailableError("join refused: the master stops"));
  }
  std::vector<Place> places;
  for (size_t i = 0; i < members_.size(); ++i) {
    places.push_back({.local = state_.agents[i].local,
                      .taken = state_.agents[i].phase != AgentPhase::kAwaited,
                      .launched_pid = members_[i].child.pid});
  }
  const absl::StatusOr<int> index = PlaceFor(join, places, deployment_);
  if (!index.ok()) {
    LogWarning("%s", index.status().message());
    return server_->Close(session, index.status());
  }
  Member& member = members_[*index];
  AgentState& state = state_.agents[*index];
  state.disconnected.reset();  // of a process before this one, as are these
  state.failure.reset();
  state.progress.clear();
  member.session = session;
  member.isa = join.isa();
  member.share = {.host = join.machine().empty() ? join.host() : join.machine(),
                  .threads = deployment_.agent(*index).threads,
                  .cores = join.cores()};
  const std::string& host = deployment_.agent(*index).host;
  member.host = host.empty() ? join.host() : host;
  state.pid = join.pid();
  watch_.OnJoin(*index, state.local);
  Advance(*index, AgentPhase::kJoined);
  LogInfo("%s joined from %s with ISA class %s", AgentName(state_, *index), member.host, member.isa);
  if (All(AgentPhase::kJoined)) Assign();
}

void FleetImpl::Assign() {
  std::vector<std::string> isas;
  for (const Member& member : members_) isas.push_back(member.isa);
  isa_ = deployment_.kernels.isa == "auto" ? CommonIsa(isas) : deployment_.kernels.isa;
  LogInfo("all %d agents have joined; ISA class %s", members_.size(), isa_);
  std::vector<HostShare> shares;
  for (const Member& member : members_) shares.push_back(member.share);
  const std::vector<bool> spin = MaySpin(shares);
  for (size_t i = 0; i < members_.size(); ++i) {
    wire::FromMaster message;
    wire::Assign& assign = *message.mutable_assign();
    const std::string& model = deployment_.agent(i).model.empty() ? deployment_.model : deployment_.agent(i).model;
    std::error_code error;
    const auto absolute = std::filesystem::absolute(model, error);  // an agent may run in another folder
    assign.set_agent(i);
    assign.set_deployment(DumpDeployment(deployment_));
    assign.set_model(error ? model : absolute.string());
    assign.set_header_hash(header_hash_);
    assign.set_plan_hash(plan_.Hash());
    assign.set_isa(isa_);
    assign.set_kv_blocks(plan_.kv_blocks);
    assign.set_spin(spin[i]);
    server_->Send({members_[i].session}, message);
  }
}

void FleetImpl::OnReady(int agent, const wire::Ready& ready) {
  if (state_.agents[agent].phase != AgentPhase::kJoined) return;
  LogInfo("%s is loaded: %s of weights, %s of KV pages, in %.2f s", AgentName(state_, agent),
          BytesText(ready.weight_bytes()), BytesText(ready.kv_bytes()), ready.load_seconds());
  Advance(agent, AgentPhase::kLoaded);
  if (All(AgentPhase::kLoaded)) Form();
}

void FleetImpl::Regroup() {
  std::lock_guard lock(mutex_);
  if (IsAlive() && All(AgentPhase::kLoaded)) Form();
}

// Begins an epoch: what was a fact of the one before is none of this one. That an agent's process has ended, that its
// stream broke or that it has a fault of its own stays true until another process takes its place.
void FleetImpl::Form() {
  ++epoch_;
  if (mode_ == Mode::kRunning) mode_ = Mode::kForming;
  forming_since_ = state_.phase_since = state_.last_progress = MonotonicSeconds();
  steps_.clear();
  for (AgentState& agent : state_.agents) {
    agent.phase = AgentPhase::kLoaded;
    agent.progress.clear();
    if (agent.failure && !agent.failure->fatal) agent.failure.reset();
  }
  Wake();
  wire::FromMaster message;
  wire::Form& form = *message.mutable_form();
  form.set_epoch(epoch_);
  form.set_transport(plan_.transport);
  for (const Member& member : members_) form.add_hosts(member.host);
  server_->Send(Sessions(), message);
}

void FleetImpl::OnRendezvous(ControlServer::SessionId session, const wire::Rendezvous& message) {
  if (message.epoch() != epoch_) return;
  wire::FromMaster relayed;
  *relayed.mutable_rendezvous() = message;
  std::vector<ControlServer::SessionId> others = Sessions();
  std::erase(others, session);
  server_->Send(others, relayed);
}

bool FleetImpl::OnFormed(int agent, uint64_t epoch) {
  if (epoch != epoch_ || state_.agents[agent].phase != AgentPhase::kLoaded) return false;
  Advance(agent, AgentPhase::kFormed);
  if (!All(AgentPhase::kFormed) || !IsAlive()) return false;
  if (mode_ == Mode::kForming) watch_.recovery_seconds.Add(MonotonicSeconds() - forming_since_);
  LogInfo("epoch %d: %d stages x %d ranks over %s are ready", epoch_, plan_.stages, plan_.ranks, plan_.transport);
  mode_ = Mode::kRunning;
  changed_.notify_all();
  return true;
}

bool FleetImpl::All(AgentPhase phase) const {
  return std::all_of(state_.agents.begin(), state_.agents.end(),
                     [phase](const AgentState& agent) { return agent.phase >= phase; });
}

void FleetImpl::Advance(int agent, AgentPhase phase) {
  state_.agents[agent].phase = phase;
  if (All(phase)) {
    state_.phase_since = MonotonicSeconds();
    Wake();
  }
}

void FleetImpl::Wake() const {
  const uint64_t one = 1;
  [[maybe_unused]] const auto n = write(wake_, &one, sizeof(one));
}

}  // namespace pangea
