// The fleet towards its callers and its agents; supervisor.cc has the part that watches.
#include "master/fleet/fleet_impl.h"

#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "configs/host.h"
#include "configs/log.h"
#include "configs/values.h"
#include "configs/version.h"
#include "master/fleet/clock.h"
#include "master/fleet/join_rules.h"
#include "protos/step_codec.h"

namespace pangea {
namespace {

namespace wire = agent::v1;

constexpr std::chrono::seconds kStopLimit(2);   // for agents to leave by themselves
constexpr std::chrono::seconds kKillLimit(10);  // for the kernel to take killed ones away

}  // namespace

FleetImpl::FleetImpl(const Deployment& deployment, const CheckpointHeader& header, const ParallelPlan& plan,
                     FleetOptions options)
    : header_(header),
      options_(std::move(options)),
      control_(deployment.control),
      context_(plan.context),
      memory_at_start_(AvailableMemory().available),
      log_level_(deployment.log.level),
      watch_(plan, options_.timeline),
      port_(&watch_, options_.on_result),
      facts_(deployment, plan, MonotonicSeconds()),
      layout_(std::make_shared<Layout>(Layout{deployment, plan})),
      wished_(layout_),
      members_(plan.agents.size()),
      asked_(deployment) {}

absl::Status FleetImpl::Open(const std::string& dial_host, const std::string& token) {
  wake_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_ < 0) return absl::ErrnoToStatus(errno, "eventfd");
  // An agent may dial a fixed port before server_ is set: its callbacks wait for the mutex.
  MutexLock lock(mutex_);
  auto server = ControlServer::Start(
      control_.listen, token,
      {.on_message = [this](SessionId session, const wire::FromAgent& message) { OnMessage(session, message); },
       .on_end = [this](SessionId session) { OnEnd(session); },
       .on_progress = [this](const wire::ProgressReport& report) { OnProgress(report); },
       .admin = {.status = [this] { return Status(); },
                 .restart_agent = [this](int agent) { return RestartAgent(agent); },
                 .relayout = [this](int pipeline, int tensor,
                                    const Deployment* edited) { return Relayout(pipeline, tensor, edited); },
                 .take_requests =
                     [this](bool take) {
                       return options_.take_requests ? options_.take_requests(take)
                                                     : absl::UnimplementedError("this master takes no requests");
                     }}});
  if (!server.ok()) return server.status();
  server_ = *std::move(server);
  lock.unlock();
  address_ = absl::StrCat(dial_host, ":", server_->port());
  token_ = token;
  LogInfo("agents join at %s", address_);
  supervisor_ = std::thread([this] { Supervise(); });
  return absl::OkStatus();
}

absl::Status FleetImpl::WaitReady() {
  MutexLock lock(mutex_);
  changed_.wait(lock,
                [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return facts_.mode() >= Facts::Mode::kRunning; });
  if (facts_.mode() == Mode::kStopping) return absl::CancelledError("the fleet was stopped");
  if (facts_.mode() == Mode::kFailed) return facts_.failure();
  ready_told_ = true;
  const uint64_t epoch = facts_.epoch();
  const std::shared_ptr<const Layout> layout = layout_;
  const uint64_t pages_since = pages_since_;
  lock.unlock();
  if (options_.on_epoch) options_.on_epoch(epoch, layout->plan, pages_since);
  return absl::OkStatus();
}

std::string FleetImpl::isa() const {
  MutexLock lock(mutex_);
  return isa_;
}

int FleetImpl::agents_up() const {
  MutexLock lock(mutex_);
  return facts_.Up();
}

std::string FleetImpl::recovery() const {
  MutexLock lock(mutex_);
  if (facts_.mode() != Mode::kForming) return "";
  const absl::string_view why = facts_.interruption().message();
  const bool more = !lost_at_.empty() && !absl::StrContains(why, lost_at_);
  return absl::StrFormat("for %.1f s, since %s%s", MonotonicSeconds() - facts_.forming_since(), why,
                         more ? " at " + lost_at_ : "");
}

admin::v1::FleetStatus FleetImpl::Status() const {
  constexpr const char* kStates[] = {"starting", "recovering", "serving", "failed", "stopping"};
  constexpr const char* kPhases[] = {"awaited", "joined", "loaded", "formed"};
  constexpr const char* kDoing[] = {"nothing", "computes", "waits for a peer", "waits for the master"};
  const double now = MonotonicSeconds();
  admin::v1::FleetStatus status;
  const FleetOptions::Requests requests = options_.requests ? options_.requests() : FleetOptions::Requests{};
  status.set_takes_requests(requests.taken);
  status.set_requests_running(requests.running);
  status.set_requests_waiting(requests.waiting);
  MutexLock lock(mutex_);
  status.set_state(kStates[static_cast<int>(facts_.mode())]);
  status.set_epoch(facts_.epoch());
  status.set_recoveries(facts_.recoveries());
  status.set_layout(layout_->Name());
  if (layout_ != wished_) status.set_wished_layout(wished_->Name());
  status.set_relayout_failure(relayout_failure_);
  for (const StandingBy& agent : standing_by_) status.set_spares(status.spares() + (agent.session != 0));
  if (facts_.mode() == Mode::kRunning) status.set_seconds(now - facts_.running_since());
  if (facts_.mode() == Mode::kForming) {
    status.set_seconds(now - facts_.forming_since());
    status.set_reason(std::string(facts_.interruption().message()));
  }
  if (facts_.mode() == Mode::kFailed) status.set_reason(std::string(facts_.failure().message()));
  for (int i = 0; i < facts_.agents(); ++i) {
    const AgentState& agent = facts_.agent(i);
    admin::v1::AgentStatus& told = *status.add_agents();
    told.set_agent(i);
    told.set_stage(agent.stage);
    told.set_rank(agent.rank);
    told.set_pid(agent.pid);
    told.set_host(facts_.introduction(i).host);
    told.set_launched(agent.local);
    told.set_phase(agent.lost ? "lost" : kPhases[static_cast<int>(agent.phase)]);
    if (!agent.report) continue;
    told.set_doing(kDoing[static_cast<int>(agent.report->doing)]);
    told.set_step(agent.report->step);
    told.set_layer(agent.report->layer);
    told.set_collective(agent.report->collective);
    told.set_since(now - agent.report->changed);
    told.set_told(now - agent.report->at);
  }
  return status;
}

void FleetImpl::WriteMetrics(MetricsPage& page) const {
  uint64_t epoch;
  int agents, up, spares;
  {
    MutexLock lock(mutex_);
    epoch = facts_.epoch();
    agents = facts_.agents();
    up = facts_.Up();
    spares = static_cast<int>(std::count_if(standing_by_.begin(), standing_by_.end(),
                                            [](const StandingBy& agent) { return agent.session != 0; }));
  }
  page.AddGauge({"pangea_agents", "Agents that the plan asks for."}, {{static_cast<double>(agents)}});
  page.AddGauge({"pangea_agents_up", "Agents that are in their groups and well."}, {{static_cast<double>(up)}});
  page.AddGauge({"pangea_agents_spare", "Agents that stand by."}, {{static_cast<double>(spares)}});
  page.AddGauge({"pangea_epoch", "How often the groups were formed."}, {{static_cast<double>(epoch)}});
  watch_.Write(page);
}

void FleetImpl::Stop() {
  std::call_once(stopped_, [this] { StopOnce(); });
}

void FleetImpl::StopOnce() {
  if (supervisor_.joinable()) {
    MutexLock lock(mutex_);
    facts_.Stop();
    port_.Close();
    TellStop("the master stops");
    changed_.notify_all();
    Wake();
    if (!changed_.wait_for(lock, kStopLimit, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return Left(); })) {
      for (size_t i = 0; i < members_.size(); ++i) {
        if (members_[i].child.pidfd < 0) continue;
        LogWarning("%s does not stop: killed", facts_.Name(i));
        kill(members_[i].child.pid, SIGKILL);  // not reaped yet: still that process
      }
      for (const StandingBy& agent : standing_by_) {
        if (agent.child.pidfd >= 0) kill(agent.child.pid, SIGKILL);
      }
      changed_.wait_for(lock, kKillLimit, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return Pidfds().empty(); });
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
  std::vector<SessionId> all = Sessions();
  for (const StandingBy& agent : standing_by_) all.push_back(agent.session);
  server_->Send(all, message);
  // Who has not joined cannot get the message; and launched agents ignore SIGTERM. It has nothing to lose yet.
  const auto end = [](SessionId session, const Child& child) {
    if (session == 0 && child.pidfd >= 0) kill(child.pid, SIGKILL);
  };
  for (const Member& member : members_) end(member.session, member.child);
  for (const StandingBy& agent : standing_by_) end(agent.session, agent.child);
}

bool FleetImpl::Left() const {
  return Pidfds().empty() && Sessions().empty() &&
         std::all_of(standing_by_.begin(), standing_by_.end(), [](const StandingBy& s) { return s.session == 0; });
}

std::vector<ControlServer::SessionId> FleetImpl::Sessions(bool last_stage) const {
  std::vector<SessionId> sessions;
  for (size_t i = 0; i < members_.size(); ++i) {
    if (members_[i].session != 0 && (layout_->plan.agents[i].last || !last_stage))
      sessions.push_back(members_[i].session);
  }
  return sessions;
}

int FleetImpl::AgentOf(SessionId session) const {
  for (size_t i = 0; i < members_.size(); ++i) {
    if (members_[i].session == session) return static_cast<int>(i);
  }
  return -1;
}

void FleetImpl::OnMessage(SessionId session, const wire::FromAgent& message) {
  MutexLock lock(mutex_);
  if (message.has_join()) return OnJoin(session, message.join());
  const int agent = AgentOf(session);
  if (StandsBy(session)) {  // of its place before, unless it says that it ends
    if (message.has_failure() && message.failure().fatal())
      server_->Close(session, absl::FailedPreconditionError("it has failed"));
    return;
  }
  if (agent < 0) return server_->Close(session, absl::FailedPreconditionError("the first message must be a join"));
  switch (message.kind_case()) {
    case wire::FromAgent::kReady:
      return OnReady(agent, message.ready());
    case wire::FromAgent::kRendezvous:
      return OnRendezvous(session, message.rendezvous());
    case wire::FromAgent::kFormed: {
      if (!OnFormed(agent, message.formed().epoch()) || !ready_told_) return;
      const uint64_t epoch = facts_.epoch();
      const std::shared_ptr<const Layout> layout = layout_;
      const uint64_t pages_since = pages_since_;
      lock.unlock();
      if (options_.on_epoch) options_.on_epoch(epoch, layout->plan, pages_since);
      return;
    }
    case wire::FromAgent::kResult: {
      const RankPlan& place = layout_->plan.agents[agent];
      const bool answers = place.last && place.rank == 0;
      if (facts_.agent(agent).phase < AgentPhase::kFormed) return;  // of an epoch that is over
      lock.unlock();
      return OnResult(agent, answers, message.result());
    }
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
  AgentState::Failure told{
      .at = MonotonicSeconds(),
      .status = absl::Status(static_cast<absl::StatusCode>(failure.code()), Printable(failure.message())),
      .fatal = failure.fatal()};
  if (facts_.OnFailure(agent, failure.epoch(), std::move(told))) Wake();
}

void FleetImpl::OnEnd(SessionId session) {
  MutexLock lock(mutex_);
  for (StandingBy& agent : standing_by_) {
    if (agent.session != session) continue;
    agent.session = 0;
    if (agent.local()) kill(agent.child.pid, SIGKILL);  // of no use without its stream; not reaped yet
  }
  std::erase_if(standing_by_, [](const StandingBy& agent) { return agent.session == 0 && !agent.local(); });
  TellSpares();
  changed_.notify_all();
  const int agent = AgentOf(session);
  if (agent < 0) return;
  members_[agent].session = 0;
  facts_.OnDisconnected(agent, MonotonicSeconds());
  Wake();
}

void FleetImpl::OnProgress(const wire::ProgressReport& report) {
  MutexLock lock(mutex_);
  const int agent = report.agent();
  if (agent < 0 || agent >= facts_.agents() || report.pid() != facts_.agent(agent).pid) return;
  const double now = MonotonicSeconds();
  if (facts_.agent(agent).phase >= AgentPhase::kLoaded) watch_.OnProgress(agent, report, now);
  const AgentDoing doing = report.doing() > 0 && report.doing() <= static_cast<int>(AgentDoing::kWaitsForMaster)
                               ? static_cast<AgentDoing>(report.doing())
                               : AgentDoing::kNothing;
  facts_.OnReport(agent, report.epoch(),
                  {.step = report.step(),
                   .layer = report.layer(),
                   .collective = report.collective(),
                   .doing = doing,
                   .layer_seconds = report.layer_seconds()},
                  now);
}

void FleetImpl::OnResult(int agent, bool answers, const wire::StepResult& message) {
  const double now = MonotonicSeconds();
  watch_.OnActivity(agent, message.activity(), now);
  if (!answers || !port_.OnResult(message, now)) return;
  OnTraces(agent, message.traces());
}

void FleetImpl::OnTraces(int agent, const wire::StepTraces& traces) {
  for (const wire::StepTrace& trace : traces.steps()) watch_.OnTrace(agent, trace, MonotonicSeconds());
}

void FleetImpl::OnJoin(SessionId session, const wire::Join& join) {
  if (AgentOf(session) >= 0 || StandsBy(session))
    return server_->Close(session, absl::FailedPreconditionError("join refused: this session has joined already"));
  if (!facts_.IsAlive()) {
    return server_->Close(session, absl::UnavailableError("join refused: the master stops"));
  }
  if (join.build() != kBuild)
    LogInfo("an agent of another build joins, with pid %d: %s", join.pid(), Printable(join.build()));
  int64_t& memory = memory_[IntroductionOf(join).machine];
  memory = std::max(memory, join.available_memory());
  if (StandBy(session, join)) return;
  const absl::StatusOr<int> agent = PlaceFor(join, facts_.Places(), layout_->deployment, isa_);
  if (!agent.ok()) {
    LogWarning("%s", agent.status().message());
    return server_->Close(session, agent.status());
  }
  Admit(*agent, session, IntroductionOf(join), /*from_elsewhere=*/false);
}

// Its process or its stream is in members_ from here on.
void FleetImpl::Admit(int agent, SessionId session, Introduction introduction, bool from_elsewhere) {
  const AgentConfig& asked = layout_->deployment.agent(agent);
  if (!asked.host.empty() && !from_elsewhere) introduction.host = asked.host;
  members_[agent].session = session;
  watch_.OnJoin(agent, facts_.agent(agent).local);
  const bool all = facts_.OnJoined(agent, std::move(introduction), MonotonicSeconds());
  const Introduction& joined = facts_.introduction(agent);
  LogInfo("%s joined from %s with ISA class %s", facts_.Name(agent), joined.host, joined.isa);
  Wake();
  if (!isa_.empty()) {
    Assign(agent, MaySpin(Shares())[agent]);  // the others know all this
  } else if (all) {
    AssignAll();
  }
}

std::vector<HostShare> FleetImpl::Shares() const {
  std::vector<HostShare> shares;
  const HostShare* own = nullptr;  // of this host, as one that it has started says
  for (int i = 0; i < facts_.agents(); ++i) {
    shares.push_back(facts_.introduction(i).share);
    shares.back().threads = layout_->deployment.agent(i).threads;
    if (facts_.agent(i).local && !shares.back().host.empty()) own = &facts_.introduction(i).share;
  }
  for (int i = 0; i < facts_.agents() && own != nullptr; ++i) {
    if (!facts_.agent(i).local || !shares[i].host.empty()) continue;  // those that come are told in time
    shares[i].host = own->host;
    shares[i].cores = own->cores;
  }
  return shares;
}

void FleetImpl::Regroup() {
  MutexLock lock(mutex_);
  if (!facts_.IsAlive() || !facts_.All(AgentPhase::kLoaded)) return;
  Form();
  Wake();
}

absl::StatusOr<uint64_t> FleetImpl::RestartAgent(int agent) {
  MutexLock lock(mutex_);
  if (agent < 0 || agent >= facts_.agents())
    return absl::OutOfRangeError(absl::StrCat("agent ", agent, " is not one of the ", facts_.agents()));
  if (!facts_.agent(agent).local)
    return absl::FailedPreconditionError(absl::StrCat(
        facts_.Name(agent), " was not started by its master: end it where it runs, and start it there again"));
  if (facts_.mode() != Mode::kRunning || !ready_told_)
    return absl::FailedPreconditionError("no epoch serves now; see the status");
  const uint64_t epoch = facts_.epoch();
  const absl::Status why =
      absl::UnavailableError(absl::StrCat(facts_.Name(agent), " is replaced, as it was asked for"));
  Interrupt({agent}, why, /*planned=*/true);
  Wake();
  lock.unlock();
  if (options_.on_interrupted) options_.on_interrupted(why);
  return epoch;
}

void FleetImpl::Form() {
  port_.Close();
  facts_.Form(MonotonicSeconds());
  for (Member& member : members_) {
    if (member.pages_since == 0) member.pages_since = facts_.epoch();
    pages_since_ = std::max(pages_since_, member.pages_since);
    member.unproven = false;
  }
  wire::FromMaster message;
  wire::Form& form = *message.mutable_form();
  form.set_epoch(facts_.epoch());
  form.set_transport(layout_->plan.transport);
  for (int i = 0; i < facts_.agents(); ++i) form.add_hosts(facts_.introduction(i).host);
  server_->Send(Sessions(), message);
}

void FleetImpl::OnRendezvous(SessionId session, const wire::Rendezvous& message) {
  if (message.epoch() != facts_.epoch()) return;
  wire::FromMaster relayed;
  *relayed.mutable_rendezvous() = message;
  std::vector<SessionId> others = Sessions();
  std::erase(others, session);
  server_->Send(others, relayed);
}

bool FleetImpl::OnFormed(int agent, uint64_t epoch) {
  const bool again = facts_.mode() == Mode::kForming;
  const double now = MonotonicSeconds();
  if (!facts_.OnFormed(agent, epoch, now)) return false;
  if (former_) {  // it serves: no way back is needed
    former_.reset();
    DismissWhoIsLeftOver();
  }
  if (again) {
    watch_.OnRecovered(facts_.filled_at() - facts_.forming_since(), facts_.loaded_at() - facts_.filled_at(),
                       now - facts_.loaded_at());
  }
  LogInfo("epoch %d: %s over %s are ready%s", epoch, layout_->Name(), layout_->plan.transport,
          pages_since_ < epoch ? ", with the KV pages that they had" : "");
  port_.Open(epoch, server_.get(), Sessions(), Sessions(true));
  changed_.notify_all();
  Wake();
  return true;
}

void FleetImpl::Wake() const {
  const uint64_t one = 1;
  [[maybe_unused]] const auto n = write(wake_, &one, sizeof(one));
}

}  // namespace pangea
