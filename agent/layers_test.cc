// Layer by layer, through the tap, and on a device that is not the CPU: fusion, layouts, a toy device; and draws under
// masks.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <numeric>
#include <set>

#include "agent/executor_test_util.h"

namespace pangea {
namespace {

// Biases, norms over heads, two norms, a window and the query layer are all among these.
constexpr const char* kUnlike[] = {"cases/llama-linear-bias", "cases/qwen3",     "cases/gpt2",
                                   "cases/mistral-window",    "cases/pangu-erf", "gguf/qwen2-bf16.gguf"};

TEST(Layers, EveryLevelOfFusionFillsEveryBufferWithTheSameBytes) {
  for (const char* name : kUnlike) {
    const auto header = *ReadCheckpointHeader((kGolden / name).string());
    const auto prompt = Expected(name)["cases"].back()["prompt"].get<std::vector<int32_t>>();
    std::vector<Record::Entry> first;
    for (int fusion = 0; fusion <= kMaxFusion; ++fusion) {
      Cluster cluster(header, {.ranks = 2, .threads = 2, .fusion = fusion, .tapped = true});
      cluster.Ask(prompt, 4, 7, false);
      if (fusion == 0) first = cluster.Seen(false);
      EXPECT_FALSE(first.empty());
      EXPECT_TRUE(cluster.Seen(false) == first) << name << " fusion " << fusion;
    }
  }
}

// What every rank holds whole is the same on every layout, after every half of every layer.
TEST(Layers, EveryLayoutHasTheSameResidualAfterEveryHalfLayer) {
  for (const char* name : kUnlike) {
    const auto header = *ReadCheckpointHeader((kGolden / name).string());
    const auto prompt = Expected(name)["cases"].back()["prompt"].get<std::vector<int32_t>>();
    std::vector<Record::Entry> first;
    for (const ClusterShape layout :
         {ClusterShape{}, ClusterShape{1, 2, 2}, ClusterShape{2, 1, 1}, ClusterShape{2, 2, 1, 0}}) {
      ClusterShape tapped = layout;
      tapped.tapped = true;
      Cluster cluster(header, tapped);
      cluster.Ask(prompt, 1, 512, false);
      std::vector<Record::Entry> residuals;  // a stage's last layer has no norm behind it, so the residual alone
      for (const Record::Entry& e : cluster.Seen(true))
        if (e.name == "x") residuals.push_back(e);
      EXPECT_EQ(residuals.size(), 2 * header.config.layers);
      if (first.empty()) first = residuals;
      EXPECT_TRUE(residuals == first) << name << ' ' << layout.stages << 'x' << layout.ranks;
    }
  }
}

// The first layer that differs is the one that is wrong, and the tap names it.
TEST(LayersControl, AWindowChangedInOneLayerShowsThereAndNotBefore) {
  auto header = *ReadCheckpointHeader((kGolden / "cases/mistral-window").string());
  const auto prompt = Expected("cases/mistral-window")["cases"].back()["prompt"].get<std::vector<int32_t>>();
  const int wrong = header.config.layers - 1;
  Cluster right(header, {.tapped = true});
  right.Ask(prompt, 1, 512, false);
  header.config.window[wrong] = 0;
  Cluster other(header, {.tapped = true});
  other.Ask(prompt, 1, 512, false);
  const auto a = right.Seen(false), b = other.Seen(false);
  ASSERT_EQ(a.size(), b.size());
  const auto [at, there] = std::mismatch(a.begin(), a.end(), b.begin());
  ASSERT_NE(at, a.end());
  EXPECT_EQ(at->layer, wrong);
  EXPECT_EQ(at->name, "heads");
}

// A whole model on a device whose memory the host cannot touch, and which computes later, and on CUDA's kernels: the
// answers, and every buffer of every layer, are those of the CPU.
TEST(Devices, RunStories260KWithTheBytesOfTheCpu) {
  const auto header = *ReadCheckpointHeader((fs::path(PANGEA_SOURCE_DIR) / "models/stories260k").string());
  const std::vector<int32_t> prompt = {1, 403, 407, 261, 378, 396};
  Cluster cpu(header, {.tapped = true});
  const Answer expected = cpu.Ask(prompt, 40, 4, false);
  for (const auto device : {ClusterShape::kToy, ClusterShape::kCuda}) {
    for (ClusterShape layout : {ClusterShape{}, ClusterShape{2, 1}, ClusterShape{1, 2}, ClusterShape{2, 2}}) {
      layout.tapped = true;
      layout.device = device;
      Cluster there(header, layout);
      EXPECT_EQ(there.Ask(prompt, 40, 4, layout.stages > 1), expected) << layout.stages << 'x' << layout.ranks;
      if (layout.stages == 1 && layout.ranks == 1) {
        EXPECT_TRUE(there.Seen(false) == cpu.Seen(false));
      }
    }
  }
}

TEST(Devices, RunModelsOfEveryKind) {
  for (const char* name : kUnlike) {
    const auto header = *ReadCheckpointHeader((kGolden / name).string());
    const auto prompt = Expected(name)["cases"].back()["prompt"].get<std::vector<int32_t>>();
    Cluster cpu(header, 1, 2);
    const Answer expected = cpu.Ask(prompt, 8, 7, false);
    for (const auto device : {ClusterShape::kToy, ClusterShape::kCuda}) {
      Cluster there(header, {.ranks = 2, .device = device});
      EXPECT_EQ(there.Ask(prompt, 8, 7, false), expected) << name;
    }
  }
}

// A crowd: prompts of some sequences, then steps that only decode: of two that draw the best, then of as many of other
// kinds (what is remembered of one must not serve another), then of a crowd that dwindles. One crosses from two
// partitions of attention to three; one may draw its likeliest ids only after a while.
std::vector<Step> CrowdSteps(const ParallelPlan& plan) {
  struct Member {
    int prompt, from, decodes;  // from: the first of the steps that only decode
    Sampling sampling;
  };
  std::vector<int32_t> half(256);
  std::iota(half.begin(), half.end(), 256);  // with all likely ones
  const std::vector<Member> members = {
      {5, 20, 36, {.temperature = 0}},
      {120, 20, 36, {.top_p = 0.9f, .frequency_penalty = 0.5f, .seed = 7}},
      {30, 20, 24, {.temperature = 0.8f, .top_k = 40, .seed = 8, .top_logprobs = 4}},
      {9, 20, 24, {.min_p = 0.05f, .repetition_penalty = 1.3f, .seed = 9}},
      {50, 20, 24, {.temperature = 1.3f, .seed = 10, .top_logprobs = 0}},
      {33, 20, 12, {.seed = 11, .min_tokens = 8, .end_ids = half}},
      {250, 20, 12, {.temperature = 0, .presence_penalty = 1, .logit_bias = {{7, 3.5f}}}},
      {20, 20, 12, {.seed = 12}},
      {1, 20, 12, {.temperature = 0}},
      {7, 0, 5, {.temperature = 0}},
      {8, 0, 5, {.temperature = 0}},
      {9, 5, 5, {.top_p = 0.8f, .seed = 13}},
      {10, 5, 5, {.temperature = 0}},
      {11, 10, 5, {.temperature = 0, .top_logprobs = 2}},
      {12, 10, 5, {.temperature = 0, .top_logprobs = 1}},
      {13, 15, 5, {.temperature = 0, .top_logprobs = 5}},
      {14, 15, 5, {.temperature = 0, .top_logprobs = 4}}};
  std::vector<Step> steps;
  std::vector<int> blocks(members.size()), next(1);
  const auto rows = [&](size_t i, int start, int n) {
    StepSequence s{.id = i + 1, .start = start, .logits = LogitRows::kLast};
    s.blocks.resize(1);
    for (; blocks[i] * plan.block_tokens < start + n; ++blocks[i]) s.blocks[0].push_back(next[0]++);
    if (s.blocks[0].empty()) s.blocks.clear();
    return s;
  };
  for (size_t i = 0; i < members.size(); ++i) {
    StepSequence s = rows(i, 0, members[i].prompt);
    for (int k = 0; k < members[i].prompt; ++k) s.ids.push_back((k * 37 + static_cast<int>(i)) % 500);
    s.whole_tables = true;
    s.sampling = {.params = std::make_shared<Sampling>(members[i].sampling)};
    s.sampling->prompt_ids.assign(s.ids.begin(), s.ids.end());
    steps.push_back({.sequences = {s}});
  }
  for (int k = 0; k < members[0].from + members[0].decodes; ++k) {
    Step& step = steps.emplace_back();
    for (size_t i = 0; i < members.size(); ++i) {
      const auto& [prompt, from, decodes, sampling] = members[i];
      if (k >= from && k < from + decodes) step.sequences.push_back(rows(i, prompt + k - from, 1));
      if (k == from + decodes) step.ended.push_back(i + 1);
    }
  }
  return steps;
}

// Steps that only decode are padded and done as a graph, each begun before the one before has ended: across partitions
// of attention, with every kind of draw, the bytes of the CPU, which does one after another.
TEST(Devices, RepeatStepsThatOnlyDecode) {
  const auto header = *ReadCheckpointHeader((fs::path(PANGEA_SOURCE_DIR) / "models/stories260k").string());
  Cluster cpu(header, {});
  const auto steps = CrowdSteps(cpu.plan());
  const auto expected = cpu.RunAhead(steps);
  for (const auto [stages, ranks, fusion] : {std::array{1, 1, 1}, {1, 1, 3}, {2, 2, 3}}) {
    Cluster there(header, {.stages = stages, .ranks = ranks, .fusion = fusion, .device = ClusterShape::kCuda});
    const auto got = there.RunAhead(steps);
    ASSERT_EQ(got.size(), expected.size());
    for (size_t step = 0; step < got.size(); ++step) {
      for (size_t i = 0; i < got[step].sequences.size(); ++i) {
        const Sample &a = got[step].sequences[i].samples.at(0), &b = expected[step].sequences[i].samples.at(0);
        ASSERT_EQ(a.id, b.id) << stages << "x" << ranks << " fusion " << fusion << " step " << step << " sequence "
                              << i;
        EXPECT_EQ(a.logprob, b.logprob);
        EXPECT_EQ(a.top, b.top);
      }
    }
    EXPECT_EQ(CudaPlays(there.queue()) > 20, fusion >= 2) << CudaPlays(there.queue());
  }
}

// On a GPU where there is one: two agents on it, which exchange as those of two do, draw what one CPU agent does. (No
// dependent launches: of the blocks that wait for a kernel of their own agent's, too many could keep the other's away.)
TEST(Devices, TwoAgentsOfOneGpuDrawWhatOneDoes) {
  if (Cluster::MakeQueue({.device = ClusterShape::kGpu}) == nullptr) GTEST_SKIP() << "no GPU";
  const char* const elsewhere = std::getenv("PANGEA_STORIES");
  const auto header = *ReadCheckpointHeader(
      elsewhere != nullptr ? elsewhere : (fs::path(PANGEA_SOURCE_DIR) / "models/stories260k").string());
  const std::vector<int32_t> prompt = {1, 403, 407, 261, 378};
  const Answer expected = Cluster(header, {}).Ask(prompt, 60, 512, false);
  for (const ClusterShape layout : {ClusterShape{1, 2}, ClusterShape{2, 1}, ClusterShape{2, 2}}) {
    ClusterShape there = layout;
    there.fusion = 2;
    there.device = ClusterShape::kGpu;
    EXPECT_EQ(Cluster(header, there).Ask(prompt, 60, 512, layout.stages > 1), expected) << layout.stages;
  }
}

// A step that would have been remembered, had its group not died within it: the next epoch's are whole.
TEST(Devices, RememberNoStepThatWasCutShort) {
  const auto header = *ReadCheckpointHeader((fs::path(PANGEA_SOURCE_DIR) / "models/stories260k").string());
  Cluster cpu(header, {});
  std::vector<Step> steps;  // one short prompt, then its decoding
  for (const Step& step : CrowdSteps(cpu.plan()))
    if (step.sequences.size() == 9 || step.sequences.at(0).id == 1) steps.push_back(step);
  steps.resize(8);
  for (Step& step : steps) step.sequences.resize(1);
  const auto expected = cpu.RunAhead(steps);
  for (const auto& [lost, stages, ranks] : {std::array{1, 1, 1}, {2, 1, 1}, {3, 1, 1}, {2, 1, 2}, {3, 2, 1}}) {
    // launched, recorded, played
    Cluster there(header, {.stages = stages, .ranks = ranks, .device = ClusterShape::kCuda});
    there.RunAhead({steps.begin(), steps.begin() + lost});
    there.LoseGroup(steps[lost]);
    const auto got = there.RunAhead(steps);
    for (size_t step = 0; step < got.size(); ++step)
      EXPECT_EQ(got[step].sequences.at(0).samples.at(0).id, expected[step].sequences.at(0).samples.at(0).id) << lost;
  }
}

// kernels.exact: false. Products take activations that are rounded to the weights' 16 bits; the reference's numbers
// with that rounding are in the files ("rounded"). On a short prompt, read id by id, they are met; on a long one, where
// some activation rounds the other way since sums have another order, and where attention rounds, too (of several rows
// together), the numbers are as far from those without rounding as the reference's.
TEST(Devices, AddInAnyOrderWhereTheyMay) {
  constexpr std::string_view kModels[] = {"gguf/gpt2-bf16.gguf", "gguf/llama3-bf16.gguf", "gguf/qwen2-bf16.gguf"};
  for (const std::string_view name : kModels) {
    const auto header = *ReadCheckpointHeader((kGolden / std::string(name)).string());
    const json expected = Expected(std::string(name));
    for (const ClusterShape layout : {ClusterShape{}, ClusterShape{2, 2}}) {
      ClusterShape fast = layout;
      fast.device = ClusterShape::kCuda;
      fast.exact = false;
      Cluster cluster(header, fast);
      for (const int chunk : {512, 7, 1}) {  // the library's products, and those of few rows
        // Slow on fibers: of the first model alone, and not of its long prompts.
        if (chunk == 7 && (layout.ranks > 1 || name != kModels[0])) continue;
        SCOPED_TRACE(testing::Message() << name << ' ' << layout.stages << 'x' << layout.ranks << ' ' << chunk);
        int met = 0;
        double worst = 0, sum = 0, theirs_worst = 0, theirs_sum = 0;
        for (const json& c : expected["cases"]) {
          const auto prompt = c["prompt"].get<std::vector<int32_t>>();
          if (prompt.size() > (chunk == 1 ? 10 : chunk == 7 ? 64 : 512)) continue;
          const auto got = cluster.Ask(prompt, 1, chunk, false).logprobs;
          for (size_t i = 0; i < got.size(); ++i) {
            const double exact = c["paged"][i], rounded = c["rounded"][i];
            if (chunk == 1) {
              ++met;
              EXPECT_NEAR(got[i], rounded, 0.001) << i;
            }
            worst = std::max(worst, std::abs(got[i] - exact));
            sum += std::abs(got[i] - exact);
            theirs_worst = std::max(theirs_worst, std::abs(rounded - exact));
            theirs_sum += std::abs(rounded - exact);
          }
        }
        EXPECT_EQ(met > 0, chunk == 1);
        EXPECT_LT(worst, 2 * theirs_worst);
        EXPECT_LT(sum, 1.5 * theirs_sum);
        EXPECT_GT(sum, 0.5 * theirs_sum) << "and rounded they are";
      }
    }
  }
}

// What the device's memory is there to find out.
TEST(ToyDeviceControl, ForeignAddressesDieOnEitherSide) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const std::vector<float> values(64, 1.0f);
  EXPECT_DEATH(
      {
        const auto queue = MakeToyQueue(BestIsa());
        const Buffer<float> there(std::span<const float>(values), *queue);
        std::printf("%f\n", there.data()[0]);  // the host reads the device's memory
      },
      "");
  EXPECT_DEATH(
      {
        const auto queue = MakeToyQueue(BestIsa());
        const Buffer<float> there(64, *queue);
        Add(there.data(), values.data(), 64, *queue);  // the device is given the host's
      },
      "");
}

AllowedIds Only(std::initializer_list<int32_t> ids) {
  std::map<int32_t, uint64_t> words;
  for (const int32_t id : ids) words[id / 64] |= uint64_t{1} << id % 64;
  return {.others = false, .words = {words.begin(), words.end()}};
}

// A masked sequence draws the best, or a likely one, of those that its mask allows, on every layout alike; what it says
// of probabilities is what the model gave.
TEST(Executor, AMaskedSequenceDrawsWithinItsMask) {
  const auto header = *ReadCheckpointHeader((fs::path(PANGEA_SOURCE_DIR) / "models/stories260k").string());
  const std::vector<int32_t> prompt = {1, 403, 407, 261, 378, 396};
  Sampling greedy;
  greedy.temperature = 0;
  greedy.top_logprobs = 20;
  Cluster one(header, 1, 1);
  const Sample free = one.Draw(prompt, greedy, nullptr);
  ASSERT_EQ(free.top.size(), 20u);
  const auto id = [&](int rank) { return free.top[rank].first; };
  Sampling drawn = greedy;
  drawn.temperature = 1.5f;
  std::map<uint64_t, int32_t> drawn_ids;
  for (const ClusterShape& layout : {ClusterShape{}, ClusterShape{1, 2}, ClusterShape{2, 2}}) {
    Cluster cluster(header, layout);
    const AllowedIds third = Only({id(3), id(7), id(12)});
    const Sample sample = cluster.Draw(prompt, greedy, &third);
    EXPECT_EQ(sample.id, id(3)) << layout.ranks;
    EXPECT_EQ(sample.logprob, free.top[3].second) << "the model's own";
    EXPECT_EQ(sample.top, free.top);
    AllowedIds but_first = Only({id(0)});
    but_first.others = true;
    but_first.words[0].second = ~but_first.words[0].second;
    EXPECT_EQ(cluster.Draw(prompt, greedy, &but_first).id, id(1));
    Sampling not_yet = greedy;  // an end that may not come yet, but is all that is allowed
    not_yet.min_tokens = 5;
    not_yet.end_ids = {id(4)};
    const AllowedIds the_end = Only({id(4)});
    EXPECT_EQ(cluster.Draw(prompt, not_yet, &the_end).id, id(4));
    for (drawn.seed = 0; drawn.seed < 20; ++drawn.seed) {
      for (const auto& [k, p] : {std::pair{0, 1.0f}, {5, 1.0f}, {0, 0.9f}}) {
        drawn.top_k = k, drawn.top_p = p;
        const int32_t got = cluster.Draw(prompt, drawn, &third).id;
        EXPECT_TRUE(third.Contains(got)) << got;
        const auto [it, first] = drawn_ids.try_emplace(drawn.seed * 3 + (k > 0 ? 1 : p < 1 ? 2 : 0), got);
        EXPECT_EQ(got, it->second) << layout.stages << 'x' << layout.ranks;
      }
    }
  }
  std::set<int32_t> different;
  for (const auto& [seed, got] : drawn_ids) different.insert(got);
  EXPECT_GT(different.size(), 1u) << "a draw, not the best";
}

}  // namespace
}  // namespace pangea
