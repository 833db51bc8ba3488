// What a step costs, learned from the steps that have been: so that a prompt is read in chunks small enough for the
// streams that run beside it, and that a preempted sequence is swapped or computed again, whichever is cheaper.
#pragma once
#include <optional>
#include <vector>

namespace pangea {

// Seconds are what a step adds to the time between results: of the slowest stage. Not thread safe.
class StepCost {
 public:
  explicit StepCost(int max_sequences) : decode_(max_sequences + 1, 0) {}

  void Learn(int decode_rows, int prompt_rows, double seconds);  // a step of so many rows took so long
  void LearnCopies(int blocks, double seconds);                  // copying so many blocks took so long
  // Prompt rows that may go beside decode_rows (> 0) so that the step takes about `slowdown` times as long as one that
  // decodes `soon` rows (>= decode_rows: as many as will decode once the prompts are read); at least 1. nullopt: not
  // known yet.
  std::optional<int> PromptRows(int decode_rows, int soon, double slowdown) const;
  std::optional<double> row_seconds() const;    // of one prompt row
  std::optional<double> block_seconds() const;  // of copying one block

 private:
  double DecodeSeconds(int rows) const;  // of a step that only decodes; 0: not known

  std::vector<double> decode_;  // [rows] moving averages; 0: never seen
  double row_ = 0, block_ = 0;
};

}  // namespace pangea
