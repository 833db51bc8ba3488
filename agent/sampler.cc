#include "agent/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "configs/failpoint.h"

namespace pangea {
namespace {

constexpr float kMinusInf = -std::numeric_limits<float>::infinity();
constexpr int64_t kFirstCandidates = 128;  // enough for nearly every top_p; more are asked for when they run out

bool Before(float av, int32_t ai, float bv, int32_t bi) { return av > bv || (av == bv && ai < bi); }

template <typename T>
std::byte* Put(std::byte* out, const T* values, size_t n) {
  if (n > 0) std::memcpy(out, values, n * sizeof(T));  // an empty list may have no address
  return out + n * sizeof(T);
}
template <typename T>
const std::byte* Get(const std::byte* in, T* values, size_t n) {
  if (n > 0) std::memcpy(values, in, n * sizeof(T));
  return in + n * sizeof(T);
}

// What the mask does not allow of the slice's ids, a word of 64 at a time; x are their logits.
void Ban(const AllowedIds& mask, const Range& slice, float* x) {
  auto listed =
      std::lower_bound(mask.words.begin(), mask.words.end(), std::pair<int32_t, uint64_t>(slice.begin / 64, 0));
  for (int64_t word = slice.begin / 64; word * 64 < slice.end; ++word) {
    const bool is_listed = listed != mask.words.end() && listed->first == word;
    const uint64_t allowed = is_listed ? (listed++)->second : mask.others ? ~uint64_t{0} : 0;
    if (allowed == ~uint64_t{0}) continue;
    for (int64_t id = std::max(word * 64, slice.begin); id < std::min(word * 64 + 64, slice.end); ++id)
      if ((allowed >> (id % 64) & 1) == 0) x[id - slice.begin] = kMinusInf;
  }
}

}  // namespace

void SamplingState::Set(const SequenceSampling& sampling) {
  params = sampling.params;
  choice = sampling.choice;
  generated.clear();
  for (int32_t id : sampling.generated_ids) ++generated[id];
  count = static_cast<int32_t>(sampling.generated_ids.size());
  prompt = sampling.prompt_ids;
  std::sort(prompt.begin(), prompt.end());
  prompt.erase(std::unique(prompt.begin(), prompt.end()), prompt.end());
}

void SamplingState::Accept(int32_t id) {
  ++count;
  if (params->NeedsCounts()) ++generated[id];
}

// One row's life: filled locally, merged to the same values on every rank.
struct Sampler::Work {
  const LogitRow* row = nullptr;
  // What the row needs, functions of its parameters alone.
  bool logprobs = false, greedy = false, full_lse = false, listed = false, draw_all = false;
  int64_t tops = 0, wanted = 0;
  const float* raw_row = nullptr;  // this rank's logits as the model gave them
  // Merged.
  bool finite = true;
  Candidate best{kMinusInf, 0};
  float raw_lse = 0, lse = 0;
  std::vector<Candidate> raw_top, list;
  bool complete = false;  // list holds every id of the vocabulary
  bool done = false;
  int32_t id = 0;
};

Sampler::Sampler(std::vector<Range> slices, int rank, float* raw, Queue* queue)
    : slices_(std::move(slices)), rank_(rank), raw_(raw), queue_(queue) {}

int64_t Sampler::Chunks(int rank) const { return (slices_[rank].size() + 255) / 256; }
int64_t Sampler::Listed(int64_t wanted, int rank) const { return std::min(wanted, slices_[rank].size()); }

absl::Status Sampler::Exchange(Group& group, std::span<const std::byte> mine, const std::vector<size_t>& sizes) {
  offsets_.assign(1, 0);
  for (size_t n : sizes) offsets_.push_back(offsets_.back() + n);
  all_.resize(offsets_.back());
  return group.AllGather(mine, sizes, all_);
}

// Bias, penalties and temperature, in place; keeps the row as it was in `raw` where it will be asked for.
void Sampler::Prepare(float* x, float* raw, Work* work) const {
  const LogitRow& row = *work->row;
  const Sampling& p = *row.state->params;
  const Range slice = slices_[rank_];
  const auto at = [&](int32_t id) -> float* {
    return id >= slice.begin && id < slice.end ? x + (id - slice.begin) : nullptr;
  };
  const bool ban_ends = row.BansEnds() && !p.end_ids.empty();
  const bool changed = !work->greedy || !p.logit_bias.empty() || p.NeedsCounts() || ban_ends || row.mask != nullptr;
  work->raw_row = x;
  if (row.known_id >= 0 || !work->finite) return;
  if (work->logprobs && changed) {
    std::copy(x, x + slice.size(), raw);
    work->raw_row = raw;
  }
  for (const auto& [id, bias] : p.logit_bias)
    if (float* v = at(id)) *v = *v + bias;
  if (p.repetition_penalty != 1) {
    const auto repeat = [&](int32_t id) {
      if (float* v = at(id)) *v = *v > 0 ? *v / p.repetition_penalty : *v * p.repetition_penalty;
    };
    for (int32_t id : row.state->prompt) repeat(id);
    for (const auto& [id, n] : row.state->generated)
      if (!std::binary_search(row.state->prompt.begin(), row.state->prompt.end(), id)) repeat(id);
  }
  if (p.presence_penalty != 0 || p.frequency_penalty != 0) {
    for (const auto& [id, n] : row.state->generated)
      if (float* v = at(id)) *v = (*v - p.frequency_penalty * static_cast<float>(n)) - p.presence_penalty;
  }
  if (ban_ends) {
    for (int32_t id : p.end_ids)
      if (float* v = at(id)) *v = kMinusInf;
  }
  if (row.mask != nullptr) Ban(*row.mask, slice, x);
  if (!work->greedy && p.temperature != 1) {
    for (int64_t i = 0; i < slice.size(); ++i) x[i] = x[i] / p.temperature;
  }
}

// This rank's first `wanted` in the one order.
std::vector<Sampler::Candidate> Sampler::Best(const float* x, int64_t wanted) const {
  const Range slice = slices_[rank_];
  const int64_t n = std::min(wanted, slice.size());
  const auto before = [](const Candidate& a, const Candidate& b) { return Before(a.value, a.id, b.value, b.id); };
  std::vector<Candidate> heap;  // worst of the best on top
  heap.reserve(n + 1);
  for (int64_t i = 0; i < slice.size() && n > 0; ++i) {
    // Ids ascend, so an equal value never displaces an earlier one.
    if (static_cast<int64_t>(heap.size()) == n) {
      if (!(x[i] > heap.front().value)) continue;
      std::pop_heap(heap.begin(), heap.end(), before);
      heap.pop_back();
    }
    heap.push_back({x[i], static_cast<int32_t>(slice.begin + i)});
    std::push_heap(heap.begin(), heap.end(), before);
  }
  std::sort_heap(heap.begin(), heap.end(), before);
  return heap;
}

size_t Sampler::FirstBytes(const Work& w, int rank) const {
  const size_t pair = 2 * sizeof(float);
  size_t n = sizeof(float) + sizeof(Candidate);
  if (w.logprobs) n += Chunks(rank) * pair + Listed(w.tops, rank) * sizeof(Candidate);
  if (w.full_lse) n += Chunks(rank) * pair;
  if (w.listed) n += Listed(w.wanted, rank) * sizeof(Candidate);
  return n;
}

void Sampler::First(const float* x, Work* w, std::byte* out) const {
  const Range slice = slices_[rank_];
  const int64_t n = slice.size();
  const float finite = w->finite ? 1.0f : 0.0f;
  out = Put(out, &finite, 1);
  Candidate best{kMinusInf, std::numeric_limits<int32_t>::max()};
  if (n > 0 && w->row->known_id < 0) {
    const Winner winner = Argmax({x, static_cast<size_t>(n)}, queue_->host_isa());
    best = {winner.value, static_cast<int32_t>(slice.begin + winner.index)};
  }
  out = Put(out, &best, 1);
  std::vector<float> pairs(2 * Chunks(rank_));
  if (w->logprobs) {
    LseChunks(w->raw_row, n, pairs.data(), queue_->host_isa());
    out = Put(out, pairs.data(), pairs.size());
    const auto top = Best(w->raw_row, w->tops);
    out = Put(out, top.data(), top.size());
  }
  if (w->full_lse) {
    LseChunks(x, n, pairs.data(), queue_->host_isa());
    out = Put(out, pairs.data(), pairs.size());
  }
  if (w->listed) {
    const auto list = Best(x, w->wanted);
    Put(out, list.data(), list.size());
  }
}

// Reads every rank's first message; rows are walked in order, so a cursor per rank suffices.
void Sampler::MergeFirst(std::vector<Work>& works) {
  const int ranks = static_cast<int>(slices_.size());
  std::vector<const std::byte*> in;
  for (int r = 0; r < ranks; ++r) in.push_back(all_.data() + offsets_[r]);
  const auto before = [](const Candidate& a, const Candidate& b) { return Before(a.value, a.id, b.value, b.id); };
  std::vector<float> raw_pairs, pairs;
  for (Work& w : works) {
    raw_pairs.clear();
    pairs.clear();
    w.finite = true;
    w.best = {kMinusInf, std::numeric_limits<int32_t>::max()};
    for (int r = 0; r < ranks; ++r) {
      float finite;
      Candidate best;
      in[r] = Get(Get(in[r], &finite, 1), &best, 1);
      w.finite = w.finite && finite != 0;
      if (before(best, w.best)) w.best = best;
      const auto append = [&](auto& to, size_t n) {
        to.resize(to.size() + n);
        in[r] = Get(in[r], to.data() + to.size() - n, n);
      };
      if (w.logprobs) {
        append(raw_pairs, 2 * Chunks(r));
        append(w.raw_top, Listed(w.tops, r));
      }
      if (w.full_lse) append(pairs, 2 * Chunks(r));
      if (w.listed) append(w.list, Listed(w.wanted, r));
    }
    if (w.logprobs) w.raw_lse = LseFold(raw_pairs.data(), raw_pairs.size() / 2);
    if (w.full_lse) w.lse = LseFold(pairs.data(), pairs.size() / 2);
    std::sort(w.raw_top.begin(), w.raw_top.end(), before);
    if (w.raw_top.size() > static_cast<size_t>(w.tops)) w.raw_top.resize(w.tops);
    std::sort(w.list.begin(), w.list.end(), before);
  }
}

// Cuts the list to the survivors of min_p, top_k and top_p. False: the candidates ran out before the cut was certain.
bool Sampler::Survivors(Work* w) const {
  const Sampling& p = *w->row->state->params;
  auto& list = w->list;
  // Beyond a rank's last candidate there may be others, so only the first `wanted` of the merged order are certain.
  size_t certain = w->complete ? list.size() : std::min<size_t>(list.size(), w->wanted);
  size_t n = certain;
  bool cut = w->complete;  // the survivors end within what is certain
  if (p.min_p > 0) {
    const float threshold = w->best.value + LogExact(p.min_p);
    size_t k = 0;
    while (k < n && list[k].value >= threshold) ++k;
    cut = cut || k < n;
    n = k;
  }
  if (p.top_k > 0 && n >= static_cast<size_t>(p.top_k)) {
    n = p.top_k;
    cut = true;
  }
  if (p.top_p < 1) {
    float lse = w->lse;
    if (!w->full_lse) {
      if (!cut) return false;  // the sum needs every survivor
      float sum = 0;
      for (size_t i = 0; i < n; ++i) sum += ExpExact(list[i].value - w->best.value);
      lse = w->best.value + LogExact(sum);
    }
    float mass = 0;
    size_t k = 0;
    while (k < n && mass < p.top_p) mass += ExpExact(list[k++].value - lse);
    cut = cut || mass >= p.top_p;
    n = k;
  }
  if (!cut) return false;
  list.resize(std::max<size_t>(n, 1));
  return true;
}

DrawKey Sampler::DrawOf(const Work& w) const {
  const Sampling& p = *w.row->state->params;
  return {p.seed, static_cast<uint32_t>(w.row->position), static_cast<uint32_t>(w.row->state->choice)};
}

void Sampler::Draw(Work* w) const {
  Candidate best{kMinusInf, std::numeric_limits<int32_t>::max()};
  for (const Candidate& c : w->list) {
    const float value = GumbelArgmax({&c.value, 1}, c.id, DrawOf(*w), queue_->host_isa()).value;
    if (Before(value, c.id, best.value, best.id)) best = {value, c.id};
  }
  w->id = best.id;
}

// Rows whose candidates ran out ask for more until the cut is certain; the result does not depend on how many came
// first.
absl::Status Sampler::Widen(const float* logits, std::vector<Work>& works, Group& group) {
  const int ranks = static_cast<int>(slices_.size());
  const int64_t vocab = slices_.back().end;
  const auto before = [](const Candidate& a, const Candidate& b) { return Before(a.value, a.id, b.value, b.id); };
  for (;;) {
    std::vector<size_t> open;
    for (size_t i = 0; i < works.size(); ++i) {
      Work& w = works[i];
      if (!w.listed || w.done || !w.finite) continue;
      w.complete = w.wanted >= vocab;
      if (Survivors(&w)) {
        Draw(&w);
        w.done = true;
      } else {
        w.wanted = std::min(vocab, w.wanted * 8);
        open.push_back(i);
      }
    }
    if (open.empty()) return absl::OkStatus();
    std::vector<size_t> sizes(ranks, 0);
    mine_.clear();
    for (size_t i : open) {
      for (int r = 0; r < ranks; ++r) sizes[r] += Listed(works[i].wanted, r) * sizeof(Candidate);
      const auto list = Best(Row(logits, i), works[i].wanted);
      const auto* bytes = reinterpret_cast<const std::byte*>(list.data());
      mine_.insert(mine_.end(), bytes, bytes + list.size() * sizeof(Candidate));
    }
    if (auto s = Exchange(group, mine_, sizes); !s.ok()) return s;
    std::vector<size_t> at(offsets_.begin(), offsets_.end() - 1);
    for (size_t i : open) {
      auto& list = works[i].list;
      list.clear();
      for (int r = 0; r < ranks; ++r) {
        const size_t n = Listed(works[i].wanted, r);
        list.resize(list.size() + n);
        Get(all_.data() + at[r], list.data() + list.size() - n, n);
        at[r] += n * sizeof(Candidate);
      }
      std::sort(list.begin(), list.end(), before);
    }
  }
}

// Rows that draw from the whole vocabulary (or all above a min_p threshold): each rank's best of its run, then the best
// of those.
absl::Status Sampler::DrawAll(const float* logits, std::vector<Work>& works, Group& group) {
  const int ranks = static_cast<int>(slices_.size());
  const Range slice = slices_[rank_];
  std::vector<size_t> rows;
  for (size_t i = 0; i < works.size(); ++i)
    if (works[i].draw_all && works[i].finite) rows.push_back(i);
  if (rows.empty()) return absl::OkStatus();
  std::vector<Candidate> mine(rows.size(), {kMinusInf, std::numeric_limits<int32_t>::max()});
  queue_->OnHost(rows.size(), 1, [&](int64_t begin, int64_t end) {
    std::vector<float> masked;
    for (int64_t k = begin; k < end && slice.size() > 0; ++k) {
      const Work& w = works[rows[k]];
      const Sampling& p = *w.row->state->params;
      const float* x = Row(logits, rows[k]);
      if (p.min_p > 0) {
        const float threshold = w.best.value + LogExact(p.min_p);
        masked.assign(x, x + slice.size());
        for (float& v : masked)
          if (!(v >= threshold)) v = kMinusInf;
        x = masked.data();
      }
      const size_t n = static_cast<size_t>(slice.size());
      const Winner winner = GumbelArgmax({x, n}, slice.begin, DrawOf(w), queue_->host_isa());
      mine[k] = {winner.value, static_cast<int32_t>(slice.begin + winner.index)};
    }
  });
  const size_t bytes = mine.size() * sizeof(Candidate);
  if (auto s = Exchange(group, std::as_bytes(std::span(mine)), std::vector<size_t>(ranks, bytes)); !s.ok()) return s;
  for (size_t k = 0; k < rows.size(); ++k) {
    Candidate best{kMinusInf, std::numeric_limits<int32_t>::max()};
    for (int r = 0; r < ranks; ++r) {
      Candidate c;
      Get(all_.data() + offsets_[r] + k * sizeof(Candidate), &c, 1);
      if (Before(c.value, c.id, best.value, best.id)) best = c;
    }
    // Bits of nothing but ones draw -infinity: then nobody is drawn before the best of those that may be.
    works[rows[k]].id = best.value == kMinusInf ? works[rows[k]].best.id : best.id;
  }
  return absl::OkStatus();
}

// Log-probabilities of the chosen ids: the rank that holds an id tells its raw logit.
absl::Status Sampler::Chosen(std::vector<Work>& works, Group& group, std::vector<RowResult>* results) {
  const int ranks = static_cast<int>(slices_.size());
  const Range slice = slices_[rank_];
  std::vector<float> mine;
  for (const Work& w : works) {
    if (!w.logprobs) continue;
    mine.push_back(w.id >= slice.begin && w.id < slice.end ? w.raw_row[w.id - slice.begin] : 0.0f);
  }
  if (!mine.empty()) {
    const size_t bytes = mine.size() * sizeof(float);
    if (auto s = Exchange(group, std::as_bytes(std::span(mine)), std::vector<size_t>(ranks, bytes)); !s.ok()) return s;
  }
  results->clear();
  size_t k = 0;
  for (const Work& w : works) {
    RowResult& out = results->emplace_back();
    out.finite = w.finite;
    out.sample.id = w.id;
    if (!w.logprobs) continue;
    int owner = 0;
    while (owner + 1 < ranks && w.id >= slices_[owner].end) ++owner;
    float raw;
    Get(all_.data() + offsets_[owner] + k++ * sizeof(float), &raw, 1);
    out.sample.logprob = raw - w.raw_lse;
    for (const Candidate& c : w.raw_top) out.sample.top.emplace_back(c.id, c.value - w.raw_lse);
  }
  return absl::OkStatus();
}

absl::Status Sampler::Run(float* logits, std::span<const LogitRow> rows, Group& group,
                          std::vector<RowResult>* results) {
  const Failpoint at_sample(Wall::kSample);
  std::vector<Work> works(rows.size());
  const int ranks = static_cast<int>(slices_.size());
  std::vector<size_t> sizes(ranks, 0), at;
  for (size_t i = 0; i < rows.size(); ++i) {
    Work& w = works[i];
    w.row = &rows[i];
    const Sampling& p = *rows[i].state->params;
    const bool draw = rows[i].known_id < 0;
    w.logprobs = p.top_logprobs >= 0 || !draw;
    w.tops = std::max(p.top_logprobs, 0);
    w.greedy = p.temperature == 0;
    w.listed = draw && !w.greedy && (p.top_k > 0 || p.top_p < 1);
    w.full_lse = w.listed && p.top_p < 1 && p.top_k == 0 && p.min_p == 0;
    w.draw_all = draw && !w.greedy && !w.listed;
    w.wanted = std::min<int64_t>(p.top_k > 0 ? p.top_k : kFirstCandidates, slices_.back().end);
    at.push_back(sizes[rank_]);
    for (int r = 0; r < ranks; ++r) sizes[r] += FirstBytes(w, r);
  }
  mine_.resize(sizes[rank_]);
  const int64_t n = slices_[rank_].size();
  queue_->OnHost(rows.size(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      works[i].finite = AllFinite({Row(logits, i), static_cast<size_t>(n)}, queue_->host_isa());
      Prepare(logits + i * n, raw_ + i * n, &works[i]);
      First(Row(logits, i), &works[i], mine_.data() + at[i]);
    }
  });
  if (auto s = Exchange(group, mine_, sizes); !s.ok()) return s;
  MergeFirst(works);
  for (Work& w : works) w.id = w.row->known_id >= 0 ? w.row->known_id : w.best.id;
  if (auto s = Widen(logits, works, group); !s.ok()) return s;
  if (auto s = DrawAll(logits, works, group); !s.ok()) return s;
  return Chosen(works, group, results);
}

}  // namespace pangea
