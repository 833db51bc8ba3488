#include "clients/statistics.h"

#include <algorithm>
#include <cmath>

namespace pangea::clients {
namespace {

constexpr double kLeast = 1e-6, kLargest = 1e5;
const double kStep = std::log(1.005);
const int kBuckets = static_cast<int>(std::ceil(std::log(kLargest / kLeast) / kStep)) + 1;

}  // namespace

void LatencyHistogram::Add(double seconds) {
  if (buckets_.empty()) buckets_.resize(kBuckets);
  const double bucket = seconds > kLeast ? std::log(seconds / kLeast) / kStep : 0;
  ++buckets_[static_cast<size_t>(std::clamp(bucket, 0.0, static_cast<double>(kBuckets - 1)))];
  min_ = count_ == 0 ? seconds : std::min(min_, seconds);
  max_ = count_ == 0 ? seconds : std::max(max_, seconds);
  sum_ += seconds;
  ++count_;
}

double LatencyHistogram::Percentile(double p) const {
  if (count_ == 0) return 0;
  const int64_t rank =
      std::clamp<int64_t>(static_cast<int64_t>(std::ceil(p / 100 * static_cast<double>(count_))), 1, count_);
  int64_t seen = 0;
  for (int i = 0; i < kBuckets; ++i) {
    seen += buckets_[i];
    // The middle of the bucket, but never outside what was seen.
    if (seen >= rank) return std::clamp(kLeast * std::exp((i + 0.5) * kStep), min_, max_);
  }
  return max_;
}

}  // namespace pangea::clients
