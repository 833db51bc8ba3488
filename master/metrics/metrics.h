// Counters and histograms, and the page that shows them: the text exposition format 0.0.4 of Prometheus
// (prometheus.io/docs/instrumenting/exposition_formats). A metric is declared as a member beside what counts it; a page
// is written on request from all of them, and from numbers that a room keeps anyway.
//
// Debian's prometheus-cpp is not used: it exists only as shared libraries whose package brings a web server and curl.
#pragma once
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "configs/mutex.h"

namespace pangea {

// vllm: the names under which versions of vLLM show the same number.
struct MetricName {
  std::string_view name, help;
  std::vector<std::string_view> vllm = {};
};

// In the order in which they are shown. Values may be any UTF-8; they are escaped.
using MetricLabels = std::vector<std::pair<std::string, std::string>>;

struct MetricValue {
  double value = 0;
  MetricLabels labels = {};
};

// A number that only grows. Thread safe, as the two below; adding is one relaxed atomic operation.
class Counter {
 public:
  explicit Counter(const MetricName& name) : name_(name) {}
  void Add(uint64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }
  const MetricName& name() const { return name_; }

 private:
  const MetricName name_;
  std::atomic<uint64_t> value_{0};
};

// A counter for every value of one label. For what is rare: it takes a lock.
class LabelledCounter {
 public:
  // known: shown from the start, at 0; others from their first time on.
  LabelledCounter(const MetricName& name, std::string_view label, const std::vector<std::string>& known);
  void Add(std::string_view value, uint64_t n = 1);
  std::vector<MetricValue> values() const;
  const MetricName& name() const { return name_; }

 private:
  const MetricName name_;
  const std::string label_;
  mutable Mutex mutex_;
  std::map<std::string, uint64_t, std::less<>> counts_ ABSL_GUARDED_BY(mutex_);
};

// A counter for every pair of values of two labels. Both must be of few values: what a client may choose is none.
class PairCounter {
 public:
  // known: shown from the start, at 0, with `usual` for the second; others from their first time on.
  PairCounter(const MetricName& name, std::string_view first, const std::vector<std::string>& known,
              std::string_view second, std::string_view usual);
  void Add(std::string_view first, std::string_view second);
  std::vector<MetricValue> values() const;
  const MetricName& name() const { return name_; }

 private:
  const MetricName name_;
  const std::string first_, second_;
  mutable Mutex mutex_;
  std::map<std::pair<std::string, std::string>, uint64_t> counts_ ABSL_GUARDED_BY(mutex_);
};

// How often which values came. Adding is two relaxed atomic operations.
class Histogram {
 public:
  // bounds: upper ends of the buckets, ascending, each belonging to its bucket; they must outlive the histogram.
  Histogram(const MetricName& name, std::span<const double> bounds);
  void Add(double value);
  struct Values {
    std::vector<uint64_t> counts;  // per bucket, not cumulated; the last: above every bound
    double sum = 0;
  };
  Values values() const;
  std::span<const double> bounds() const { return bounds_; }
  const MetricName& name() const { return name_; }

 private:
  const MetricName name_;
  const std::span<const double> bounds_;
  std::unique_ptr<std::atomic<uint64_t>[]> counts_;
  std::atomic<double> sum_{0};
};

// One answer in the making. Every family may be added once. One thread.
class MetricsPage {
 public:
  static constexpr std::string_view kContentType = "text/plain; version=0.0.4; charset=utf-8";

  // vllm: labels of the families under vLLM's names; nullopt: those are left out.
  explicit MetricsPage(std::optional<MetricLabels> vllm) : vllm_(std::move(vllm)) {}
  void Add(const Counter& counter);
  void Add(const LabelledCounter& counter);
  void Add(const PairCounter& counter);
  void Add(const Histogram& histogram);
  void AddCounter(const MetricName& name, const std::vector<MetricValue>& values);
  void AddGauge(const MetricName& name, const std::vector<MetricValue>& values);
  std::string Take() { return std::move(text_); }

 private:
  void Family(std::string_view name, std::string_view help, std::string_view type);
  void AddPlain(const MetricName& name, std::string_view type, const std::vector<MetricValue>& values);
  void AddHistogram(std::string_view name, const Histogram& histogram, const MetricLabels& labels);
  void Line(std::string_view name, std::string_view suffix, const MetricLabels& labels, double value);

  const std::optional<MetricLabels> vllm_;
  std::string text_;
};

}  // namespace pangea
