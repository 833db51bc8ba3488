// For tests of a fleet under a real engine: requests, their answers, and the epochs that they lived through.
#pragma once
#include <map>
#include <set>

#include "master/engine_options.h"
#include "master/fleet/fleet_test_util.h"

namespace pangea {

class Served {
 public:
  explicit Served(Plan p) : plan_(std::move(p)) {
    FleetOptions options{.executable = Self(),
                         .on_result = [this](StepResult result) { engine_->OnResult(std::move(result)); },
                         .on_epoch =
                             [this](uint64_t epoch, const ParallelPlan& plan, uint64_t pages_since) {
                               Note([&] { epochs_.push_back(epoch); });
                               engine_->EpochChanged(epoch, MakeEngineLayout(plan), pages_since);
                             },
                         .on_failure = [this](const absl::Status& why) { Note([&] { failure_ = why; }); }};
    auto fleet = Fleet::Start(plan_.deployment, plan_.header, plan_.plan, std::move(options));
    EXPECT_TRUE(fleet.ok()) << fleet.status();
    fleet_ = *std::move(fleet);
    engine_ = std::make_unique<EngineThread>(MakeEngineOptions(plan_.deployment, plan_.plan), fleet_.get(),
                                             [this](const std::vector<Output>& outputs) { Take(outputs); });
    EXPECT_EQ(fleet_->WaitReady(), absl::OkStatus());
  }
  ~Served() {
    fleet_->Stop();  // no result comes any more
    engine_.reset();
  }
  void Submit(uint64_t number, uint64_t seed) {
    SequenceRequest request;
    request.request = number;
    for (uint64_t i = 0; i < 20 + seed % 7; ++i)
      request.prompt.push_back(1 + static_cast<int32_t>((seed * 31 + i) % 300));
    request.max_tokens = 60;
    request.sampling = std::make_shared<Sampling>(Sampling{.seed = seed});
    EXPECT_EQ(engine_->Submit(std::move(request)), absl::OkStatus());
  }
  // The choice's ids and log-probabilities, once it has ended.
  std::vector<std::pair<int32_t, float>> Wait(uint64_t number) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, seconds(200), [&] { return ended_.contains(number) || !failure_.ok(); }));
    EXPECT_EQ(failure_, absl::OkStatus());
    return samples_[number];
  }
  void WaitTokens(uint64_t number, size_t tokens) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, seconds(200), [&] { return samples_[number].size() >= tokens; }));
  }
  void Regroup() { fleet_->Regroup(); }
  Fleet& fleet() { return *fleet_; }
  // What the metrics say under this name, without labels.
  double Metric(const std::string& name) const {
    MetricsPage page(std::nullopt);
    fleet_->WriteMetrics(page);
    const std::string text = "\n" + page.Take();
    const size_t at = text.find(absl::StrCat("\n", name, " "));
    return at == std::string::npos ? -1 : std::strtod(text.c_str() + at + name.size() + 2, nullptr);
  }
  bool WaitMetric(const std::string& name, double value) {
    for (const auto end = steady_clock::now() + seconds(200); steady_clock::now() < end;) {
      if (Metric(name) == value) return true;
      std::this_thread::sleep_for(milliseconds(5));
    }
    return false;
  }
  std::vector<uint64_t> WaitEpochs(size_t n) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, seconds(200), [&] { return epochs_.size() >= n; }));
    return epochs_;
  }
  EngineStats stats() const { return engine_->stats(); }

 private:
  template <typename F>
  void Note(F f) {
    std::lock_guard lock(mutex_);
    f();
    changed_.notify_all();
  }
  void Take(const std::vector<Output>& outputs) {
    Note([&] {
      for (const Output& output : outputs) {
        if (!output.error.ok()) failure_ = output.error;
        for (const Sample& sample : output.samples) samples_[output.request].emplace_back(sample.id, sample.logprob);
        if (output.finish != FinishReason::kNone) ended_.insert(output.request);
      }
    });
  }

  Plan plan_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<uint64_t, std::vector<std::pair<int32_t, float>>> samples_;
  std::set<uint64_t> ended_;
  std::vector<uint64_t> epochs_;
  absl::Status failure_;
  std::unique_ptr<Fleet> fleet_;
  std::unique_ptr<EngineThread> engine_;
};

// Each of four requests answered by itself.
inline std::map<uint64_t, std::vector<std::pair<int32_t, float>>> Undisturbed(Served& served) {
  std::map<uint64_t, std::vector<std::pair<int32_t, float>>> alone;
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    served.Submit(seed, seed);
    alone[seed] = served.Wait(seed);
    EXPECT_EQ(alone[seed].size(), 60u);
  }
  return alone;
}

}  // namespace pangea
