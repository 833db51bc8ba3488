// Test only. An engine over fake agents that keeps every step and output, and requests whose answers are known.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "master/schedule/engine.h"
#include "master/schedule/fake_agents.h"

namespace pangea {

class Bench : public StepPort {
 public:
  explicit Bench(EngineOptions options)
      : agents(options),
        engine(options, this, [this](std::vector<Output> out) { deliveries.push_back(std::move(out)); }) {
    BeginEpoch(1);
  }
  void BeginEpoch(uint64_t epoch, const EngineLayout* layout = nullptr, bool pages = false) {
    if (!pages) pages_since = epoch;
    agents.BeginEpoch(epoch, layout, pages);
    engine.EpochChanged(now, epoch, layout, pages_since);
    engine.CheckInvariants();
  }
  void Send(const Step& step) override {
    steps.push_back(step);
    agents.Send(step);
  }
  void SendMask(const Mask& mask) override {
    masks.push_back(mask);
    agents.SendMask(mask);
  }
  bool Next() {
    if (!agents.HasResult()) return false;
    engine.OnResult(now, agents.TakeResult());
    engine.CheckInvariants();
    return true;
  }
  void Drain() {
    while (Next()) {
    }
    EXPECT_EQ(agents.fault(), "");
  }
  std::vector<Output> OutputsOf(uint64_t request, int choice = 0) const {
    std::vector<Output> mine;
    for (const auto& delivery : deliveries) {
      for (const Output& output : delivery) {
        if (output.request == request && (output.choice == choice || !output.error.ok())) mine.push_back(output);
      }
    }
    return mine;
  }
  std::vector<int32_t> IdsOf(uint64_t request, int choice = 0) const {
    std::vector<int32_t> ids;
    for (const Output& output : OutputsOf(request, choice)) {
      for (const Sample& sample : output.samples) ids.push_back(sample.id);
    }
    return ids;
  }

  std::vector<Step> steps;
  std::vector<Mask> masks;
  std::vector<std::vector<Output>> deliveries;
  FakeAgents agents;
  double now = 0;
  uint64_t pages_since = 1;
  Engine engine;
};

inline EngineOptions Options() {
  EngineOptions options;
  options.groups[0].blocks = 64;
  options.block_tokens = 4;
  options.context = 128;
  options.max_batch_tokens = 16;
  options.max_sequences = 8;
  return options;
}

inline SequenceRequest Ask(uint64_t number, int prompt, int max_tokens) {
  SequenceRequest request;
  request.request = number;
  for (int i = 0; i < prompt; ++i) request.prompt.push_back((static_cast<int>(number) * 7 + i) % kFakeVocab);
  request.max_tokens = max_tokens;
  request.sampling = std::make_shared<Sampling>(Sampling{.seed = number * 100});
  return request;
}

inline std::vector<int32_t> ExpectedIds(const SequenceRequest& request, int choice = 0) {
  std::vector<int32_t> ids;
  for (const Sample& sample : ExpectedOf(request, choice, 128).samples) ids.push_back(sample.id);
  return ids;
}

}  // namespace pangea
