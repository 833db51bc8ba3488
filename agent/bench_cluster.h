// All agents of a deployment as threads of one process, for measurements: each executor on a thread of its own, as in
// an agent process, and groups that are threads' own.
#pragma once
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/assignment.h"
#include "agent/executor.h"
#include "agent/kept_memory.h"
#include "agent/worker.h"
#include "configs/mutex.h"

namespace pangea {

class BenchCluster {
 public:
  static absl::StatusOr<std::unique_ptr<BenchCluster>> Make(const Deployment& deployment,
                                                            const CheckpointHeader& header, const ParallelPlan& plan,
                                                            bool makes_up);
  ~BenchCluster();

  // So many sequences, each with `context` positions read (random ids), or where weights are made up, with pages for so
  // many that are made up, too. Until Forget.
  absl::Status Fill(int sequences, int context);
  // Steps in which each of them decodes; the seconds of each. Where steps may overlap, each is begun before the one
  // before it has ended, as an agent has them: then from end to end.
  absl::Status Decode(int steps, std::vector<double>* seconds);
  // A prompt of so many ids is read, in steps as large as the deployment allows, and forgotten; its seconds.
  absl::StatusOr<double> Prefill(int tokens);
  absl::Status Forget();

  double multiply_adds() const;       // of all agents, so far
  Queue::Times device_times() const;  // of all agents, so far
  int64_t kernels() const;            // launched by agents that launch any, so far
  // Of the agents' devices together: bytes a second that they read, and floating-point operations a second of products
  // (of the CPUs' agents of the model's own, in their caches; of GPUs cuBLASLt's, and 0 where they have none).
  double ReadBandwidth();
  double MatrixRate();

 private:
  struct Agent {
    Assignment assignment;
    KeptMemory kept;
    std::unique_ptr<Queue> queue;
    std::unique_ptr<Executor> executor;
    std::unique_ptr<Worker> worker;
  };
  struct Sequence {
    uint64_t id;
    int position;  // of the next row
    int blocks;    // of its own that the agents know
  };
  BenchCluster(const ParallelPlan& plan, bool makes_up) : plan_(plan), makes_up_(makes_up) {}
  absl::Status Number(Step* step);
  absl::StatusOr<double> Run(Step step);
  absl::Status RunAhead(size_t agent, const std::vector<Step>& steps, std::vector<double>* seconds);
  void Fail(const absl::Status& why);
  absl::Status failure() const;
  absl::Status HasRoom(int tokens) const;
  absl::Status Read(Sequence* sequence, int tokens, double* seconds);
  StepSequence Rows(Sequence* sequence, int rows);

  const ParallelPlan plan_;
  const bool makes_up_;
  std::vector<std::unique_ptr<Group>> groups_;
  std::vector<std::unique_ptr<Agent>> agents_;
  std::vector<Sequence> sequences_;
  std::vector<uint64_t> ended_;
  int next_block_ = 0;
  uint64_t number_ = 0, next_id_ = 0;
  mutable Mutex mutex_;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pangea
