#include "master/schedule/step_cost.h"

#include <algorithm>
#include <cmath>

namespace pangea {
namespace {

constexpr double kWeight = 0.2;  // of the newest observation
// An observation counts at most for so many times the average: a machine that stood still for a second says little.
constexpr double kOutlier = 4;

void Average(double* average, double value) {
  if (*average <= 0) {
    *average = value;
  } else {
    *average += kWeight * (std::min(value, kOutlier * *average) - *average);
  }
}

}  // namespace

void StepCost::Learn(int decode_rows, int prompt_rows, double seconds) {
  if (!(seconds > 0) || !std::isfinite(seconds)) return;
  decode_rows = std::min(decode_rows, static_cast<int>(decode_.size()) - 1);
  if (prompt_rows == 0) {
    if (decode_rows > 0) Average(&decode_[decode_rows], seconds);
    return;
  }
  const double beside = decode_rows > 0 ? DecodeSeconds(decode_rows) : 0;
  // Rows that cost next to nothing (the step waits for memory anyway) are counted as a little, so that the average can
  // recover.
  Average(&row_, std::max(seconds - beside, 0.05 * seconds) / prompt_rows);
}

void StepCost::LearnCopies(int blocks, double seconds) {
  if (blocks > 0 && seconds > 0 && std::isfinite(seconds)) Average(&block_, seconds / blocks);
}

double StepCost::DecodeSeconds(int rows) const {
  const int most = static_cast<int>(decode_.size()) - 1;
  rows = std::min(rows, most);
  // Of fewer rows rather than of more, which errs towards smaller chunks; each row that is missing counts as a prompt
  // row.
  for (int seen = rows; seen > 0; --seen) {
    if (decode_[seen] > 0) return decode_[seen] + (rows - seen) * row_;
  }
  for (int seen = rows + 1; seen <= most; ++seen) {
    if (decode_[seen] > 0) return decode_[seen];
  }
  return 0;
}

std::optional<int> StepCost::PromptRows(int decode_rows, int soon, double slowdown) const {
  const double decode = DecodeSeconds(decode_rows);
  if (decode <= 0 || row_ <= 0) return std::nullopt;
  const double most = slowdown * std::max(DecodeSeconds(soon), decode);
  return static_cast<int>(std::clamp((most - decode) / row_, 1.0, 1e9));
}

std::optional<double> StepCost::row_seconds() const { return row_ > 0 ? std::optional(row_) : std::nullopt; }
std::optional<double> StepCost::block_seconds() const { return block_ > 0 ? std::optional(block_) : std::nullopt; }

}  // namespace pangea
