// Whole models in one process, ranks and stages as threads: log-probabilities and greedy ids of the golden checkpoints
// against those of an independent implementation (integration_tests/golden), in one prefill, in chunks and token by
// token, on several layouts, which must agree bit for bit. Negative controls show that a wrong model would be caught.
#include <gtest/gtest.h>

#include "agent/executor_test_util.h"
#include "configs/device.h"

namespace pangea {
namespace {

struct Limits {
  double worst, mean, margin;
};
// What rounding may move: f16 pages alone (all that separates f32, f16 and bf16 weights from their reference) move the
// worst by 0.015 and the mean by 0.003 at these weights' scale, and no greedy id. A wrong part moves them by 0.7.
Limits LimitsOf(const std::string& dtype) {
  if (dtype[0] == 'q') return {0.05, 0.01, 0.05};  // quantised weights: activations of 16 bits besides
  return {0.03, 0.005, 0};
}
// From a reference whose keys and values are rounded to f16 too, only the order of f32 sums is left.
constexpr Limits kPaged{0.002, 0.0005, 0};

// Checkpoints relative to the golden folder: cases/NAME (a folder) and gguf/NAME.gguf.
std::vector<std::string> CaseNames() {
  std::vector<std::string> names;
  for (const auto& e : fs::directory_iterator(kGolden / "cases"))
    if (fs::exists(e.path() / "expected.json")) names.push_back("cases/" + e.path().filename().string());
  for (const auto& e : fs::directory_iterator(kGolden / "gguf"))
    if (e.path().extension() == ".gguf") names.push_back("gguf/" + e.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

double WorstDistance(const std::vector<float>& got, const json& want, double* mean) {
  double worst = 0, sum = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double off = std::abs(got.at(i) - want[i].get<double>());
    worst = std::max(worst, off);
    sum += off;
  }
  *mean = want.empty() ? 0 : sum / want.size();
  return worst;
}

void ExpectGreedy(const Answer& got, const json& c, double margin) {
  for (size_t k = 0; k < got.greedy.size(); ++k) {
    if (got.greedy[k] == c["greedy"][k].get<int>()) continue;
    std::printf("greedy id %zu differs, margin %.5f\n", k, c["margin"][k].get<double>());
    EXPECT_LT(c["margin"][k].get<double>(), margin) << "greedy id " << k;
    return;  // what follows a near tie may differ
  }
}

class Golden : public testing::TestWithParam<std::string> {};

TEST_P(Golden, EqualsTheReferenceOnEveryLayoutAndChunking) {
  const json expected = Expected(GetParam());
  const auto limits = LimitsOf(expected["dtype"]);
  const auto header = ReadCheckpointHeader((kGolden / GetParam()).string());
  ASSERT_TRUE(header.ok()) << header.status();
  std::vector<Answer> first;
  for (auto [stages, ranks, threads] : {std::array{1, 1, 1}, {1, 2, 1}, {2, 1, 1}, {2, 2, 1}, {3, 1, 2}, {1, 3, 1}}) {
    // Blocks of 32 or 256 make two leaves of the heads of these files: three ranks are refused there, and only there.
    if (ranks == 3 && IsQuantised(header->config.dtype)) continue;
    Cluster cluster(*header, stages, ranks, threads);
    size_t k = 0;
    for (const json& c : expected["cases"]) {
      const auto prompt = c["prompt"].get<std::vector<int32_t>>();
      for (int chunk : {512, 7, 1}) {
        if (chunk == 1 && (stages != 2 || ranks != 2)) continue;
        const auto got = cluster.Ask(prompt, 24, chunk, stages > 1 && chunk == 7);
        if (k == first.size()) {
          first.push_back(got);
          double mean;
          const double worst = WorstDistance(got.logprobs, c["logprob"], &mean);
          std::printf("prompt of %zu: worst %.5f, mean %.5f\n", prompt.size(), worst, mean);
          EXPECT_LT(worst, limits.worst) << prompt.size();
          EXPECT_LT(mean, limits.mean);
          ExpectGreedy(got, c, limits.margin);
          if (c.contains("paged")) {
            EXPECT_LT(WorstDistance(got.logprobs, c["paged"], &mean), kPaged.worst);
            EXPECT_LT(mean, kPaged.mean);
          }
        }
        EXPECT_EQ(got, first[k]) << stages << "x" << ranks << ", prompt of " << prompt.size() << " in chunks of "
                                 << chunk;
      }
      ++k;
    }
    // Each rank did its own share only, once: rows are those asked for, multiply-adds fall with the number of ranks.
    for (int i = 1; i < stages * ranks; ++i) EXPECT_EQ(cluster.rows(i), cluster.rows(0));
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, Golden, testing::ValuesIn(CaseNames()), [](const auto& info) {
  std::string name = info.param;
  std::replace_if(name.begin(), name.end(), [](char c) { return !std::isalnum(c); }, '_');
  return name;
});

// bf16 weights are the f32 weights of these two files: not one rounding may tell them apart.
TEST(Golden, ABf16FileGivesTheNumbersOfTheSameWeightsInF32) {
  const auto f32 = *ReadCheckpointHeader((kGolden / "gguf/qwen2-f32.gguf").string());
  const auto bf16 = *ReadCheckpointHeader((kGolden / "gguf/qwen2-bf16.gguf").string());
  const json expected = Expected("gguf/qwen2-bf16.gguf");
  for (auto [stages, ranks] : {std::array{1, 1}, {2, 2}, {1, 3}}) {
    Cluster one(f32, stages, ranks), other(bf16, stages, ranks);
    for (const json& c : expected["cases"]) {
      const auto prompt = c["prompt"].get<std::vector<int32_t>>();
      EXPECT_EQ(one.Ask(prompt, 24, 7, false), other.Ask(prompt, 24, 7, false)) << prompt.size();
    }
  }
}

// Activations rounded to bf16, as the reference computed them, must be caught by the distance from `paged`.
TEST(GoldenControl, ActivationsRoundedToBf16AreOutsideTheTolerance) {
  for (const char* name :
       {"gpt2-f32", "gpt2-f16", "gpt2-bf16", "llama3-bf16", "qwen2-f32", "qwen2-bf16", "qwen3-f16"}) {
    const json expected = Expected(std::string("gguf/") + name + ".gguf");
    for (const json& c : expected["cases"]) {
      if (c["prompt"].size() == 1) continue;  // no log-probability
      double mean;
      EXPECT_GT(WorstDistance(c["rounded"].get<std::vector<float>>(), c["paged"], &mean), 2 * kPaged.worst) << name;
      EXPECT_GT(mean, 4 * kPaged.mean) << name;
    }
  }
}

// Upper bits of quantised weights or of their scales, forgotten by the reference, must be caught by the distance.
TEST(GoldenControl, WeightsReadWrongInOnePartAreOutsideTheTolerance) {
  for (const char* name : {"qwen2-q5_0", "qwen2-q5_1", "llama-q4_k", "llama-q5_k", "llama-q6_k"}) {
    const json expected = Expected(std::string("gguf/") + name + ".gguf");
    const auto limits = LimitsOf(expected["dtype"]);
    for (const json& c : expected["cases"]) {
      if (c["prompt"].size() == 1) continue;  // no log-probability
      double mean;
      EXPECT_GT(WorstDistance(c["wrong"].get<std::vector<float>>(), c["logprob"], &mean), 5 * limits.worst) << name;
      EXPECT_GT(mean, 5 * limits.mean) << name;
    }
  }
}

// A model that is wrong in one part must be caught by the same distances.
struct Control {
  const char* name;
  const char* arch;
  void (*spoil)(CheckpointHeader*);
};

TEST(GoldenControl, AWrongModelMovesTheNumbersByManyTimesTheTolerance) {
  const Control controls[] = {
      {"RoPE base", "cases/llama2", [](CheckpointHeader* h) { h->config.rope.base *= 50; }},
      {"RoPE scaling", "cases/llama3", [](CheckpointHeader* h) { h->config.rope.scaling = RopeScaling::kNone; }},
      {"RoPE factor", "cases/llama-linear-bias", [](CheckpointHeader* h) { h->config.rope.factor = 1; }},
      {"YaRN", "cases/qwen2-yarn", [](CheckpointHeader* h) { h->config.rope.scaling = RopeScaling::kLinear; }},
      {"window", "cases/mistral-window", [](CheckpointHeader* h) { h->config.window.assign(h->config.layers, 0); }},
      {"epsilon", "cases/qwen3", [](CheckpointHeader* h) { h->config.norm_eps = 1e-6f; }},
      {"activation", "cases/llama2", [](CheckpointHeader* h) { h->config.activation = Gate::kGeluTanh; }},
      {"layer norm epsilon", "cases/gpt2", [](CheckpointHeader* h) { h->config.norm_eps = 1e-5f; }},
      {"query and key norms", "cases/qwen3",
       [](CheckpointHeader* h) {
         h->config.qk_norm = false;
         std::erase_if(h->tensors, [](const auto& t) {
           return t.first.find("_norm.weight") != t.first.npos && t.first.find("self_attn") != t.first.npos;
         });
       }},
      {"a tied head", "cases/llama2", [](CheckpointHeader* h) { h->config.tied = true; }},
      {"the query layer", "cases/pangu-erf", [](CheckpointHeader* h) { h->config.query_layer = false; }},
      {"where the final norm stands", "cases/pangu-erf",
       [](CheckpointHeader* h) { h->config.final_norm_before_query = !h->config.final_norm_before_query; }},
      {"RoPE base of a GGUF", "gguf/qwen2-f32.gguf", [](CheckpointHeader* h) { h->config.rope.base *= 50; }},
  };
  for (const Control& control : controls) {
    const json expected = Expected(control.arch);
    const auto limits = LimitsOf(expected["dtype"]);
    auto header = *ReadCheckpointHeader((kGolden / control.arch).string());
    control.spoil(&header);
    Cluster cluster(header, 1, 1);
    const json& c = expected["cases"].back();
    double mean;
    const Answer got = cluster.Ask(c["prompt"].get<std::vector<int32_t>>(), 1, 512, false);
    const double worst = WorstDistance(got.logprobs, c["logprob"], &mean);
    EXPECT_GT(worst, 2 * limits.worst) << control.name;
    EXPECT_GT(mean, limits.mean) << control.name;
  }
}

TEST(Executor, RanksShareTheWork) {
  const auto header = *ReadCheckpointHeader((kGolden / "cases/llama2").string());
  Cluster one(header, 1, 1), four(header, 2, 2);
  one.Ask({5, 6, 7}, 4, 512, false);
  four.Ask({5, 6, 7}, 4, 512, false);
  EXPECT_EQ(one.rows(0), 3 + 3);
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(double(four.multiply_adds(i)) / one.multiply_adds(0), 0.25, 0.05) << i;
}

TEST(Executor, ASequenceWithoutItsBlocksOrItsSamplingIsAnError) {
  const auto header = *ReadCheckpointHeader((kGolden / "cases/llama2").string());
  Deployment deployment;
  deployment.model = header.path;
  const auto plan = MakePlan(header, deployment).plan;
  auto group = MakeThreadGroups(1, 1, absl::Seconds(10));
  auto executor = MakeStageExecutor(header, deployment, plan, 0);
  ASSERT_TRUE(executor->Load().ok());
  StepSequence sequence{.id = 1, .start = 16, .ids = {3}, .logits = LogitRows::kLast, .whole_tables = true};
  const auto said = [&](uint64_t epoch) {
    return executor->Run({.epoch = epoch, .number = 1, .sequences = {sequence}}, *group[0]).status().ToString();
  };
  sequence.blocks = {{0, 1}};
  EXPECT_NE(said(1).find("begins without saying how it is sampled"), std::string::npos);
  sequence.sampling = SequenceSampling{};
  EXPECT_EQ(said(2), "OK");
  sequence.blocks = {{0}};
  const std::string missing = said(3);
  EXPECT_TRUE(missing.starts_with("INTERNAL")) << "and the block is not read";
  EXPECT_EQ(missing.find("sampled"), std::string::npos) << missing;
}

// The kernels have their own list: they include nothing of ours.
TEST(Isa, TheMasterOrdersClassesAsTheKernelsDo) {
  for (size_t i = 0; i < std::size(kIsaClasses); ++i) EXPECT_EQ(IsaFromName(kIsaClasses[i]), static_cast<Isa>(i));
  EXPECT_EQ(IsaName(static_cast<Isa>(std::size(kIsaClasses))), "?");
}

}  // namespace
}  // namespace pangea
