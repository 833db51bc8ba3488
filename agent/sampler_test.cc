// The sampler against a plain text of the definition over the whole row, on any cut of the vocabulary.
#include "agent/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <thread>

#include "agent/group/thread_group.h"
#include "gtest/gtest.h"

namespace pangea {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

struct Expected {
  int32_t id;
  double logprob;
};

// Filters and draw over one whole row, written for clarity: a full sort, sums in the one order.
Expected Plain(std::vector<float> x, const SamplingState& state, int32_t position) {
  const Sampling& p = state.params;
  double total = 0, top = *std::max_element(x.begin(), x.end());
  for (float v : x) total += std::exp(double(v) - top);
  const std::vector<float> raw = x;
  for (auto [id, bias] : p.logit_bias) x[id] = x[id] + bias;
  if (p.repetition_penalty != 1) {
    std::vector<int32_t> seen = state.prompt;
    for (auto [id, n] : state.generated) seen.push_back(id);
    std::sort(seen.begin(), seen.end());
    seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
    for (int32_t id : seen) x[id] = x[id] > 0 ? x[id] / p.repetition_penalty : x[id] * p.repetition_penalty;
  }
  if (p.presence_penalty != 0 || p.frequency_penalty != 0)
    for (auto [id, n] : state.generated) x[id] = (x[id] - p.frequency_penalty * n) - p.presence_penalty;
  if (state.count < p.min_tokens)
    for (int32_t id : p.end_ids) x[id] = -kInf;
  if (p.temperature > 0)
    for (float& v : x) v = v / p.temperature;
  std::vector<int32_t> order(x.size());
  for (size_t i = 0; i < x.size(); ++i) order[i] = int32_t(i);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return x[a] > x[b]; });
  if (p.temperature > 0) {
    const float best = x[order[0]];
    if (p.min_p > 0) {
      const float threshold = best + LogExact(p.min_p);
      while (order.size() > 1 && !(x[order.back()] >= threshold)) order.pop_back();
    }
    if (p.top_k > 0 && order.size() > size_t(p.top_k)) order.resize(p.top_k);
    if (p.top_p < 1) {
      float lse;
      if (p.top_k == 0 && p.min_p == 0) {
        std::vector<float> pairs(2 * ((x.size() + 255) / 256));
        LseChunks(x.data(), x.size(), pairs.data());
        lse = LseFold(pairs.data(), pairs.size() / 2);
      } else {
        float sum = 0;
        for (int32_t id : order) sum += ExpExact(x[id] - best);
        lse = best + LogExact(sum);
      }
      float mass = 0;
      size_t n = 0;
      while (n < order.size() && mass < p.top_p) mass += ExpExact(x[order[n++]] - lse);
      order.resize(std::max<size_t>(n, 1));
    }
    float high = -kInf;
    int32_t id = std::numeric_limits<int32_t>::max();
    for (int32_t c : order) {
      float v;
      GumbelArgmax(&x[c], 1, c, p.seed, position, p.choice, &v);
      if (v > high || (v == high && c < id)) high = v, id = c;
    }
    order[0] = id;
  }
  return {order[0], raw[order[0]] - (top + std::log(total))};
}

struct Case {
  std::vector<std::vector<float>> rows;
  std::vector<SamplingState> states;
};

Case RandomCase(std::mt19937& rng, int64_t vocab, int rows) {
  Case c;
  std::normal_distribution<float> normal(0, 3);
  const auto pick = [&](auto... v) {
    const std::vector<double> all{double(v)...};
    return all[rng() % all.size()];
  };
  for (int r = 0; r < rows; ++r) {
    std::vector<float> x(vocab);
    const bool coarse = rng() % 4 == 0;  // many ties
    for (float& v : x) v = coarse ? std::round(normal(rng)) : normal(rng);
    Sampling p;
    p.temperature = float(pick(0, 0.3, 1, 1.7));
    p.top_p = float(pick(1, 1, 0.9, 0.2, 0.999));
    p.top_k = int(pick(0, 0, 1, 5, 300, 100000));
    p.min_p = float(pick(0, 0, 0.05, 1e-6, 1));
    p.presence_penalty = float(pick(0, 0.7));
    p.frequency_penalty = float(pick(0, -0.4));
    p.repetition_penalty = float(pick(1, 1.3));
    p.seed = rng();
    p.choice = rng() % 3;
    p.top_logprobs = int(pick(-1, 0, 5));
    p.min_tokens = int(pick(0, 20));
    p.end_ids = {2, int32_t(vocab - 1)};
    if (rng() % 2) p.logit_bias = {{1, 4.0f}, {int32_t(vocab / 2), -100.0f}};
    for (int i = 0; i < 9; ++i) p.generated_ids.push_back(rng() % vocab);
    for (int i = 0; i < 20; ++i) p.prompt_ids.push_back(rng() % vocab);
    c.states.emplace_back().Set(p);
    c.rows.push_back(x);
  }
  return c;
}

std::vector<RowResult> RunOn(const Case& c, const std::vector<Range>& slices) {
  const int ranks = int(slices.size());
  auto groups = MakeThreadGroups(1, ranks, absl::Seconds(30));
  std::vector<std::vector<RowResult>> results(ranks);
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      SetComputeFloatMode();
      ThreadPool pool(1);
      std::vector<float> logits;
      std::vector<LogitRow> rows;
      for (size_t i = 0; i < c.rows.size(); ++i) {
        logits.insert(logits.end(), c.rows[i].begin() + slices[r].begin, c.rows[i].begin() + slices[r].end);
        rows.push_back({&c.states[i], int32_t(i * 7), -1});
      }
      Sampler sampler(slices, r, &pool);
      EXPECT_TRUE(sampler.Run(logits.data(), rows, *groups[r], &results[r]).ok());
    });
  }
  for (auto& t : threads) t.join();
  for (int r = 1; r < ranks; ++r)
    for (size_t i = 0; i < c.rows.size(); ++i)
      EXPECT_EQ(results[r][i].sample.id, results[0][i].sample.id) << "rank " << r << " row " << i;
  return results[0];
}

TEST(Sampler, EqualsThePlainTextOnEveryCutOfTheVocabulary) {
  SetComputeFloatMode();
  std::mt19937 rng(7);
  for (int round = 0; round < 12; ++round) {
    const int64_t vocab = std::vector<int64_t>{300, 523, 2000, 4096}[round % 4];
    const Case c = RandomCase(rng, vocab, 24);
    std::vector<std::vector<Range>> cuts{{{0, vocab}}, {{0, 256}, {256, vocab}}};
    if (vocab > 1024) cuts.push_back({{0, 768}, {768, 1024}, {1024, vocab}});
    cuts.push_back({{0, 256}, {256, 256}, {256, vocab}});  // a rank without vocabulary
    std::vector<RowResult> first;
    for (const auto& slices : cuts) {
      const auto got = RunOn(c, slices);
      for (size_t i = 0; i < c.rows.size(); ++i) {
        const auto want = Plain(c.rows[i], c.states[i], int32_t(i * 7));
        EXPECT_TRUE(got[i].finite);
        EXPECT_EQ(got[i].sample.id, want.id) << "round " << round << " row " << i << " ranks " << slices.size();
        if (c.states[i].params.top_logprobs >= 0) {
          EXPECT_NEAR(got[i].sample.logprob, want.logprob, 1e-4);
        }
        if (c.states[i].params.top_logprobs > 0) {
          EXPECT_EQ(got[i].sample.top.size(), 5u);
        }
        if (!first.empty()) {  // bit for bit on every cut
          EXPECT_EQ(got[i].sample.logprob, first[i].sample.logprob);
          EXPECT_EQ(got[i].sample.top, first[i].sample.top);
        }
      }
      if (first.empty()) first = got;
    }
  }
}

TEST(Sampler, DrawsFollowTheDistribution) {
  SetComputeFloatMode();
  // Four ids with known probabilities; chi-square against them over 4000 positions. 16.27 is the 0.999 quantile for 3
  // degrees.
  const std::vector<double> p{0.1, 0.2, 0.3, 0.4};
  Case c;
  Sampling s;
  s.seed = 99;
  std::vector<float> x(256, -60.0f);
  for (int i = 0; i < 4; ++i) x[i] = float(std::log(p[i]));
  for (int i = 0; i < 4000; ++i) {
    c.states.emplace_back().Set(s);
    c.rows.push_back(x);
  }
  std::vector<int> seen(4);
  for (const auto& r : RunOn(c, {{0, 256}})) ++seen[r.sample.id];
  double chi = 0;
  for (int i = 0; i < 4; ++i) chi += std::pow(seen[i] - 4000 * p[i], 2) / (4000 * p[i]);
  EXPECT_LT(chi, 16.27);
}

TEST(Sampler, NotFiniteIsToldAndHarmsNoOtherRow) {
  SetComputeFloatMode();
  std::mt19937 rng(3);
  Case c = RandomCase(rng, 600, 3);
  const auto before = RunOn(c, {{0, 256}, {256, 600}});
  c.rows[1][400] = std::nanf("");
  const auto after = RunOn(c, {{0, 256}, {256, 600}});
  EXPECT_FALSE(after[1].finite);
  EXPECT_TRUE(after[0].finite && after[2].finite);
  EXPECT_EQ(after[0].sample.id, before[0].sample.id);
  EXPECT_EQ(after[2].sample.id, before[2].sample.id);
}

}  // namespace
}  // namespace pangea
