// An executor without arithmetic, for tests of the control plane: real processes, real groups, no weights. It keeps of
// every sequence what a real one must have been told in this epoch, and fails when it was not.
#include <unordered_map>

#include "absl/strings/str_cat.h"
#include "agent/executor.h"
#include "agent/mask_box.h"
#include "configs/deployment.h"
#include "pipeline/parallel_plan.h"

namespace pangea {
namespace {

// Any fixed mixing will do.
uint64_t Mix(uint64_t a, uint64_t b) {
  uint64_t h = a * 0x9E3779B97F4A7C15ull ^ (b + 0x632BE59BD9B4E019ull);
  h ^= h >> 31;
  h *= 0xBF58476D1CE4E5B9ull;
  return h ^ (h >> 29);
}

class SimExecutor : public Executor {
 public:
  SimExecutor(const CheckpointHeader& header, const ParallelPlan& plan, int agent)
      : header_(header), plan_(plan), self_(plan.agents[agent]) {}
  absl::Status Load() override { return absl::OkStatus(); }

  // A token travels the pipeline as a real hidden state would, so that a missing agent stalls the stream.
  absl::Status Begin(const Step& step, Group& group) override {
    auto result = Compute(step, group);
    if (result.ok()) result_ = *std::move(result);
    return result.status();
  }
  absl::StatusOr<std::optional<StepResult>> End() override { return std::exchange(result_, std::nullopt); }
  AgentMemory memory() const override { return {}; }

 private:
  absl::StatusOr<std::optional<StepResult>> Compute(const Step& step, Group& group) {
    progress_.EnterStep(step.number, step.rows());
    if (auto s = Prepare(step); !s.ok()) return s;
    std::vector<std::byte> token(64), all(64 * plan_.ranks);
    if (!self_.first)
      if (auto s = group.Receive(self_.stage - 1, token); !s.ok()) return s;
    if (auto s = group.AllGather(token, std::vector<size_t>(plan_.ranks, 64), all); !s.ok()) return s;
    progress_.rows.fetch_add(step.rows(), std::memory_order_relaxed);
    if (!self_.last) {
      if (auto s = group.Send(self_.stage + 1, token); !s.ok()) return s;
      return std::optional<StepResult>{};
    }
    if (self_.rank != 0) return std::optional<StepResult>{};
    StepResult result{.epoch = step.epoch, .number = step.number};
    for (const StepSequence& s : step.sequences) {
      if (s.logits == LogitRows::kNone) continue;
      SequenceResult& out = result.sequences.emplace_back();
      out.id = s.id;
      const int n = s.rows();
      for (int i = s.logits == LogitRows::kAll ? 0 : n - 1; i < n; ++i) {
        const int32_t known = i + 1 < n ? s.ids[i + 1] : s.logits == LogitRows::kAll ? s.next_id : -1;
        if (known >= 0) {
          out.prompt.push_back({.id = known});
          continue;
        }
        const auto id = Draw(step, s, s.start + i);
        if (!id.ok()) return id.status();
        out.samples.push_back({.id = *id});
      }
    }
    return std::optional<StepResult>{std::move(result)};
  }

  // Of a masked sequence the next id that its mask allows.
  absl::StatusOr<int32_t> Draw(const Step& step, const StepSequence& s, int position) {
    const int32_t vocab = header_.config.vocab;
    int32_t id = static_cast<int32_t>(Mix(draws_.at(s.id), position) % vocab);
    if (!s.masked) return id;
    const auto allowed = masks_->Take(step, s.id);
    if (!allowed.ok()) return allowed.status();
    while (!allowed->Contains(id)) id = (id + 1) % vocab;
    return id;
  }

  absl::Status Prepare(const Step& step) {
    if (step.epoch != epoch_) draws_.clear();
    epoch_ = step.epoch;
    for (const uint64_t id : step.ended) draws_.erase(id);
    for (const StepSequence& s : step.sequences) {
      if (s.sampling) draws_[s.id] = Mix(s.sampling->params->seed, s.sampling->choice);
      if (!draws_.contains(s.id))
        return absl::InternalError(absl::StrCat("step ", step.number, ": sequence ", s.id, " is not known"));
    }
    return absl::OkStatus();
  }

  const CheckpointHeader& header_;
  const ParallelPlan& plan_;
  const RankPlan& self_;
  std::optional<StepResult> result_;  // of the step that was begun
  uint64_t epoch_ = 0;
  std::unordered_map<uint64_t, uint64_t> draws_;  // of each sequence: what its ids depend on, beside the position
};

}  // namespace

std::unique_ptr<Executor> MakeSimExecutor(const CheckpointHeader& header, const ParallelPlan& plan, int agent) {
  return std::make_unique<SimExecutor>(header, plan, agent);
}

}  // namespace pangea
