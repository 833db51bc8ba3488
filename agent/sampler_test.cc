// The sampler against a plain text of the definition over the whole row, on any cut of the vocabulary.
#include "agent/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <deque>
#include <limits>
#include <numeric>
#include <random>
#include <thread>

#include "agent/device_sampler.h"
#include "agent/group/thread_group.h"
#include "gtest/gtest.h"
#include "kernels/cuda/make_queue.h"
#include "kernels/threads.h"

namespace pangea {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

struct Expected {
  int32_t id;
  double logprob;
  std::vector<std::pair<int32_t, double>> best;  // by the raw distribution: logit descending, id ascending
};

// Philox4x32-10 as published (Salmon et al., SC11), written here anew.
std::array<uint32_t, 4> Philox(std::array<uint32_t, 4> counter, uint64_t key) {
  uint32_t k0 = uint32_t(key), k1 = uint32_t(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * counter[0], b = uint64_t{0xCD9E8D57} * counter[2];
    counter = {uint32_t(b >> 32) ^ counter[1] ^ k0, uint32_t(b), uint32_t(a >> 32) ^ counter[3] ^ k1, uint32_t(a)};
    k0 += 0x9E3779B9, k1 += 0xBB67AE85;
  }
  return counter;
}

TEST(Philox, KnownAnswers) {  // Random123's kat_vectors
  EXPECT_EQ(Philox({0, 0, 0, 0}, 0), (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0x299f31d0a4093822),
            (std::array<uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

double Gumbel(int32_t id, const SamplingState& state, int32_t position) {
  const auto bits = Philox({uint32_t(id) / 4, uint32_t(position), uint32_t(state.choice), 0}, state.params->seed);
  const double v = (bits[id % 4] + 0.5) / 4294967296.0;
  return -std::log(-std::log1p(-v));
}

// Filters and draw over one whole row, in double precision and by a full sort. It calls nothing of the code under test.
// slack: by how much top_p and min_p may be off, as rounding in float32 may push an id over a border.
Expected Plain(std::vector<float> x, const SamplingState& state, int32_t position, double slack = 0) {
  const Sampling& p = *state.params;
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
      const double threshold = best + std::log(double(p.min_p)) + slack;
      while (order.size() > 1 && !(x[order.back()] >= threshold)) order.pop_back();
    }
    if (p.top_k > 0 && order.size() > size_t(p.top_k)) order.resize(p.top_k);
    if (p.top_p < 1) {
      double sum = 0;  // over what the filters before left: all ids when there were none
      for (int32_t id : order) sum += std::exp(double(x[id]) - best);
      double mass = 0;
      size_t n = 0;
      while (n < order.size() && mass < p.top_p + slack) mass += std::exp(double(x[order[n++]]) - best) / sum;
      order.resize(std::max<size_t>(n, 1));
    }
    std::vector<double> drawn;
    for (int32_t c : order) drawn.push_back(x[c] + Gumbel(c, state, position));
    order[0] = order[std::max_element(drawn.begin(), drawn.end()) - drawn.begin()];
  }
  std::vector<int32_t> ranked(raw.size());
  std::iota(ranked.begin(), ranked.end(), 0);
  std::stable_sort(ranked.begin(), ranked.end(), [&](int32_t a, int32_t b) { return raw[a] > raw[b]; });
  const double lse = top + std::log(total);
  Expected expected{order[0], raw[order[0]] - lse, {}};
  for (int i = 0; i < p.top_logprobs; ++i) expected.best.emplace_back(ranked[i], raw[ranked[i]] - lse);
  return expected;
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
    SequenceSampling s;
    s.choice = rng() % 3;
    p.top_logprobs = int(pick(-1, 0, 5, 290));
    p.min_tokens = int(pick(0, 20));
    p.end_ids = {2, int32_t(vocab - 1)};
    if (rng() % 2) p.logit_bias = {{1, 4.0f}, {int32_t(vocab / 2), -100.0f}};
    for (int i = 0; i < 9; ++i) s.generated_ids.push_back(rng() % vocab);
    for (int i = 0; i < 20; ++i) s.prompt_ids.push_back(rng() % vocab);
    s.params = std::make_shared<Sampling>(p);
    c.states.emplace_back().Set(s);
    c.rows.push_back(x);
  }
  return c;
}

std::vector<RowResult> RunOn(const Case& c, const std::vector<Range>& slices, int32_t first_position = 0) {
  const int ranks = int(slices.size());
  auto groups = MakeThreadGroups(1, ranks, absl::Seconds(30));
  std::vector<std::vector<RowResult>> results(ranks);
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      SetComputeFloatMode();
      const auto queue = MakeCpuQueue(1, BestIsa());
      std::vector<float> logits;
      std::vector<LogitRow> rows;
      for (size_t i = 0; i < c.rows.size(); ++i) {
        logits.insert(logits.end(), c.rows[i].begin() + slices[r].begin, c.rows[i].begin() + slices[r].end);
        rows.push_back({&c.states[i], first_position + int32_t(i * 7), -1});
      }
      std::vector<float> raw(rows.size() * slices[r].size());
      Sampler sampler(slices, r, raw.data(), queue.get());
      EXPECT_TRUE(sampler.Run(logits.data(), rows, *groups[r], &results[r]).ok());
    });
  }
  for (auto& t : threads) t.join();
  for (int r = 1; r < ranks; ++r)
    for (size_t i = 0; i < c.rows.size(); ++i)
      EXPECT_EQ(results[r][i].sample.id, results[0][i].sample.id) << "rank " << r << " row " << i;
  return results[0];
}

TEST(Sampler, EqualsThePlainSamplerHoweverTheVocabularyIsCut) {
  SetComputeFloatMode();
  std::mt19937 rng(7);
  int draws = 0, borders = 0;
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
        if (got[i].sample.id != want.id) {  // a border that float32's rounding may move
          const auto wider = Plain(c.rows[i], c.states[i], int32_t(i * 7), 1e-5);
          const auto narrower = Plain(c.rows[i], c.states[i], int32_t(i * 7), -1e-5);
          EXPECT_TRUE(got[i].sample.id == wider.id || got[i].sample.id == narrower.id)
              << got[i].sample.id << " for " << want.id << ", round " << round << " row " << i;
          ++borders;
        } else if (c.states[i].params->top_logprobs >= 0) {
          EXPECT_NEAR(got[i].sample.logprob, want.logprob, 1e-4);
        }
        ++draws;
        ASSERT_EQ(got[i].sample.top.size(), want.best.size());
        for (size_t j = 0; j < want.best.size(); ++j) {
          EXPECT_EQ(got[i].sample.top[j].first, want.best[j].first) << "alternative " << j;
          EXPECT_NEAR(got[i].sample.top[j].second, want.best[j].second, 1e-4);
        }
        if (!first.empty()) {  // bit for bit on every cut
          EXPECT_EQ(got[i].sample.logprob, first[i].sample.logprob);
          EXPECT_EQ(got[i].sample.top, first[i].sample.top);
        }
      }
      if (first.empty()) first = got;
    }
  }
  EXPECT_LT(borders * 100, draws) << "borders are met by chance only";
}

// Four ids with the probabilities 0.1, 0.2, 0.3, 0.4, drawn at 4000 positions: chi-square against what the filters
// should leave, worked out by hand. 16.27 is the 0.999 quantile for 3 degrees of freedom.
TEST(Sampler, DrawsFollowTheDistributionThatTheFiltersLeave) {
  SetComputeFloatMode();
  struct Filtered {
    const char* name;
    void (*set)(Sampling*);
    std::vector<double> left;
  };
  const Filtered cases[] = {
      {"none", [](Sampling*) {}, {0.1, 0.2, 0.3, 0.4}},
      {"temperature 0.5 squares", [](Sampling* s) { s->temperature = 0.5f; }, {1. / 30, 4. / 30, 9. / 30, 16. / 30}},
      {"top_k 3", [](Sampling* s) { s->top_k = 3; }, {0, 2. / 9, 3. / 9, 4. / 9}},
      {"top_p 0.65", [](Sampling* s) { s->top_p = 0.65f; }, {0, 0, 3. / 7, 4. / 7}},
      {"min_p 0.6", [](Sampling* s) { s->min_p = 0.6f; }, {0, 0, 3. / 7, 4. / 7}},
      {"min_p before top_p", [](Sampling* s) { s->min_p = 0.3f, s->top_p = 0.8f; }, {0, 2. / 9, 3. / 9, 4. / 9}},
      {"bias doubles the first",
       [](Sampling* s) { s->logit_bias = {{0, 0.69314718f}}; },
       {2. / 11, 2. / 11, 3. / 11, 4. / 11}},
  };
  for (const Filtered& filtered : cases) {
    Case c;
    Sampling s;
    s.seed = 99;
    filtered.set(&s);
    std::vector<float> x(256, -60.0f);
    for (int i = 0; i < 4; ++i) x[i] = float(std::log(0.1 * (i + 1)));
    for (int i = 0; i < 4000; ++i) {
      c.states.emplace_back().Set({.params = std::make_shared<Sampling>(s)});
      c.rows.push_back(x);
    }
    std::vector<int> seen(256);
    for (const auto& r : RunOn(c, {{0, 256}})) ++seen[r.sample.id];
    double chi = 0;
    for (int i = 0; i < 4; ++i) {
      if (filtered.left[i] == 0) {
        EXPECT_EQ(seen[i], 0) << filtered.name << ", id " << i;
      } else {
        chi += std::pow(seen[i] - 4000 * filtered.left[i], 2) / (4000 * filtered.left[i]);
      }
    }
    EXPECT_LT(chi, 16.27) << filtered.name;
  }
}

TEST(Sampler, ARowWithNanIsMarkedAndChangesNoOtherRow) {
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

// A device that draws itself, as it runs on the host's fibers: bit for bit what the sampler above draws, sequence after
// sequence of steps, with what a slot has counted.
struct Drawing {
  const char* name;
  std::unique_ptr<Queue> (*make)();
};
template <cuda::fibers::Order order>
std::unique_ptr<Queue> OnFibers() {
  return MakeCudaOnCpuQueue({}, {.order = order, .seed = 5});
}
std::unique_ptr<Queue> OnGpu() {
  std::string why;
  return MakeCudaQueue({}, 0, &why).queue;
}
std::vector<Drawing> Drawings() {
  std::vector<Drawing> all = {{"cuda_on_cpu", OnFibers<cuda::fibers::Order::kForward>},
                              {"cuda_on_cpu_reversed", OnFibers<cuda::fibers::Order::kReverse>},
                              {"cuda_on_cpu_shuffled", OnFibers<cuda::fibers::Order::kShuffled>}};
  if (OnGpu() != nullptr) all.push_back({"cuda", OnGpu});
  return all;
}
void PrintTo(const Drawing& drawing, std::ostream* out) { *out << drawing.name; }

class DeviceSampling : public testing::TestWithParam<Drawing> {
 protected:
  // steps: logits of each row, one a sequence; whose states are told what was drawn.
  void ExpectTheSame(int64_t vocab, std::vector<SamplingState> states, const std::vector<std::vector<float>>& steps,
                     const std::vector<LogitRow>& rows);
};
INSTANTIATE_TEST_SUITE_P(, DeviceSampling, testing::ValuesIn(Drawings()),
                         [](const auto& info) { return info.param.name; });

void DeviceSampling::ExpectTheSame(int64_t vocab, std::vector<SamplingState> states,
                                   const std::vector<std::vector<float>>& steps, const std::vector<LogitRow>& rows) {
  SetComputeFloatMode();
  const int64_t n = int64_t(states.size());
  const auto host = MakeCpuQueue(1, BestIsa());
  const auto queue = GetParam().make();
  const SamplingShape shape{.rows = n, .slots = n + 2, .vocab = vocab, .tops = 290};
  const Buffer<std::byte> memory(SamplingBytes(shape), *queue);
  const Buffer<float> logits(n * vocab, *queue), edited(n * vocab, *queue);
  const Buffer<int32_t> last(shape.slots, *queue);
  DeviceSampler device(shape, memory.data(), queue.get());
  auto groups = MakeThreadGroups(1, 1, absl::Seconds(30));
  std::vector<float> raw(n * vocab);
  Sampler sampler({{0, vocab}}, 0, raw.data(), host.get());
  for (int64_t i = 0; i < n; ++i) device.Begin(int(n - i), states[i]);
  for (size_t step = 0; step < steps.size(); ++step) {
    std::vector<LogitRow> asked = rows;
    std::vector<DeviceSampler::Row> told;
    for (int64_t i = 0; i < n; ++i) {
      asked[i].state = &states[i];
      asked[i].position += int(step);
      told.push_back({asked[i], int(n - i)});
    }
    queue->Upload(logits.data(), steps[step].data(), logits.bytes());
    DeviceSampler::Drawn drawn;
    device.Draw({logits.data(), edited.data(), last.data()}, told, &drawn);
    std::vector<int32_t> lasts(shape.slots);
    queue->Download(lasts.data(), last.data(), last.bytes());
    queue->Finish();
    std::vector<RowResult> want;
    std::vector<float> x = steps[step];
    ASSERT_TRUE(sampler.Run(x.data(), asked, *groups[0], &want).ok());
    for (int64_t i = 0; i < n; ++i) {
      SCOPED_TRACE("step " + std::to_string(step) + " row " + std::to_string(i));
      const RowResult got = drawn.Result(i);
      ASSERT_EQ(got.finite, want[i].finite);
      if (rows[i].known_id < 0) {
        EXPECT_EQ(lasts[n - i], want[i].finite ? want[i].sample.id : 0);
      }
      if (!got.finite) continue;
      EXPECT_EQ(got.sample.id, want[i].sample.id);
      EXPECT_EQ(got.sample.logprob, want[i].sample.logprob);
      EXPECT_EQ(got.sample.top, want[i].sample.top);
      if (rows[i].known_id < 0) states[i].Accept(want[i].sample.id);
    }
  }
}

TEST_P(DeviceSampling, DrawsWhatTheHostDraws) {
  std::mt19937 rng(11);
  for (const int64_t vocab : {300, 523, 2000, 4096, 5001}) {
    SCOPED_TRACE("vocabulary " + std::to_string(vocab));
    const Case c = RandomCase(rng, vocab, 32);
    std::vector<std::vector<float>> steps(3);
    for (auto& step : steps)
      for (const auto& row : RandomCase(rng, vocab, 32).rows) step.insert(step.end(), row.begin(), row.end());
    std::deque<AllowedIds> masks;
    std::vector<LogitRow> rows;
    for (size_t i = 0; i < c.states.size(); ++i) {
      LogitRow& row = rows.emplace_back();
      row.position = int32_t(i * 7);
      if (i % 8 == 1) row.known_id = int32_t(rng() % vocab);
      if (i % 4 == 2) {  // a few ids, or all but a few
        AllowedIds& mask = masks.emplace_back();
        mask.others = i % 8 == 2;
        mask.words = {{1, 0x00ff00ff0f0f3355u}, {int32_t(vocab - 1) / 64, 1}};
        row.mask = &mask;
      }
    }
    ExpectTheSame(vocab, c.states, steps, rows);
  }
}

// Among them the filters' own borders: values that are all alike, a k and a p at which nothing is cut, and a row whose
// mass is so even that most of its ids are walked.
TEST_P(DeviceSampling, DrawsWhatTheHostDrawsAtTheBorders) {
  constexpr int64_t kVocab = 2600;
  std::vector<SamplingState> states;
  std::vector<float> logits;
  const auto add = [&](const Sampling& p, auto value) {
    states.emplace_back().Set({.params = std::make_shared<Sampling>(p)});
    for (int64_t i = 0; i < kVocab; ++i) logits.push_back(float(value(i)));
  };
  const auto even = [](int64_t) { return 1.0; };
  const auto nearly_even = [](int64_t i) { return 1e-4 * double(i * 7919 % kVocab); };
  const auto zeros = [](int64_t i) { return i % 3 == 0 ? -0.0 : i % 3 == 1 ? 0.0 : -1.0; };
  add({.temperature = 0}, even);
  add({.temperature = 0}, zeros);
  for (const float p : {0.0f, 1e-6f, 0.5f, 0.97f, 0.9999999f, 1.0f}) {
    for (const int k : {0, 1, 128, 129, 1024, 1500, 2599, 2600, 9999}) {
      add({.top_p = p, .top_k = k, .seed = 3}, even);
      add({.top_p = p, .top_k = k, .seed = 4, .top_logprobs = 3}, nearly_even);
      add({.top_p = p, .top_k = k, .min_p = 0.99f, .seed = 5, .top_logprobs = 290}, zeros);
    }
  }
  std::vector<LogitRow> rows(states.size());
  ExpectTheSame(kVocab, states, {logits, logits}, rows);
}

TEST_P(DeviceSampling, MarksARowThatIsNotFinite) {
  std::mt19937 rng(3);
  const Case c = RandomCase(rng, 4500, 6);
  std::vector<float> logits;
  for (const auto& row : c.rows) logits.insert(logits.end(), row.begin(), row.end());
  logits[4500 + 4400] = NAN;
  logits[2 * 4500 + 7] = kInf;
  logits[4 * 4500] = -kInf;
  ExpectTheSame(4500, c.states, {logits}, std::vector<LogitRow>(6));
}

// Of this seed the bits of id 5 at position 4 are so many ones that it draws -infinity: where no other id remains, it
// is drawn all the same.
TEST_P(DeviceSampling, DrawsTheOnlyIdThatRemains) {
  const Sampling p{.seed = 164778375}, alone{.min_p = 0.5f, .seed = 164778375};
  std::vector<SamplingState> states(2);
  states[0].Set({.params = std::make_shared<Sampling>(p)});
  states[1].Set({.params = std::make_shared<Sampling>(alone)});
  std::vector<float> logits(600, 0.0f);
  logits[305] = 9;
  const AllowedIds mask{.others = false, .words = {{0, 1u << 5}}};
  std::vector<LogitRow> rows = {{.position = 3, .mask = &mask}, {.position = 3}};
  ExpectTheSame(300, states, {logits}, rows);
  Case c{.rows = {std::vector<float>(logits.begin() + 300, logits.end())}, .states = {states[1]}};
  const auto host = RunOn(c, {{0, 256}, {256, 300}}, 3);
  EXPECT_EQ(host[0].sample.id, 5);
}

// More biases than there is room for at once: the rows are judged in several goes.
TEST_P(DeviceSampling, TakesABiasOfEveryId) {
  std::vector<SamplingState> states;
  std::vector<float> logits;
  for (int row = 0; row < 3; ++row) {
    Sampling p{.temperature = row == 1 ? 0.0f : 1.0f, .seed = uint64_t(row), .top_logprobs = 2, .min_tokens = 9};
    p.end_ids = {5, 298, 5, 1000000};
    for (int32_t id = 0; id < 300; ++id) p.logit_bias.emplace_back(id, id >= 298 ? 40.0f : float(id % 13) - 6);
    states.emplace_back().Set({.params = std::make_shared<Sampling>(p)});
    for (int i = 0; i < 300; ++i) logits.push_back(float((i + row) % 7));
  }
  ExpectTheSame(300, states, {logits, logits}, std::vector<LogitRow>(3));
}

}  // namespace
}  // namespace pangea
