// One step: batch in -> forward -> sample -> result out. On a device that computes later and draws ids itself, the next
// step may be begun before the one before has ended, so that it never waits for the host.
#pragma once
#include <optional>
#include <span>

#include "absl/status/statusor.h"
#include "kernels/isa.h"
#include "kernels/queue.h"
#include "pipeline/agent_memory.h"
#include "pipeline/group.h"
#include "pipeline/progress.h"
#include "pipeline/step.h"
#include "pipeline/tap.h"

namespace pangea {

struct Deployment;
struct CheckpointHeader;
struct ParallelPlan;
class ExchangePlace;
class MaskBox;

// What an agent runs; real (a stage on its device) and sim. Executor thread only, but for the Group's Abort.
class Executor {
 public:
  virtual ~Executor() = default;
  // Loads this agent's slices and allocates its pages; long, reports progress by log lines.
  virtual absl::Status Load() = 0;
  // Steps in number order. An error, of either, means that the group is dead.
  virtual absl::Status Begin(const Step& step, Group& group) = 0;
  // Waits for the oldest step that was begun: its result on rank 0 of the last stage, nullopt elsewhere.
  virtual absl::StatusOr<std::optional<StepResult>> End() = 0;
  // Whether the next step may be begun before End; if so, Done says whether End, or the last of them, would wait now.
  virtual bool overlaps() const { return false; }
  virtual bool Done(bool /*all*/) { return true; }
  // Where its device exchanges with others by itself; null: it does not. After Load.
  virtual ExchangePlace* exchange_place() { return nullptr; }
  virtual std::vector<KernelTime> TakeKernels() { return {}; }  // timeline.kernels: done since the last call
  virtual Queue::Times device_times() const { return {}; }      // of steps that have ended
  absl::StatusOr<std::optional<StepResult>> Run(const Step& step, Group& group) {
    if (auto s = Begin(step, group); !s.ok()) return s;
    return End();
  }
  const Progress& progress() const { return progress_; }
  virtual AgentMemory memory() const = 0;  // what it holds; after Load what the plan says
  // Where it asks for the masks of masked sequences, between logits and draw, on every rank of the last stage. Before
  // the first Run; outlives it.
  void set_masks(MaskBox* masks) { masks_ = masks; }
  void BeginEpoch() { progress_.BeginEpoch(); }
  // By which it times its layers; as for the masks. None: it does not.
  void set_clock(const ActivityClock* clock) { progress_.clock = clock; }

 protected:
  MaskBox* masks_ = nullptr;
  Progress progress_;
};

struct StageOptions {
  Isa isa = BestIsa();             // REQUIRES isa <= BestIsa()
  Tap* tap = nullptr;              // sees every buffer of every layer; null: none
  WeightStore* weights = nullptr;  // where they are packed, or lie packed; outlives the executor. Null: in own memory
  std::span<std::byte> pages;      // host memory for the KV pages, as for the weights; empty: in own memory
  bool makes_weights_up = false;   // for measurements (Queue)
  Queue* queue = nullptr;  // of the agent's device, one agent's alone; null: a CPU queue as deployment and plan say
};
// agent: index in the plan. The references must outlive the executor.
std::unique_ptr<Executor> MakeStageExecutor(const CheckpointHeader& header, const Deployment& deployment,
                                            const ParallelPlan& plan, int agent, const StageOptions& options = {});
// Does no arithmetic: the id after a position is a fixed hash of it, the seed and the choice, modulo the vocabulary.
// Control-plane tests.
std::unique_ptr<Executor> MakeSimExecutor(const CheckpointHeader& header, const ParallelPlan& plan, int agent);

}  // namespace pangea
