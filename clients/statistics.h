// Latencies of a load run in bounded memory.
#pragma once
#include <cstdint>
#include <vector>

namespace pangea::clients {

// Buckets whose borders grow by 0.5 %, from 1 microsecond to 100,000 seconds: a percentile is within 0.25 % of the
// sample that has its nearest rank, whatever the number of samples. Smaller and larger ones count in the first and last
// bucket.
class LatencyHistogram {
 public:
  void Add(double seconds);
  // Nearest rank: the least value such that at least p % of the samples are not larger. p in (0, 100]. 0 without
  // samples.
  double Percentile(double p) const;
  int64_t count() const { return count_; }
  double mean() const { return count_ == 0 ? 0 : sum_ / static_cast<double>(count_); }
  double max() const { return max_; }  // exact
  double min() const { return min_; }  // exact

 private:
  std::vector<int64_t> buckets_;
  int64_t count_ = 0;
  double sum_ = 0, min_ = 0, max_ = 0;
};

}  // namespace pangea::clients
