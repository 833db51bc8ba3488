#include "master/schedule/virtual_pipeline.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "master/schedule/check.h"

namespace pangea {

VirtualPipeline::VirtualPipeline(int stages, VirtualCosts costs, std::vector<TimelineSpan>* spans)
    : costs_(std::move(costs)), spans_(spans), free_(stages, 0), use_(stages) {}

double VirtualPipeline::IdsKnown(const Step& step) const {
  double known = 0;
  for (const StepSequence& part : step.sequences) {
    if (!part.ids.empty()) continue;
    const auto drawn = last_sample_.find(part.id);
    SCHEDULE_CHECK(drawn != last_sample_.end());
    known = std::max(known, drawn->second + (free_.size() > 1 ? costs_.stage_latency : 0));
  }
  return known;
}

VirtualPipeline::Sent VirtualPipeline::Send(double now, const Step& step) {
  const std::vector<StageSeconds> costs = costs_.of_step(step);
  SCHEDULE_CHECK(costs.size() == free_.size());
  double ready = std::max(now + costs_.control_latency, IdsKnown(step));
  for (size_t stage = 0; stage < costs.size(); ++stage) {
    const double begin = std::max(ready, free_[stage]);
    Note(step, static_cast<int>(stage), begin, costs[stage]);
    free_[stage] = begin + costs[stage].total();
    use_[stage].compute += costs[stage].compute;
    use_[stage].communication += costs[stage].gather + costs[stage].hand_over;
    ready = free_[stage] + costs_.stage_latency;
  }
  for (const uint64_t id : step.ended) last_sample_.erase(id);
  for (const StepSequence& part : step.sequences) {
    if (part.logits != LogitRows::kNone && part.next_id < 0) last_sample_[part.id] = free_.back();
  }
  return {.answered = free_.back() + costs_.control_latency, .copy_seconds = costs.back().copies};
}

void VirtualPipeline::Reset(double now) {
  for (double& free : free_) free = std::min(free, now);
  last_sample_.clear();
}

void VirtualPipeline::Note(const Step& step, int stage, double begin, const StageSeconds& cost) {
  if (!spans_) return;
  TimelineSpan span{.name = absl::StrCat("step ", step.number), .stage = stage, .rank = 0};
  span.start_seconds = begin;
  span.duration_seconds = cost.total();
  span.args = {{"rows", step.rows()},
               {"sequences", static_cast<int64_t>(step.sequences.size())},
               {"gather_us", static_cast<int64_t>(cost.gather * 1e6)}};
  spans_->push_back(std::move(span));
  if (cost.hand_over <= 0) return;
  TimelineSpan sent{.name = "hand over", .stage = stage, .rank = 0};
  sent.start_seconds = begin + cost.compute + cost.gather;
  sent.duration_seconds = cost.hand_over;
  spans_->push_back(std::move(sent));
}

}  // namespace pangea
