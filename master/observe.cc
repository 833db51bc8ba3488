#include "master/observe.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "configs/process_use.h"
#include "configs/version.h"

namespace pangea {
namespace {

constexpr int kMasterRow = -1;

double Now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Seconds since 1970, as Prometheus' own client libraries give it.
const double start_time = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();

void WriteProcess(MetricsPage& page) {
  const ProcessUse use = ReadProcessUse();
  page.AddGauge({"pangea_build_info", "1; the build is in the label."}, {{1, {{"version", kVersion}}}});
  page.AddCounter({"process_cpu_seconds_total", "Processor time of the master."}, {{use.cpu_seconds}});
  page.AddGauge({"process_resident_memory_bytes", "Memory of the master that is in RAM."},
                {{static_cast<double>(use.resident_bytes)}});
  page.AddGauge({"process_open_fds", "Open file descriptors of the master."},
                {{static_cast<double>(use.open_descriptors)}});
  page.AddGauge({"process_start_time_seconds", "When the master was started, in seconds since 1970."}, {{start_time}});
}

void WriteEngine(MetricsPage& page, const EngineStats& stats) {
  const auto gauge = [&](const MetricName& name, double value) { page.AddGauge(name, {{value}}); };
  const auto counter = [&](const MetricName& name, uint64_t value) {
    page.AddCounter(name, {{static_cast<double>(value)}});
  };
  gauge({"pangea_requests_running", "Sequences that have cache blocks.", {"vllm:num_requests_running"}}, stats.running);
  gauge({"pangea_requests_waiting", "Sequences in the queue, preempted ones included.", {"vllm:num_requests_waiting"}},
        stats.waiting);
  gauge({"pangea_queue_depth", "Requests of which nothing has run yet."}, stats.queued);
  gauge({"pangea_queue_oldest_seconds", "For how long the oldest of those has waited."},
        stats.oldest_arrival > 0 ? Now() - stats.oldest_arrival : 0);
  gauge({"pangea_kv_usage_ratio",
         "Share of the cache blocks that sequences hold, 0 to 1.",
         {"vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"}},
        stats.blocks > 0 ? 1 - static_cast<double>(stats.blocks_free) / stats.blocks : 0);
  gauge({"pangea_kv_blocks", "Cache blocks."}, stats.blocks);
  gauge({"pangea_kv_blocks_free", "Cache blocks that no sequence holds; cached prefixes may be in them."},
        stats.blocks_free);
  gauge({"pangea_steps_in_flight", "Steps sent and not yet answered."}, stats.steps_in_flight);
  counter({"pangea_steps_total", "Steps sent to the agents."}, stats.steps);
  counter({"pangea_rows_total", "Rows (tokens computed) of those steps."}, stats.rows);
  counter({"pangea_preemptions_total", "Sequences that gave up their blocks.", {"vllm:num_preemptions_total"}},
          stats.preemptions);
  counter({"pangea_preemptions_swapped_total", "Those of them whose blocks were copied away."}, stats.swapped);
  counter({"pangea_rows_lost_total", "Rows whose keys and values were lost with an epoch: they are computed again."},
          stats.rows_lost);
  counter({"pangea_prefix_cache_queries_total",
           "Tokens that were looked up in the prefix cache.",
           {"vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"}},
          stats.prefix_queries);
  counter({"pangea_prefix_cache_hits_total",
           "Tokens that were found there.",
           {"vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"}},
          stats.prefix_hits);
}

}  // namespace

class Observation::DrawnPort : public StepPort {
 public:
  DrawnPort(StepPort* port, Observation* observation) : port_(port), observation_(observation) {}
  void Send(const Step& step) override {
    const double begin = Now();
    port_->Send(step);
    observation_->Draw(absl::StrCat("send step ", step.number), begin, Now(),
                       {{"rows", step.rows()}, {"sequences", step.sequences.size()}});
  }

  void SendMask(const Mask& mask) override { port_->SendMask(mask); }

 private:
  StepPort* const port_;
  Observation* const observation_;
};

absl::StatusOr<std::unique_ptr<Observation>> Observation::Open(const Deployment& deployment) {
  auto observation = std::make_unique<Observation>();
  const Deployment::Cache& cache = deployment.cache;
  observation->cache_ = {{"block_size", absl::StrCat(cache.block_tokens)},
                         {"cache_dtype", cache.type},
                         {"enable_prefix_caching", cache.prefix ? "True" : "False"}};
  if (deployment.timeline.file.empty()) return observation;
  const double zero = static_cast<int64_t>(Now());  // whole, so that nanoseconds stay exact
  auto timeline = TimelineFile::Open(deployment.timeline.file, deployment.timeline.bytes, zero);
  if (!timeline.ok()) return timeline.status();
  observation->timeline_ = *std::move(timeline);
  return observation;
}

void Observation::Draw(std::string name, double begin, double end, std::vector<std::pair<std::string, int64_t>> args) {
  timeline_->Add(TimelineSpan{.name = std::move(name),
                              .stage = kMasterRow,
                              .start_seconds = begin,
                              .duration_seconds = end - begin,
                              .args = std::move(args)});
}

void Observation::Watch(EngineOptions* options) {
  options->on_freed = [this](double cancelled, int steps) {
    cancel_seconds_.Add(Now() - cancelled);
    cancel_steps_.Add(steps);
  };
  if (timeline_ == nullptr) return;
  options->on_event = [this](const char* event, double begin, double end) { Draw(event, begin, end); };
}

StepPort* Observation::Watch(StepPort* port) {
  if (timeline_ == nullptr) return port;
  port_ = std::make_unique<DrawnPort>(port, this);
  return port_.get();
}

void Observation::Deliver(const std::function<void()>& deliver) {
  const double begin = timeline_ ? Now() : 0;
  deliver();
  if (timeline_) Draw("deliver", begin, Now());
}

void Observation::Show(const Fleet* fleet, const EngineThread* engine) {
  MutexLock lock(mutex_);
  fleet_ = fleet;
  engine_ = engine;
}

void Observation::Write(MetricsPage& page) const {
  page.Add(cancel_seconds_);
  page.Add(cancel_steps_);
  MutexLock lock(mutex_);
  const EngineStats stats = engine_ != nullptr ? engine_->stats() : EngineStats();
  WriteEngine(page, stats);
  MetricLabels cache = cache_;
  cache.emplace_back("num_gpu_blocks", absl::StrCat(stats.blocks));
  page.AddGauge({"pangea_cache_config_info",
                 "1; how the cache is made is in the labels, which vLLM's tools know.",
                 {"vllm:cache_config_info"}},
                {{1, std::move(cache)}});
  if (fleet_ != nullptr) fleet_->WriteMetrics(page);
  WriteProcess(page);
}

}  // namespace pangea
