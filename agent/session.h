// One life of an agent: join, load, form, steps, leave. The control thread reads the stream at all times; the executor
// thread (a Worker) loads, forms groups and runs steps in number order, and may be stuck in a peer's silence until the
// control thread aborts.
#pragma once
#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "agent/control_stream.h"
#include "agent/executor.h"
#include "agent/group/rendezvous.h"
#include "agent/mask_box.h"
#include "agent/service.h"
#include "agent/worker.h"
#include "configs/deployment.h"
#include "configs/mutex.h"
#include "pipeline/activity.h"
#include "pipeline/checkpoint/header.h"
#include "pipeline/parallel_plan.h"

namespace pangea {

struct Loaded;

class AgentSession {
 public:
  AgentSession(const AgentOptions& options, const std::string& token);
  ~AgentSession();
  // The control thread's loop: returns once the agent has left.
  absl::Status Run();
  // From any thread: tells the master why this agent ends, and ends within a second.
  void Terminate(const absl::Status& why);

 private:
  using After = ControlStream::After;
  After Handle(const agent::v1::FromMaster& message);
  void Joined(int place, double silence);
  void OnForm(const agent::v1::Form& form);
  void OnEpochOver(uint64_t epoch);
  After OnStep(const agent::v1::Step& message);
  void OnMask(const agent::v1::Mask& message);
  // On the executor thread.
  void LetGo();  // of what is loaded
  absl::Status Load(const agent::v1::Assign& assign);
  absl::Status Form(const agent::v1::Form& form, std::shared_ptr<Rendezvous> board);
  void BeginStep(const std::shared_ptr<const Step>& step);
  void EnterStep();
  void PostEnd();
  void EndStep();
  void LoseGroup(const Step& step, const std::shared_ptr<Group>& group, const absl::Status& why);
  std::optional<agent::v1::FromAgent> Told(std::optional<StepResult> result);
  void Trace(const Step& step);

  absl::Status CheckOrder(const Step& step);
  // Sends a Failure. Fatal: nothing can be done with this process any more, so it leaves within a second.
  void Fail(uint64_t epoch, const absl::Status& why, bool fatal);
  void AbortGroup(const absl::Status& why);
  void Housekeep();  // progress reports, and the last deadline
  void Report();
  std::chrono::steady_clock::duration ReportPeriod() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Leave(const absl::Status& ended);

  const AgentOptions options_;
  ControlStream stream_;
  ActivityClock activity_;          // the executor thread's
  MaskBox masks_;                   // filled by the control thread, emptied by the executor
  std::unique_ptr<Loaded> loaded_;  // made by the executor thread; the pointer is guarded by mutex_

  Mutex mutex_;
  CondVar changed_;
  std::shared_ptr<Rendezvous> board_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<Group> group_ ABSL_GUARDED_BY(mutex_);
  uint64_t epoch_ ABSL_GUARDED_BY(mutex_) = 0;                // of the latest Form
  int place_ ABSL_GUARDED_BY(mutex_) = -1;                    // of the latest Assign; -1: it stands by
  double silence_ ABSL_GUARDED_BY(mutex_) = 0;                // control.silence_seconds
  std::optional<StepLimits> limits_ ABSL_GUARDED_BY(mutex_);  // once loaded
  std::optional<std::chrono::steady_clock::time_point> leave_by_ ABSL_GUARDED_BY(mutex_);
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);  // the first fatal one
  bool joined_ ABSL_GUARDED_BY(mutex_) = false, left_ ABSL_GUARDED_BY(mutex_) = false;

  uint64_t step_epoch_ = 0, next_step_ = 0;  // control thread
  bool stopped_ = false;                     // control thread: the master said so
  std::atomic<int> steps_open_{0};           // given to the worker and not done
  std::atomic<bool> answers_{false};         // this agent tells the master what steps came to
  // Executor thread.
  struct BegunStep {
    std::shared_ptr<const Step> step;
    std::shared_ptr<Group> group;
  };
  std::deque<BegunStep> begun_;   // and not ended
  bool end_posted_ = false;       // the worker will look whether the oldest of them is done
  int64_t entered_ = 0;           // when the oldest became that
  agent::v1::StepTraces traces_;  // not told yet
  std::unique_ptr<Worker> worker_;
  std::thread housekeeper_;
};

}  // namespace pangea
