// logits -> token, spread over the ranks of the last stage. Each rank has the logits of its run of the vocabulary;
// ranks exchange chunk sums and candidates (never whole rows) and all compute the same id. The result is a function of
// the whole row alone: not of the ranks, the batch, or how many candidates were sent at first (docs/exactness.md,
// section 5).
//
// Order of filters: bias, penalties, mask, temperature, min_p, top_k, top_p. One order of ids everywhere: logit
// descending, id ascending. The draw is argmax of logit/T + Gumbel noise keyed by (seed, position, choice, id).
#pragma once
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "kernels/ops.h"
#include "pipeline/group.h"
#include "pipeline/parallel_plan.h"
#include "pipeline/step.h"

namespace pangea {

// What the sampler knows of one sequence: parameters, and counts of ids where a penalty needs them.
struct SamplingState {
  std::shared_ptr<const Sampling> params;
  int32_t choice = 0;
  std::unordered_map<int32_t, int32_t> generated;  // id -> times generated
  std::vector<int32_t> prompt;                     // distinct ids of the prompt, when a repetition penalty needs them
  int32_t count = 0;                               // ids generated

  void Set(const SequenceSampling& sampling);
  void Accept(int32_t id);
};

// One row of logits to be judged.
struct LogitRow {
  const SamplingState* state = nullptr;
  int32_t position = 0;              // of the row: the id drawn stands at position + 1
  int32_t known_id = -1;             // >= 0: nothing is drawn, only this id's log-probability is wanted
  const AllowedIds* mask = nullptr;  // of a masked row: no other id is drawn, whatever min_tokens says
  // A mask knows better: one that allows nothing but an end means it.
  bool BansEnds() const { return mask == nullptr && state->count < state->params->min_tokens; }
};

struct RowResult {
  Sample sample;
  bool finite = true;  // false: NaN or infinity in the raw logits; sample is void
};

class Sampler {
 public:
  // slices: each rank's run of the vocabulary; rank: ours. raw: memory for as many rows of our slice as Run is given.
  Sampler(std::vector<Range> slices, int rank, float* raw, Queue* queue);
  // logits [rows.size()][slice], changed in place. Every rank of the stage calls with the same rows.
  absl::Status Run(float* logits, std::span<const LogitRow> rows, Group& group, std::vector<RowResult>* results);

 private:
  struct Candidate {
    float value;
    int32_t id;
  };
  struct Work;
  absl::Status Exchange(Group& group, std::span<const std::byte> mine, const std::vector<size_t>& sizes);
  int64_t Chunks(int rank) const;
  int64_t Listed(int64_t wanted, int rank) const;
  void Prepare(float* x, float* raw, Work* work) const;
  void First(const float* x, Work* work, std::byte* out) const;
  size_t FirstBytes(const Work& work, int rank) const;
  void MergeFirst(std::vector<Work>& works);
  absl::Status Widen(const float* logits, std::vector<Work>& works, Group& group);
  absl::Status DrawAll(const float* logits, std::vector<Work>& works, Group& group);
  absl::Status Chosen(std::vector<Work>& works, Group& group, std::vector<RowResult>* results);
  bool Survivors(Work* work) const;
  DrawKey DrawOf(const Work& work) const;
  void Draw(Work* work) const;
  std::vector<Candidate> Best(const float* x, int64_t wanted) const;
  const float* Row(const float* logits, size_t i) const { return logits + i * slices_[rank_].size(); }

  std::vector<Range> slices_;
  int rank_;
  float* raw_;
  Queue* queue_;
  std::vector<std::byte> mine_, all_;
  std::vector<size_t> offsets_;  // of each rank's part in all_
};

}  // namespace pangea
