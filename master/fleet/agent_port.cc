#include "master/fleet/agent_port.h"

#include <google/protobuf/arena.h>

#include <algorithm>
#include <utility>

#include "configs/failpoint.h"
#include "master/fleet/clock.h"
#include "protos/step_codec.h"

namespace pangea {
namespace {

namespace wire = agent::v1;

constexpr size_t kStepArenaBytes = 16 << 10;  // a step of some hundred sequences

}  // namespace

void AgentPort::Open(uint64_t epoch, ControlServer* server, std::vector<ControlServer::SessionId> all,
                     std::vector<ControlServer::SessionId> last_stage) {
  MutexLock lock(mutex_);
  epoch_ = epoch;
  server_ = server;
  all_ = std::move(all);
  last_stage_ = std::move(last_stage);
  steps_.clear();
}

void AgentPort::Close() {
  MutexLock lock(mutex_);
  epoch_ = 0;
  steps_.clear();
}

void AgentPort::Send(const Step& step) {
  alignas(8) char block[kStepArenaBytes];
  google::protobuf::Arena arena(block, sizeof(block));
  auto* message = google::protobuf::Arena::CreateMessage<wire::FromMaster>(&arena);
  EncodeStep(step, message->mutable_step());
  MutexLock lock(mutex_);
  if (epoch_ == 0 || step.epoch != epoch_) return;
  steps_.push_back({.number = step.number, .sent = MonotonicSeconds()});
  watch_->step_rows.Add(step.rows());
  server_->Send(all_, *message);
}

void AgentPort::SendMask(const Mask& mask) {
  wire::FromMaster message;
  EncodeMask(mask, message.mutable_mask());
  MutexLock lock(mutex_);
  if (epoch_ == 0 || mask.epoch != epoch_) return;
  server_->Send(last_stage_, message);
}

bool AgentPort::OnResult(const wire::StepResult& message, double now) {
  {
    MutexLock lock(mutex_);
    if (epoch_ == 0 || message.epoch() != epoch_) return false;
    for (; !steps_.empty() && steps_.front().number <= message.number(); steps_.pop_front()) {
      watch_->step_seconds.Add(now - std::max(steps_.front().sent, last_result_));
      last_result_ = now;
    }
    last_result_ = now;
  }
  const Failpoint at(Wall::kCommit);
  on_result_(DecodeResult(message));
  return true;
}

std::optional<AgentPort::Outstanding> AgentPort::oldest() const {
  MutexLock lock(mutex_);
  if (steps_.empty()) return std::nullopt;
  return steps_.front();
}

double AgentPort::last_result() const {
  MutexLock lock(mutex_);
  return last_result_;
}

}  // namespace pangea
