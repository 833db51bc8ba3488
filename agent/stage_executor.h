// The executor of an agent that computes. executor.cc: what it holds and how a step's rows come into the batch;
// stage_steps.cc: its steps; stage_messages.cc: what goes from stage to stage.
#pragma once
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "agent/executor.h"
#include "agent/group/exchange_place.h"
#include "agent/kv_cache.h"
#include "agent/open_step.h"
#include "agent/sampler.h"
#include "pipeline/stage.h"

namespace pangea {

// What an agent remembers of a sequence between steps, beside its slot's table and last sample in the batch.
struct Slot {
  int64_t blocks = 0;  // in its table
  SamplingState sampling;
};

class StageExecutor : public Executor {
 public:
  StageExecutor(const CheckpointHeader& header, const Deployment& deployment, const ParallelPlan& plan, int agent,
                const StageOptions& options);
  ~StageExecutor() override { queue_->Finish(); }  // what is under way uses what is given back now

  absl::Status Load() override;
  absl::Status Begin(const Step& step, Group& group) override;
  absl::StatusOr<std::optional<StepResult>> End() override;
  // Where nothing of a step goes through the host: alone in the layout, or where devices exchange.
  bool overlaps() const override {
    if (self_.last && device_sampler_ == nullptr) return false;
    return exchange_ != nullptr || plan_.agents.size() == 1;
  }
  ExchangePlace* exchange_place() override { return place_.get(); }
  bool Done(bool all) override {
    return open_.empty() || queue_->Reached(all ? open_.back().mark : open_.front().mark);
  }
  std::vector<KernelTime> TakeKernels() override { return queue_->kernels(); }
  Queue::Times device_times() const override { return queue_->times(); }
  AgentMemory memory() const override;

 private:
  void ForgetAll();
  absl::StatusOr<int> SlotOf(uint64_t id);
  absl::Status Compute(const Step& step, Group& group, OpenStep* open);
  absl::Status Prepare(const Step& step, Group& group);
  absl::Status AddRows(const StepSequence& sequence, int slot);
  absl::Status ReceiveSamples(const Step& step, Group& group);
  absl::Status ReceiveIds(const std::vector<uint64_t>& ids, Group& group);
  absl::Status SendSamples(const Step& step, Group& group);
  // rows: those of the batch that are some.
  absl::Status ReceiveX(const Batch& batch, int64_t rows, Group& group);
  absl::Status SendX(const Batch& batch, int64_t rows, Group& group);
  std::vector<WantedRow> Wanted(const Step& step, StepResult* result) const;
  absl::Status Judge(const Step& step, const Batch& batch, Group& group, OpenStep* open);
  absl::Status TakeMasks(const Step& step, std::span<WantedRow> rows, std::deque<AllowedIds>* masks);
  bool Repeats(const Step& step) const;
  absl::StatusOr<bool> ComputeAgain(const Step& step, Group& group, OpenStep* open);
  DeviceSampler::On SampledOn() const;
  void Draw(std::span<const WantedRow> rows, OpenStep* open);
  void AreDrawn(std::span<const WantedRow> rows);
  void Settle(OpenStep* open);

  const CheckpointHeader& header_;
  const Deployment& deployment_;
  const ParallelPlan& plan_;
  const RankPlan& self_;
  const int agent_;
  Tap* const tap_;
  const std::unique_ptr<Queue> own_queue_;
  Queue* const queue_;
  std::unique_ptr<Stage> stage_;
  std::span<std::byte> pages_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<Sampler> sampler_;               // of the last stage: this one,
  std::unique_ptr<DeviceSampler> device_sampler_;  // or this one
  std::deque<OpenStep> open_;
  std::unique_ptr<ExchangePlace> place_;
  const DeviceExchange* exchange_ = nullptr;  // of the group of the step that was begun last
  size_t logit_rows_ = 0;                     // made at a time
  uint64_t epoch_ = 0;
  std::unique_ptr<BatchBuilder> batch_;
  std::vector<Slot> slots_;
  std::vector<int> free_slots_;
  std::unordered_map<uint64_t, int> slot_of_;  // by sequence
  // First of several stages: steps whose samples are still under way from the last stage.
  std::deque<std::pair<uint64_t, std::vector<uint64_t>>> awaited_;
  // Of one step.
  double copy_seconds_ = 0;
};

}  // namespace pangea
