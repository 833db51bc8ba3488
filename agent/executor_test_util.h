// Whole deployments in one process, ranks and stages as threads, for the tests of this room.
#pragma once
#include <filesystem>
#include <fstream>
#include <thread>

#include "agent/executor.h"
#include "agent/group/exchange_place.h"
#include "agent/group/thread_group.h"
#include "agent/mask_box.h"
#include "configs/deployment.h"
#include "gtest/gtest.h"
#include "kernels/cuda/make_queue.h"
#include "kernels/ops.h"
#include "kernels/threads.h"
#include "kernels/toy_device.h"
#include "nlohmann/json.hpp"
#include "pipeline/parallel_plan.h"

namespace pangea {

namespace fs = std::filesystem;
using nlohmann::json;

const fs::path kGolden = fs::path(PANGEA_SOURCE_DIR) / "integration_tests/golden";

struct Answer {
  std::vector<float> logprobs;
  std::vector<int32_t> greedy;
  bool operator==(const Answer&) const = default;
};

// What rank 0 of every stage computed, layer after layer: name, layer and bytes of each buffer of each step.
class Record : public Tap {
 public:
  void See(const Seen& seen) override {
    Entry& entry = entries.emplace_back(Entry{seen.name, seen.layer, seen.where.line(), {}});
    for (int64_t i = 0; i < seen.rows; ++i)
      entry.values.insert(entry.values.end(), seen.data + i * seen.pitch, seen.data + i * seen.pitch + seen.columns);
  }
  struct Entry {
    std::string name;
    int layer;
    unsigned line;
    std::vector<float> values;
    bool operator==(const Entry&) const = default;
  };
  std::vector<Entry> entries;
};

class Blind : public Tap {
 public:
  void See(const Seen&) override {}
};

struct ClusterShape {
  int stages = 1, ranks = 1, threads = 1, fusion = kMaxFusion;
  bool tapped = false;
  enum { kCpu, kToy, kCuda, kGpu } device = kCpu;  // of each agent; kCuda: its kernels on the CPU; kGpu: GPU 0, all
  bool exact = true;
};

// One deployment as threads: a step goes to every executor; the result comes from the last stage's rank 0.
class Cluster {
 public:
  Cluster(const CheckpointHeader& header, int stages, int ranks, int threads = 1)
      : Cluster(header, ClusterShape{stages, ranks, threads}) {}
  Cluster(const CheckpointHeader& header, const ClusterShape& layout) : header_(header) {
    const auto& [stages, ranks, threads, fusion, tapped, device, exact] = layout;
    deployment_.kernels.exact = exact;
    if (device != ClusterShape::kCpu) deployment_.agents.device = "cuda_on_cpu";  // whose memory is counted as its own
    deployment_.kernels.fusion = fusion;
    deployment_.model = header.path;
    deployment_.parallel.pipeline = stages;
    deployment_.parallel.tensor = ranks;
    deployment_.agents.threads = threads;
    deployment_.cache.memory = 16 << 20;
    deployment_.cache.swap = 1 << 20;
    auto made = MakePlan(header_, deployment_);
    for (const auto& fault : made.faults) ADD_FAILURE() << fault.Text();
    plan_ = made.plan;
    plan_.spin = false;
    groups_ = MakeThreadGroups(stages, ranks, absl::Seconds(60));
    for (int i = 0; i < stages * ranks; ++i) {
      if (tapped && i % ranks == 0) records.push_back(std::make_unique<Record>());
      Tap* const tap = !tapped ? nullptr : i % ranks == 0 ? static_cast<Tap*>(records.back().get()) : &blind_;
      if (device != ClusterShape::kCpu) queues_.push_back(MakeQueue(layout));
      Queue* const queue = device != ClusterShape::kCpu ? queues_.back().get() : nullptr;
      executors_.push_back(MakeStageExecutor(header_, deployment_, plan_, i, {.tap = tap, .queue = queue}));
      boxes_.push_back(std::make_unique<MaskBox>());
      boxes_.back()->Open(absl::Seconds(10));
      executors_.back()->set_masks(boxes_.back().get());
      EXPECT_TRUE(executors_.back()->Load().ok());
      ExpectHeldAsPlanned(i);
      // Counted where it is allocated: all of it, and nothing beside the plan.
      if (queue != nullptr) {
        EXPECT_EQ(device == ClusterShape::kToy ? ToyBytes(*queue) : CudaBytes(*queue), plan_.agents[i].memory.total());
      }
    }
    JoinExchange();
  }

  static std::unique_ptr<Queue> MakeQueue(const ClusterShape& shape) {
    const CudaOptions options{.threads = shape.threads, .exact = shape.exact, .fusion = shape.fusion};
    std::string why;
    if (shape.device == ClusterShape::kToy) return MakeToyQueue(BestIsa());
    return shape.device == ClusterShape::kCuda ? MakeCudaOnCpuQueue(options) : MakeCudaQueue(options, 0, &why).queue;
  }

  // Where devices exchange by themselves, they do from now on.
  void JoinExchange() {
    std::vector<ExchangePlace*> places;
    for (const auto& executor : executors_)
      if (executor->exchange_place() != nullptr) places.push_back(executor->exchange_place());
    if (!places.empty()) {
      EXPECT_TRUE(ExchangePlace::JoinHere(places, &groups_).ok());
    }
  }

  // To the byte, part by part.
  void ExpectHeldAsPlanned(int agent) const {
    const auto held = executors_[agent]->memory().list(), planned = plan_.agents[agent].memory.list();
    for (size_t i = 0; i < held.size(); ++i)
      EXPECT_EQ(held[i].second, planned[i].second) << held[i].first << " of agent " << agent;
  }

  StepResult Run(Step step) {
    step.epoch = 1;
    step.number = ++number_;
    std::vector<std::thread> threads;
    StepResult result;
    for (size_t i = 0; i < executors_.size(); ++i) {
      threads.emplace_back([&, i] {
        SetComputeFloatMode();
        auto r = executors_[i]->Run(step, *groups_[i]);
        ASSERT_TRUE(r.ok()) << r.status();
        if (r->has_value()) result = **r;
      });
    }
    for (auto& t : threads) t.join();
    return result;
  }

  // On each agent each step is begun before the one before it has ended.
  std::vector<StepResult> RunAhead(std::vector<Step> steps) {
    for (Step& step : steps) {
      step.epoch = epoch_;
      step.number = ++number_;
    }
    std::vector<std::thread> threads;
    std::vector<StepResult> results;
    for (size_t agent = 0; agent < executors_.size(); ++agent) {
      threads.emplace_back([&, agent] {
        SetComputeFloatMode();
        Executor& executor = *executors_[agent];
        const auto end = [&] {
          auto r = executor.End();
          ASSERT_TRUE(r.ok()) << r.status();
          if (r->has_value()) results.push_back(std::move(**r));
        };
        for (size_t i = 0; i < steps.size(); ++i) {
          EXPECT_TRUE(executor.Begin(steps[i], *groups_[agent]).ok());
          if (i > 0 || !executor.overlaps()) end();
        }
        if (executor.overlaps()) end();
      });
    }
    for (auto& thread : threads) thread.join();
    return results;
  }
  Queue& queue() { return *queues_[0]; }
  // The group dies while a step is begun, which then fails; another one takes its place, in a new epoch.
  void LoseGroup(Step step) {
    for (auto& group : groups_) group->Abort(absl::AbortedError("lost"));
    step.epoch = epoch_;
    step.number = ++number_;
    for (size_t i = 0; i < executors_.size(); ++i) {
      auto begun = executors_[i]->Begin(step, *groups_[i]);
      if (begun.ok()) begun = executors_[i]->End().status();
      EXPECT_FALSE(begun.ok());
    }
    groups_ = MakeThreadGroups(plan_.stages, plan_.ranks, absl::Seconds(60));
    JoinExchange();
    ++epoch_;
    number_ = 0;
  }

  // The id that follows the prompt when only those of the mask may be drawn; and the best without it, with `top`
  // others.
  Sample Draw(const std::vector<int32_t>& prompt, const Sampling& sampling, const AllowedIds* allowed) {
    const uint64_t id = ++sequences_;
    StepSequence s{.id = id, .logits = LogitRows::kLast, .whole_tables = true, .masked = allowed != nullptr};
    s.ids.assign(prompt.begin(), prompt.end());
    s.sampling = {.params = std::make_shared<Sampling>(sampling)};
    s.blocks.resize(1);
    for (int b = 0; b * plan_.block_tokens < s.rows(); ++b) s.blocks[0].push_back(b);
    Step step{.epoch = 1, .number = number_ + 1, .sequences = {s}};
    for (auto& box : boxes_) {
      box->BeginEpoch(1);
      box->Expect(step);
      if (allowed != nullptr) {
        EXPECT_TRUE(box->Deliver({1, step.number, id, *allowed}).ok());
      }
    }
    const Sample sample = Run(step).sequences.at(0).samples.at(0);
    for (auto& box : boxes_) box->Forget(step);
    Run({.ended = {id}});
    return sample;
  }

  // The prompt in chunks, then greedy ids one by one; run_ahead: "your last sample" instead of the id.
  Answer Ask(const std::vector<int32_t>& prompt, int generate, int chunk, bool run_ahead) {
    Answer answer;
    const uint64_t id = ++sequences_;
    Sampling sampling;
    sampling.temperature = 0;
    sampling.top_logprobs = 0;
    int blocks = 0;
    const auto add_blocks =
        [&](StepSequence* s) {  // blocks of one sequence scattered over the pool, so that tables matter
          s->blocks.resize(1);
          for (; blocks * plan_.block_tokens < s->start + s->rows(); ++blocks)
            s->blocks[0].push_back(static_cast<int>((blocks * 37 + id * 11) % plan_.kv_blocks));
        };
    for (size_t at = 0; at < prompt.size(); at += chunk) {
      StepSequence s{.id = id, .start = static_cast<int32_t>(at), .logits = LogitRows::kAll};
      const size_t end = std::min(prompt.size(), at + chunk);
      s.ids.assign(prompt.begin() + at, prompt.begin() + end);
      if (end < prompt.size()) s.next_id = prompt[end];
      if (at == 0) s.sampling = {.params = std::make_shared<Sampling>(sampling)}, s.whole_tables = true;
      add_blocks(&s);
      const auto r = Run({.sequences = {s}}).sequences.at(0);
      for (const auto& p : r.prompt) answer.logprobs.push_back(p.logprob);
      if (!r.samples.empty()) answer.greedy.push_back(r.samples[0].id);
    }
    for (int i = 1; i < generate; ++i) {
      StepSequence s{.id = id, .start = static_cast<int32_t>(prompt.size()) + i - 1, .logits = LogitRows::kLast};
      if (!run_ahead) s.ids = {answer.greedy.back()};
      add_blocks(&s);
      answer.greedy.push_back(Run({.sequences = {s}}).sequences.at(0).samples.at(0).id);
    }
    Step end;
    end.ended = {id};
    Run(end);
    return answer;
  }

  int64_t rows(int i) const { return executors_[i]->progress().rows; }
  int64_t multiply_adds(int i) const { return executors_[i]->progress().multiply_adds; }
  const ParallelPlan& plan() const { return plan_; }
  // Stage by stage; of buffers that every rank holds whole when `whole`.
  std::vector<Record::Entry> Seen(bool whole) const {
    std::vector<Record::Entry> all;
    for (const auto& record : records)
      for (const Record::Entry& e : record->entries)
        if (!whole || e.name == "x" || e.name == "normed") all.push_back(e);
    return all;
  }
  std::vector<std::unique_ptr<Record>> records;  // of rank 0 of each stage

 private:
  const CheckpointHeader& header_;
  Deployment deployment_;
  ParallelPlan plan_;
  std::vector<std::unique_ptr<Group>> groups_;
  std::vector<std::unique_ptr<Queue>> queues_;
  std::vector<std::unique_ptr<MaskBox>> boxes_;
  std::vector<std::unique_ptr<Executor>> executors_;
  Blind blind_;
  uint64_t number_ = 0, sequences_ = 0, epoch_ = 1;
};

inline json Expected(const std::string& name) {
  const fs::path path = kGolden / name;
  return json::parse(
      std::ifstream(path.extension() == ".gguf" ? fs::path(path).replace_extension(".json") : path / "expected.json"));
}

}  // namespace pangea
