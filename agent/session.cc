#include "agent/session.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/assignment.h"
#include "agent/device_executor.h"
#include "agent/group/exchange_place.h"
#include "agent/group/make_group.h"
#include "agent/loaded.h"
#include "agent/own_address.h"
#include "configs/device.h"
#include "configs/failpoint.h"
#include "configs/host.h"
#include "configs/log.h"
#include "configs/process_use.h"
#include "configs/version.h"
#include "kernels/isa.h"
#include "pipeline/capacity.h"
#include "protos/step_codec.h"

namespace pangea {
namespace {

namespace wire = agent::v1;
using Clock = std::chrono::steady_clock;

constexpr double kGroupPatience = 10;  // times control.step_seconds, for one wait of a group
constexpr std::chrono::seconds kConnectLimit(60);
constexpr std::chrono::milliseconds kLeaveLimit(700);  // for the executor to notice an abort
constexpr std::chrono::milliseconds kLookAgain(10);
constexpr std::chrono::milliseconds kFailureLimit(1000);  // for the master to answer a fatal failure
// Where the executor is, is told as often as this: often enough for a silence to be one, and once a second at least.
constexpr double kReportsPerSilence = 4, kLongestReportPeriod = 1, kShortestReportPeriod = 0.01;

}  // namespace

AgentSession::AgentSession(const AgentOptions& options, const std::string& token)
    : options_(options), stream_(options.master, token), worker_(std::make_unique<Worker>()) {
  leave_by_ = Clock::now() + kConnectLimit;
  housekeeper_ = std::thread([this] { Housekeep(); });
}

AgentSession::~AgentSession() = default;  // Run has ended all threads

absl::Status AgentSession::Run() {
  Reach(Wall::kJoin, Side::kBefore);
  wire::FromAgent first;
  wire::Join& join = *first.mutable_join();
  join.set_build(kBuild);
  join.set_protocol(kProtocol);
  join.set_exactness(kExactness);
  join.set_executable(ExecutableIdentity());
  join.set_pid(getpid());
  join.set_host(OwnAddressToward(options_.master));
  join.set_isa(std::string(IsaName(BestIsa())));
  join.set_agent(options_.agent);
  join.set_cores(AvailableCores());
  join.set_machine(BootId());
  join.set_available_memory(AvailableMemory().available);
  return Leave(stream_.Run(first, [this](const wire::FromMaster& message) { return Handle(message); }));
}

ControlStream::After AgentSession::Handle(const wire::FromMaster& message) {
  switch (message.kind_case()) {
    case wire::FromMaster::kStandBy:
      Joined(-1, 0);
      worker_->Post([this] { LetGo(); });
      return After::kRead;
    case wire::FromMaster::kAssign: {
      Joined(message.assign().agent(), message.assign().silence_seconds());
      worker_->Post([this, assign = message.assign()] {
        if (const absl::Status status = Load(assign); !status.ok()) Fail(0, status, /*fatal=*/true);
      });
      return After::kRead;
    }
    case wire::FromMaster::kForm:
      OnForm(message.form());
      return After::kRead;
    case wire::FromMaster::kEpochOver:
      OnEpochOver(message.epoch_over().epoch());
      return After::kRead;
    case wire::FromMaster::kRendezvous: {
      MutexLock lock(mutex_);
      if (board_ && message.rendezvous().epoch() == epoch_) {
        board_->Deliver(message.rendezvous().key(), message.rendezvous().value());
      }
      return After::kRead;
    }
    case wire::FromMaster::kStep:
      return OnStep(message.step());
    case wire::FromMaster::kMask:
      OnMask(message.mask());
      return After::kRead;
    case wire::FromMaster::kStop:
      LogInfo("stop: %s", message.stop().reason());
      stopped_ = true;
      return After::kEnd;
    case wire::FromMaster::KIND_NOT_SET:
      break;
  }
  Fail(0, absl::UnimplementedError("the master sent a message that this agent cannot read"), /*fatal=*/true);
  return After::kRead;
}

void AgentSession::Joined(int place, double silence) {
  Reach(Wall::kJoin, Side::kAfter);
  MutexLock lock(mutex_);
  joined_ = true;
  place_ = place;
  silence_ = silence;
  if (failure_.ok()) leave_by_.reset();
  changed_.notify_all();
}

void AgentSession::LetGo() {
  std::unique_ptr<Loaded> loaded;  // its end may take a while
  std::shared_ptr<Group> group;
  MutexLock lock(mutex_);
  loaded.swap(loaded_);
  group.swap(group_);
  limits_.reset();
  answers_ = false;
  traces_.Clear();
  steps_open_ -= static_cast<int>(begun_.size());
  begun_.clear();
}

absl::Status AgentSession::Load(const wire::Assign& assign) {
  const Failpoint at(Wall::kLoad);
  LetGo();
  const auto start = Clock::now();
  auto loaded = std::make_unique<Loaded>();
  if (const absl::Status status = ReadAssignment(assign, options_.model, loaded.get()); !status.ok()) return status;
  const RankPlan& place = loaded->place();
  const TensorIndex index(loaded->header);
  if (FindDevice(loaded->deployment.agent(loaded->agent).device)->host_memory)
    loaded->kept.Open(assign, MemoryOf(index, loaded->deployment, loaded->plan, loaded->agent));
  if (const absl::Status status = MakeExecutor(*loaded, loaded->kept, &loaded->queue, &loaded->executor); !status.ok())
    return status;
  // The master finds a hang a little later, as it gives a step some time more: this error says which mask is missing.
  masks_.Open(absl::Seconds(loaded->deployment.control.step_seconds));
  loaded->executor->set_masks(&masks_);
  loaded->executor->set_clock(&activity_);
  if (const absl::Status status = loaded->executor->Load(); !status.ok()) return status;

  wire::FromAgent message;
  wire::Ready& ready = *message.mutable_ready();
  const AgentMemory memory = loaded->executor->memory();
  ready.set_serial(assign.serial());
  ready.set_weight_bytes(memory.weights());
  ready.set_kv_bytes(memory.pages + memory.swap);
  const bool before = loaded->kept.packed_before();
  loaded->kept.Tell(&ready);
  ready.set_load_seconds(std::chrono::duration<double>(Clock::now() - start).count());
  LogInfo("loaded layers %d to %d: %s of weights%s, %s of KV pages, in %.2f s", place.layers.begin,
          place.layers.end - 1, BytesText(ready.weight_bytes()), before ? " (packed before)" : "",
          BytesText(ready.kv_bytes()), ready.load_seconds());
  activity_.Begin();
  {
    MutexLock lock(mutex_);
    limits_ = loaded->limits();
    answers_ = place.last && place.rank == 0;
    loaded_ = std::move(loaded);
  }
  stream_.Send(std::move(message));
  return absl::OkStatus();
}

void AgentSession::OnForm(const wire::Form& form) {
  AbortGroup(absl::AbortedError(absl::StrCat("epoch ", form.epoch(), " begins")));
  auto board =
      std::make_shared<Rendezvous>([this, epoch = form.epoch()](const std::string& key, const std::string& value) {
        wire::FromAgent message;
        message.mutable_rendezvous()->set_epoch(epoch);
        message.mutable_rendezvous()->set_key(key);
        message.mutable_rendezvous()->set_value(value);
        stream_.Send(std::move(message));
      });
  {
    MutexLock lock(mutex_);
    board_ = board;
    epoch_ = form.epoch();
  }
  masks_.BeginEpoch(form.epoch());
  worker_->Post([this, form, board] {
    if (const absl::Status status = Form(form, board); !status.ok()) Fail(form.epoch(), status, /*fatal=*/false);
  });
}

// What its steps and its forming come to is of no interest from now on.
void AgentSession::OnEpochOver(uint64_t epoch) {
  {
    MutexLock lock(mutex_);
    if (epoch != epoch_) return;
    epoch_ = 0;
  }
  AbortGroup(absl::AbortedError(absl::StrCat("epoch ", epoch, " is over")));
}

absl::Status AgentSession::Form(const wire::Form& form, std::shared_ptr<Rendezvous> board) {
  const Failpoint at(Wall::kForm);
  while (!begun_.empty()) EndStep();  // of the epoch before
  if (!loaded_) return absl::FailedPreconditionError("a group cannot be formed before the agent is loaded");
  loaded_->executor->BeginEpoch();
  const ParallelPlan& plan = loaded_->plan;
  if (form.hosts_size() != static_cast<int>(plan.agents.size())) {
    return absl::InvalidArgumentError(absl::StrCat(form.hosts_size(), " hosts for ", plan.agents.size(), " agents"));
  }
  const GroupSpec spec{.stages = plan.stages,
                       .ranks = plan.ranks,
                       .agent = loaded_->agent,
                       .epoch = form.epoch(),
                       // A later stage rightly waits while an earlier one computes; the master, which hears of every
                       // layer, sees a hang first.
                       .limit = absl::Seconds(kGroupPatience * loaded_->deployment.control.step_seconds),
                       .spin = plan.spin,
                       .host = form.hosts(loaded_->agent),
                       // One batch of hidden states fits, so that a stage goes on while the next one still computes.
                       .channel_bytes = static_cast<size_t>(loaded_->deployment.schedule.max_batch_tokens) *
                                        loaded_->header.config.hidden * sizeof(float),
                       .activity = &activity_};
  {
    MutexLock lock(mutex_);
    group_.reset();  // the old epoch's connections end before the new ones begin
  }
  // With NCCL only the devices' tensors go by it.
  const std::string hosts = form.transport() != "nccl" ? form.transport() : plan.remote ? "gloo" : "shm";
  auto made = MakeGroup(hosts, spec, *board);
  if (ExchangePlace* const place = loaded_->executor->exchange_place(); made.ok() && place != nullptr)
    made = place->Join(*std::move(made), spec, *board);
  if (!made.ok()) return made.status();
  const DeviceExchange* const exchange = (*made)->exchange();
  const char* const way = exchange == nullptr ? ""
                          : exchange->of_host ? " and from device to device through the host's memory"
                                              : " and from device to device";
  {
    MutexLock lock(mutex_);
    if (board_ != board || left_) return absl::AbortedError("the epoch is over");
    group_ = *std::move(made);
  }
  LogInfo("epoch %d: group of %d stages x %d ranks formed over %s%s", form.epoch(), plan.stages, plan.ranks,
          form.transport(), way);
  wire::FromAgent message;
  message.mutable_formed()->set_epoch(form.epoch());
  stream_.Send(std::move(message));
  return absl::OkStatus();
}

void AgentSession::Fail(uint64_t epoch, const absl::Status& why, bool fatal) {
  if (fatal) KeptPages::Distrust();
  {
    MutexLock lock(mutex_);
    if (left_) return;
    if (fatal) {
      if (failure_.ok()) failure_ = why;
      leave_by_ = Clock::now() + kFailureLimit;
      changed_.notify_all();
    }
  }
  LogError("%s", why.ToString());
  wire::FromAgent message;
  wire::Failure& failure = *message.mutable_failure();
  failure.set_epoch(epoch);
  failure.set_code(static_cast<int>(why.code()));
  failure.set_message(std::string(why.message()));
  failure.set_fatal(fatal);
  stream_.Send(std::move(message));
}

void AgentSession::Terminate(const absl::Status& why) {
  bool joined;
  {
    MutexLock lock(mutex_);
    if (left_) return;
    joined = joined_;
    if (failure_.ok()) failure_ = why;
    leave_by_ = Clock::now() + (joined ? kFailureLimit : std::chrono::milliseconds(0));
    changed_.notify_all();
  }
  AbortGroup(why);
  if (joined) Fail(0, why, /*fatal=*/true);
}

void AgentSession::AbortGroup(const absl::Status& why) {
  std::shared_ptr<Group> group;
  {
    MutexLock lock(mutex_);
    if (board_) board_->Close(why);
    group = group_;
  }
  masks_.Abort(why);
  if (group) group->Abort(why);
}

Clock::duration AgentSession::ReportPeriod() const {
  const double period = place_ >= 0 ? silence_ / kReportsPerSilence : kLongestReportPeriod;
  return std::chrono::duration_cast<Clock::duration>(
      std::chrono::duration<double>(std::clamp(period, kShortestReportPeriod, kLongestReportPeriod)));
}

// Reports, period by period. Also ends the streams when the agent should have left by now.
void AgentSession::Housekeep() {
  MutexLock lock(mutex_);
  auto next_report = Clock::now() + ReportPeriod();
  while (!left_) {
    const auto now = Clock::now();
    next_report = std::min(next_report, now + ReportPeriod());
    if (leave_by_ && now >= *leave_by_) {
      if (failure_.ok()) failure_ = absl::DeadlineExceededError(absl::StrCat("no master at ", options_.master));
      leave_by_.reset();
      stream_.Cancel();
      continue;
    }
    if (now >= next_report) {
      next_report = now + ReportPeriod();
      if (place_ >= 0) {
        lock.unlock();
        Report();
        lock.lock();
        continue;
      }
    }
    changed_.wait_until(lock, leave_by_ ? std::min(*leave_by_, next_report) : next_report);
  }
}

void AgentSession::Report() {
  wire::ProgressReport report;
  report.set_pid(getpid());
  AgentDoing doing = DoingOf(activity_.activity(), masks_.Waiting());
  {
    MutexLock lock(mutex_);
    report.set_agent(place_);
    report.set_epoch(epoch_);
    if (loaded_) {  // else it loads, and is alive
      const Progress& progress = loaded_->executor->progress();
      report.set_step(progress.step.load(std::memory_order_relaxed));
      report.set_layer(progress.layer.load(std::memory_order_relaxed));
      report.set_rows(progress.rows.load(std::memory_order_relaxed));
      report.set_layer_seconds(static_cast<double>(progress.layer_limit.load(std::memory_order_relaxed)) * 1e-9);
    }
    if (group_) report.set_collective(group_->collectives());
    const ExchangePlace* const place = loaded_ ? loaded_->executor->exchange_place() : nullptr;
    if (doing == AgentDoing::kComputes && place != nullptr && place->activity() != Activity::kBusy)
      doing = AgentDoing::kWaitsForPeer;
  }
  report.set_doing(static_cast<int>(doing));
  EncodeActivity(activity_.totals(), report.mutable_activity());
  const ProcessUse use = ReadProcessUse();
  report.set_cpu_seconds(use.cpu_seconds);
  report.set_resident_bytes(use.resident_bytes);
  stream_.WriteProgress(report);
}

absl::Status AgentSession::Leave(const absl::Status& ended) {
  {
    MutexLock lock(mutex_);
    left_ = true;
    changed_.notify_all();
  }
  AbortGroup(absl::AbortedError(stopped_ ? "the master said stop" : "the master is gone"));
  stream_.Cancel();  // the other one too
  bool ended_work = worker_->Stop(kLeaveLimit);
  const auto limit = Clock::now() + kLeaveLimit;
  while (ended_work && !begun_.empty() && !loaded_->executor->Done(true)) {  // the device is still at it
    std::this_thread::sleep_for(kLookAgain);
    ended_work = Clock::now() < limit;
  }
  if (!ended_work) {
    // Loading or computing cannot be interrupted, and an agent must not outlive its master.
    LogWarning("still busy %d ms after the end: leaving as it is", kLeaveLimit.count());
    _exit(stopped_ ? 0 : 1);
  }
  housekeeper_.join();
  worker_.reset();
  std::shared_ptr<Group> group;
  {
    MutexLock lock(mutex_);  // Terminate may still be called
    group.swap(group_);
    if (!failure_.ok()) return failure_;
  }
  if (stopped_) return absl::OkStatus();
  // A stream that the master ended carries its reason.
  if (ended.code() == absl::StatusCode::kCancelled) return absl::UnavailableError("the master ended the session");
  return absl::Status(ended.ok() ? absl::StatusCode::kUnavailable : ended.code(),
                      ended.ok() ? "the master ended the session" : ended.message());
}

}  // namespace pangea
