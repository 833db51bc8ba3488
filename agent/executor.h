// One step: batch in -> forward -> sample -> result out.
#pragma once
#include <optional>

#include "absl/status/statusor.h"
#include "kernels/isa.h"
#include "pipeline/group.h"
#include "pipeline/progress.h"
#include "pipeline/step.h"
#include "pipeline/tap.h"

namespace pangea {

struct Deployment;
struct CheckpointHeader;
struct ParallelPlan;
class MaskBox;

// What an agent runs; real (cpu) and sim. Executor thread only, but for the Group's Abort.
class Executor {
 public:
  virtual ~Executor() = default;
  // Loads this agent's slices and allocates its pages; long, reports progress by log lines.
  virtual absl::Status Load() = 0;
  // The result on rank 0 of the last stage, nullopt elsewhere. An error means the group is dead.
  virtual absl::StatusOr<std::optional<StepResult>> Run(const Step& step, Group& group) = 0;
  virtual const Progress& progress() const = 0;
  // Where it asks for the masks of masked sequences, between logits and draw, on every rank of the last stage. Before
  // the first Run; outlives it.
  void set_masks(MaskBox* masks) { masks_ = masks; }
  virtual int64_t weight_bytes() const = 0;
  virtual int64_t kv_bytes() const = 0;

 protected:
  MaskBox* masks_ = nullptr;
};

struct CpuOptions {
  Isa isa = BestIsa();  // REQUIRES isa <= BestIsa()
  Tap* tap = nullptr;   // sees every buffer of every layer; null: none
};
// agent: index in the plan. The references must outlive the executor.
std::unique_ptr<Executor> MakeCpuExecutor(const CheckpointHeader& header, const Deployment& deployment,
                                          const ParallelPlan& plan, int agent, const CpuOptions& options = {});
// Does no arithmetic: the id after a position is a fixed hash of it, the seed and the choice, modulo the vocabulary.
// Control-plane tests.
std::unique_ptr<Executor> MakeSimExecutor(const CheckpointHeader& header, const ParallelPlan& plan, int agent);

}  // namespace pangea
