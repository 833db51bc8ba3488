#include "agent/open_step.h"

#include <algorithm>
#include <bit>

namespace pangea {

void Collect(const WantedRow& wanted, const RowResult& judged, StepResult* result) {
  SequenceResult& out = result->sequences[wanted.out];
  if (!judged.finite) {
    out.status = absl::DataLossError("the model gave a value that is not finite (NaN or infinity) in its logits");
    out.samples.clear();
  } else if (out.status.ok()) {
    if (wanted.row.known_id >= 0) {
      out.prompt.push_back(judged.sample);
    } else {
      out.samples.push_back(judged.sample);
    }
  }
}

std::vector<uint64_t> SampledIn(const Step& step) {
  std::vector<uint64_t> ids;
  for (const StepSequence& s : step.sequences)
    if (s.logits == LogitRows::kLast || (s.logits == LogitRows::kAll && s.next_id < 0)) ids.push_back(s.id);
  return ids;
}

bool OnlyDecodes(const Step& step) {
  return std::all_of(step.sequences.begin(), step.sequences.end(),
                     [](const StepSequence& s) { return s.rows() == 1 && s.logits == LogitRows::kLast && !s.masked; });
}

int64_t PaddedRows(int64_t rows) {
  if (rows <= 8) return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(rows)));
  const int64_t step = rows <= 64 ? 8 : 32;
  return (rows + step - 1) / step * step;
}

}  // namespace pangea
