// The agents' pipeline in virtual time: when each stage would begin and end each step, from what a step costs a stage.
// Nothing waits and nothing is computed; a step's whole future is known when it is sent, because steps keep their
// order.
#pragma once
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "master/schedule/timeline.h"
#include "pipeline/step.h"

namespace pangea {

// What one step costs one stage, in seconds. All of it keeps the stage busy: compute and gather alternate within the
// layers, then the hidden state goes to the next stage.
struct StageSeconds {
  double compute = 0, gather = 0, hand_over = 0;
  double copies = 0;  // of compute: of blocks, before the forward
  double total() const { return compute + gather + hand_over; }
};

struct VirtualCosts {
  std::function<std::vector<StageSeconds>(const Step&)> of_step;  // one entry a stage, in order
  double control_latency = 0;  // from the master to the first stage, and from the last one back
  double stage_latency = 0;    // of the hidden state to the next stage, and of ids from the last one to the first
};

// Seconds of one stage. bubble: idle while there was work in the system.
struct StageUse {
  double compute = 0, communication = 0, bubble = 0;
};

// Not thread safe.
class VirtualPipeline {
 public:
  // spans: where to note what the stages do, or null.
  VirtualPipeline(int stages, VirtualCosts costs, std::vector<TimelineSpan>* spans = nullptr);
  struct Sent {
    double answered = 0;      // when its result reaches the master: no earlier than that of the step before
    double copy_seconds = 0;  // as the result tells it, by the last stage
  };
  // A step leaves the master at `now`, which never goes back. A stage takes one step at a time, in order; a step with a
  // row "your last sample" waits at the first stage until the last one has drawn that sample and sent it over.
  Sent Send(double now, const Step& step);
  // A new epoch: what is under way is lost, and every stage is idle. Their use so far stays counted.
  void Reset(double now);
  const std::vector<StageUse>& use() const { return use_; }  // bubble is the caller's to fill in

 private:
  double IdsKnown(const Step& step) const;
  void Note(const Step& step, int stage, double begin, const StageSeconds& cost);

  const VirtualCosts costs_;
  std::vector<TimelineSpan>* const spans_;
  std::vector<double> free_;                          // [stage]: when it can begin another step
  std::vector<StageUse> use_;                         // [stage]
  std::unordered_map<uint64_t, double> last_sample_;  // sequence -> when the last stage drew its newest sample
};

}  // namespace pangea
