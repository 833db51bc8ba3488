#include "master/metrics/metrics.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "absl/strings/str_replace.h"
#include "configs/cat.h"

namespace pangea {
namespace {

// The shortest text that reads back as the same number; 0.1 stays 0.1.
std::string Number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  char text[32];
  const auto end = std::to_chars(text, text + sizeof(text), value);
  return std::string(text, end.ptr);
}

MetricLabels With(const MetricLabels& labels, const MetricLabels& more) {
  MetricLabels all = labels;
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

}  // namespace

LabelledCounter::LabelledCounter(const MetricName& name, std::string_view label, const std::vector<std::string>& known)
    : name_(name), label_(label) {
  for (const std::string& value : known) counts_[value] = 0;
}

void LabelledCounter::Add(std::string_view value, uint64_t n) {
  MutexLock lock(mutex_);
  auto found = counts_.find(value);
  if (found == counts_.end()) found = counts_.emplace(value, 0).first;
  found->second += n;
}

std::vector<MetricValue> LabelledCounter::values() const {
  MutexLock lock(mutex_);
  std::vector<MetricValue> values;
  for (const auto& [value, count] : counts_) values.push_back({static_cast<double>(count), {{label_, value}}});
  return values;
}

PairCounter::PairCounter(const MetricName& name, std::string_view first, const std::vector<std::string>& known,
                         std::string_view second, std::string_view usual)
    : name_(name), first_(first), second_(second) {
  for (const std::string& value : known) counts_[{value, std::string(usual)}] = 0;
}

void PairCounter::Add(std::string_view first, std::string_view second) {
  MutexLock lock(mutex_);
  ++counts_[{std::string(first), std::string(second)}];
}

std::vector<MetricValue> PairCounter::values() const {
  MutexLock lock(mutex_);
  std::vector<MetricValue> values;
  for (const auto& [pair, count] : counts_)
    values.push_back({static_cast<double>(count), {{first_, pair.first}, {second_, pair.second}}});
  return values;
}

Histogram::Histogram(const MetricName& name, std::span<const double> bounds)
    : name_(name), bounds_(bounds), counts_(std::make_unique<std::atomic<uint64_t>[]>(bounds.size() + 1)) {}

void Histogram::Add(double value) {
  const size_t bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  counts_[bucket].fetch_add(1, std::memory_order_relaxed);
  sum_.fetch_add(value, std::memory_order_relaxed);
}

Histogram::Values Histogram::values() const {
  Values values;
  for (size_t i = 0; i <= bounds_.size(); ++i) values.counts.push_back(counts_[i].load(std::memory_order_relaxed));
  values.sum = sum_.load(std::memory_order_relaxed);
  return values;
}

void MetricsPage::Family(std::string_view name, std::string_view help, std::string_view type) {
  Append(text_, "# HELP ", name, " ", absl::StrReplaceAll(std::string(help), {{"\\", "\\\\"}, {"\n", "\\n"}}),
         "\n# TYPE ", name, " ", type, "\n");
}

void MetricsPage::Line(std::string_view name, std::string_view suffix, const MetricLabels& labels, double value) {
  Append(text_, name, suffix);
  const char* before = "{";
  for (const auto& [label, text] : labels) {
    Append(text_, before, label, "=\"", absl::StrReplaceAll(text, {{"\\", "\\\\"}, {"\"", "\\\""}, {"\n", "\\n"}}),
           "\"");
    before = ",";
  }
  Append(text_, labels.empty() ? "" : "}", " ", Number(value), "\n");
}

void MetricsPage::AddPlain(const MetricName& name, std::string_view type, const std::vector<MetricValue>& values) {
  Family(name.name, name.help, type);
  for (const MetricValue& value : values) Line(name.name, "", value.labels, value.value);
  if (!vllm_) return;
  for (const std::string_view alias : name.vllm) {
    Family(alias, name.help, type);
    for (const MetricValue& value : values) Line(alias, "", With(*vllm_, value.labels), value.value);
  }
}

void MetricsPage::AddCounter(const MetricName& name, const std::vector<MetricValue>& values) {
  AddPlain(name, "counter", values);
}
void MetricsPage::AddGauge(const MetricName& name, const std::vector<MetricValue>& values) {
  AddPlain(name, "gauge", values);
}
void MetricsPage::Add(const Counter& counter) { AddCounter(counter.name(), {{static_cast<double>(counter.value())}}); }
void MetricsPage::Add(const LabelledCounter& counter) { AddCounter(counter.name(), counter.values()); }
void MetricsPage::Add(const PairCounter& counter) { AddCounter(counter.name(), counter.values()); }

void MetricsPage::Add(const Histogram& histogram) {
  AddHistogram(histogram.name().name, histogram, {});
  if (!vllm_) return;
  for (const std::string_view alias : histogram.name().vllm) AddHistogram(alias, histogram, *vllm_);
}

void MetricsPage::AddHistogram(std::string_view name, const Histogram& histogram, const MetricLabels& labels) {
  Family(name, histogram.name().help, "histogram");
  const Histogram::Values values = histogram.values();
  uint64_t count = 0;
  for (size_t i = 0; i < values.counts.size(); ++i) {
    count += values.counts[i];
    const double bound = i < histogram.bounds().size() ? histogram.bounds()[i] : HUGE_VAL;
    Line(name, "_bucket", With(labels, {{"le", Number(bound)}}), static_cast<double>(count));
  }
  Line(name, "_sum", labels, values.sum);
  Line(name, "_count", labels, static_cast<double>(count));
}

}  // namespace pangea
