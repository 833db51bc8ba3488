// What the executor knows of a step between its beginning and its end.
#pragma once
#include <cstdint>
#include <deque>
#include <vector>

#include "agent/device_sampler.h"
#include "agent/sampler.h"
#include "pipeline/group.h"
#include "pipeline/step.h"

namespace pangea {

// A row whose logits are wanted.
struct WantedRow {
  size_t sequence = 0;  // in the step
  size_t out = 0;       // in the result
  int slot = 0;
  LogitRow row;
};

struct OpenStep {
  StepResult result;
  int rows = 0;
  // Of rows that the device draws: what it drew lies in runs of as many as it judges at a time.
  std::vector<WantedRow> wanted;
  std::deque<DeviceSampler::Drawn> drawn;
  uint64_t mark = 0;             // of the queue, behind all of it
  const Group* group = nullptr;  // there until the step has ended
};

// What the row came to, into its sequence's result.
void Collect(const WantedRow& wanted, const RowResult& judged, StepResult* result);

// Sequences that a step samples, in order: every stage reads this from the step alone.
std::vector<uint64_t> SampledIn(const Step& step);
// Each of its sequences has one row, from which it draws without waiting for anybody.
bool OnlyDecodes(const Step& step);
// Rows to which such a step is padded, so that few are unlike.
int64_t PaddedRows(int64_t rows);

}  // namespace pangea
