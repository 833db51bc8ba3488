// The steps of an agent: taken in, begun, ended, told.
#include <sys/prctl.h>

#include <chrono>
#include <limits>
#include <map>
#include <string_view>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/group/exchange_place.h"
#include "agent/loaded.h"
#include "agent/session.h"
#include "configs/failpoint.h"
#include "protos/step_codec.h"

namespace pangea {
namespace {

namespace wire = agent::v1;

// How often a device is asked whether it is done.
constexpr std::chrono::microseconds kPoll(20);
constexpr int kTraces = 16;  // that an agent without results keeps

}  // namespace

// Steps run in number order, from 1 in every epoch: the stream keeps it, and a gap is an error.
absl::Status AgentSession::CheckOrder(const Step& step) {
  if (step.epoch != step_epoch_) {
    step_epoch_ = step.epoch;
    next_step_ = 1;
  }
  if (step.number != next_step_) {
    return absl::InternalError(absl::StrCat("step ", step.number, " came where ", next_step_, " was due"));
  }
  next_step_ = step.number + 1;
  return absl::OkStatus();
}

ControlStream::After AgentSession::OnStep(const wire::Step& message) {
  const Failpoint at(Wall::kStep);
  std::optional<StepLimits> limits;
  {
    MutexLock lock(mutex_);
    limits = limits_;
    if (message.epoch() != epoch_) return After::kRead;  // of an epoch that is over
  }
  auto step = std::make_shared<Step>(DecodeStep(message));
  absl::Status status =
      limits ? Validate(*step, *limits) : absl::FailedPreconditionError("a step came before the weights");
  if (status.ok()) status = CheckOrder(*step);
  if (status.ok()) masks_.Expect(*step);
  const bool behind = steps_open_.fetch_add(1) > 0;  // one runs, or is about to
  if (status.ok() && !worker_->Post([this, step] { BeginStep(step); }))
    status = absl::ResourceExhaustedError("too many steps wait");
  if (!status.ok()) {
    --steps_open_;
    Fail(message.epoch(), status, /*fatal=*/true);
  }
  // The step that runs will be answered before another one is needed, unless it waits for a mask, which comes this way.
  return status.ok() && behind && answers_ && !masks_.Waiting() ? After::kHold : After::kRead;
}

// Sizes first: then it is decoded, then judged.
void AgentSession::OnMask(const wire::Mask& message) {
  std::optional<StepLimits> limits;
  {
    MutexLock lock(mutex_);
    limits = limits_;
    if (message.epoch() != epoch_) return;  // of an epoch that is over
  }
  absl::Status status = absl::FailedPreconditionError("a mask came before the weights");
  if (limits) {
    auto mask = DecodeMask(message, limits->vocab);
    status = mask.ok() ? Validate(*mask, *limits) : mask.status();
    if (status.ok()) status = masks_.Deliver(*std::move(mask));
  }
  if (!status.ok()) Fail(message.epoch(), status, /*fatal=*/true);
}

// A device that computes later is given the next step before it is waited for, unless that one waits for the master,
// who waits for the answers to those before it.
void AgentSession::BeginStep(const std::shared_ptr<const Step>& step) {
  std::shared_ptr<Group> group;
  {
    MutexLock lock(mutex_);
    if (step->epoch == epoch_ && !left_) group = group_;
  }
  if (!group) {  // its epoch is over; or forming failed, which was reported
    --steps_open_;
    return;
  }
  bool apart = !begun_.empty() && begun_.front().step->epoch != step->epoch;
  for (const StepSequence& sequence : step->sequences) apart |= sequence.masked;
  while (apart && !begun_.empty()) EndStep();
  begun_.push_back({step, group});
  if (begun_.size() == 1) EnterStep();
  if (const auto s = loaded_->executor->Begin(*step, *group); !s.ok()) {
    activity_.Switch(Activity::kWait);
    begun_.pop_back();
    --steps_open_;
    return LoseGroup(*step, group, s);
  }
  if (!loaded_->executor->overlaps()) return EndStep();
  PostEnd();
}

void AgentSession::PostEnd() {
  if (std::exchange(end_posted_, true)) return;
  const auto look = [this] {
    [[maybe_unused]] static thread_local const int exact = prctl(PR_SET_TIMERSLACK, 1);  // else 50 us more a sleep
    end_posted_ = false;
    if (begun_.empty()) return;
    // As long as there is nothing else to do.
    const ExchangePlace* const place = loaded_->executor->exchange_place();
    while (!loaded_->executor->Done(false) && !worker_->waits()) {
      if (place != nullptr) activity_.Switch(place->activity());
      std::this_thread::sleep_for(kPoll);
    }
    if (loaded_->executor->Done(false)) EndStep();
    if (!begun_.empty()) PostEnd();
  };
  worker_->Post(look, std::numeric_limits<size_t>::max());  // one at a time
}

// The oldest step that was begun is the one that goes on.
void AgentSession::EnterStep() {
  activity_.Switch(Activity::kBusy);
  entered_ = activity_.since();
  if (!loaded_->deployment.timeline.file.empty()) activity_.Record();
}

void AgentSession::EndStep() {
  const BegunStep ended = begun_.front();
  auto result = loaded_->executor->End();
  begun_.pop_front();
  activity_.Switch(Activity::kWait);
  if (!loaded_->deployment.timeline.file.empty()) Trace(*ended.step);
  if (!begun_.empty()) EnterStep();
  masks_.Forget(*ended.step);
  std::optional<wire::FromAgent> told;
  if (result.ok()) told = Told(*std::move(result));
  --steps_open_;  // before the stream may learn that the answer is on its way
  if (!result.ok()) return LoseGroup(*ended.step, ended.group, result.status());
  if (!told) return;
  const Failpoint at(Wall::kResult);
  stream_.Send(*std::move(told));
}

void AgentSession::LoseGroup(const Step& step, const std::shared_ptr<Group>& group, const absl::Status& why) {
  masks_.Forget(step);
  // What a peer or the transport did to the group, as against what is wrong here.
  const bool transport = why.code() == absl::StatusCode::kAborted || why.code() == absl::StatusCode::kUnavailable ||
                         why.code() == absl::StatusCode::kDeadlineExceeded;
  group->Abort(why);
  {
    MutexLock lock(mutex_);
    if (group_ == group) group_.reset();
    if (transport && step.epoch != epoch_) return;  // its group had to make way for the next one
  }
  Fail(step.epoch, why, !transport);
}

// What the master is told of a step, if anything.
std::optional<wire::FromAgent> AgentSession::Told(std::optional<StepResult> result) {
  wire::FromAgent message;
  if (result) {
    EncodeResult(*result, message.mutable_result());
    EncodeActivity(activity_.totals(), message.mutable_result()->mutable_activity());
    if (traces_.steps_size() > 0) message.mutable_result()->mutable_traces()->Swap(&traces_);
    return message;
  }
  // An agent that has nothing else to say tells them when it is idle, or has some to tell.
  if (traces_.steps_size() == 0 || (traces_.steps_size() < kTraces && steps_open_ > 1)) return std::nullopt;
  message.mutable_traces()->Swap(&traces_);
  return message;
}

// With a timeline, keeps what the step was made of.
void AgentSession::Trace(const Step& step) {
  wire::StepTrace& told = *traces_.add_steps();
  told.set_epoch(step.epoch);
  told.set_number(step.number);
  told.set_rows(step.rows());
  told.set_begin(entered_);
  const auto stretches = activity_.Recorded();
  told.mutable_stretches()->Add(stretches.begin(), stretches.end());
  std::map<std::string_view, uint32_t> names;
  for (const KernelTime& kernel : loaded_->executor->TakeKernels()) {
    const auto [name, first] = names.try_emplace(kernel.name, static_cast<uint32_t>(names.size()));
    if (first) told.add_kernel_names(kernel.name);
    told.add_kernels(name->second);
    told.add_kernel_times(kernel.begin - entered_);
    told.add_kernel_times(kernel.duration);
  }
}

}  // namespace pangea
