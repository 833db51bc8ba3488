#include "agent/device_sampler.h"

#include <algorithm>
#include <limits>

#include "configs/failpoint.h"
#include "kernels/check.h"

namespace pangea {

DeviceSampler::DeviceSampler(const SamplingShape& shape, std::byte* memory, Queue* queue)
    : memory_(shape, memory), queue_(queue) {
  PANGEA_CHECK(CanSample(*queue) && shape.tops <= kMostListed);
}

void DeviceSampler::Begin(int slot, const SamplingState& state) {
  if (!state.params->NeedsCounts()) return;
  const int64_t vocab = memory_.shape.vocab;
  int32_t* const counts = memory_.counts + slot * vocab;
  CountIds({.counts = counts, .n = vocab}, *queue_);
  const auto count = [&](const std::vector<int32_t>& ids, bool in_prompt) {
    int32_t* const room = reinterpret_cast<int32_t*>(memory_.edits);  // for `vocab` at least
    for (size_t at = 0; at < ids.size(); at += static_cast<size_t>(vocab)) {
      const int64_t n = std::min<int64_t>(vocab, static_cast<int64_t>(ids.size() - at));
      queue_->Upload(room, ids.data() + at, n * static_cast<int64_t>(sizeof(int32_t)));
      CountIds({.counts = counts, .ids = room, .n = n, .in_prompt = in_prompt}, *queue_);
    }
  };
  std::vector<int32_t> generated;
  for (const auto& [id, times] : state.generated) generated.insert(generated.end(), static_cast<size_t>(times), id);
  count(state.prompt, true);
  count(generated, false);
}

// The row's biases and bans, each id once.
void DeviceSampler::AddEdits(const LogitRow& row) {
  const Sampling& p = *row.state->params;
  const size_t first = edits_.size();
  const auto add = [&](int32_t id, float bias) {
    if (id >= 0 && id < memory_.shape.vocab) edits_.push_back({id, bias});
  };
  for (const auto& [id, bias] : p.logit_bias) add(id, bias);
  if (row.BansEnds()) {
    for (const int32_t id : p.end_ids) add(id, -std::numeric_limits<float>::infinity());
  }
  const auto own = edits_.begin() + static_cast<std::ptrdiff_t>(first);
  std::sort(own, edits_.end(), [](const LogitEdit& a, const LogitEdit& b) {
    return a.id < b.id || (a.id == b.id && a.bias < b.bias);  // a ban before a bias, and so it stays
  });
  edits_.erase(std::unique(own, edits_.end(), [](const auto& a, const auto& b) { return a.id == b.id; }), edits_.end());
}

void DeviceSampler::Add(const Row& row, size_t first_edit) {
  const Sampling& p = *row.logits.state->params;
  const bool draws = row.logits.known_id < 0;
  SampleRow& told = told_.emplace_back();
  told = {.seed = p.seed,
          .slot = row.slot,
          .position = row.logits.position,
          .choice = row.logits.state->choice,
          .known_id = row.logits.known_id,
          .temperature = p.temperature,
          .top_p = p.top_p,
          .min_p = p.min_p,
          .presence_penalty = p.presence_penalty,
          .frequency_penalty = p.frequency_penalty,
          .repetition_penalty = p.repetition_penalty,
          .top_k = p.top_k,
          .tops = draws ? p.top_logprobs : std::max(p.top_logprobs, 0),
          .first_edit = static_cast<int32_t>(first_edit),
          .edits = static_cast<int32_t>(edits_.size() - first_edit),
          .mask = -1,
          .counts = draws && p.NeedsCounts() ? 1 : 0};
  if (row.logits.mask == nullptr || !draws) return;
  told.mask = static_cast<int32_t>(told_.size()) - 1;
  const AllowedIds& mask = *row.logits.mask;
  mask_.assign(static_cast<size_t>(memory_.mask_words()), mask.others ? ~uint64_t{0} : 0);
  for (const auto& [word, allowed] : mask.words) mask_[static_cast<size_t>(word)] = allowed;
  queue_->Upload(memory_.masks + told.mask * memory_.mask_words(), mask_.data(), memory_.mask_words() * 8);
}

void DeviceSampler::MakeRoom(std::span<const Row> rows, Drawn* drawn) {
  drawn->most = 0;
  for (const Row& row : rows)
    drawn->most = std::max(drawn->most, static_cast<size_t>(std::max(row.logits.state->params->top_logprobs, 0)));
  drawn->rows.resize(rows.size());
  drawn->tops.resize(rows.size() * drawn->most);
}

void DeviceSampler::Draw(const On& on, std::span<const Row> rows, Drawn* drawn) {
  MakeRoom(rows, drawn);
  const int64_t vocab = memory_.shape.vocab;
  for (size_t begin = 0; begin < rows.size();) {
    SampleArgs args{.tops = static_cast<int64_t>(drawn->most)};
    const int64_t first = static_cast<int64_t>(begin) * vocab;
    const size_t n = Tell({on.logits + first, on.edited + first, on.last}, rows.subspan(begin), 0, &args);
    SampleIds(args, *queue_);
    Fetch(args, n, begin, drawn);
    begin += n;
  }
}

size_t DeviceSampler::Tell(const On& on, std::span<const Row> rows, size_t padded, SampleArgs* args) {
  const Failpoint at_sample(Wall::kSample);
  PANGEA_CHECK(static_cast<int64_t>(std::max(rows.size(), padded)) <= memory_.shape.rows);
  told_.clear();
  edits_.clear();
  size_t n = 0;
  for (; n < rows.size(); ++n) {
    const size_t first = edits_.size();
    if (rows[n].logits.known_id < 0) AddEdits(rows[n].logits);
    if (static_cast<int64_t>(edits_.size()) > memory_.shape.vocab) {
      edits_.resize(first);
      break;
    }
    Add(rows[n], first);
  }
  while (told_.size() < padded) told_.push_back({.known_id = 0, .tops = -1, .mask = -1});
  args->memory = &memory_;
  args->logits = on.logits;
  args->edited = on.edited;
  args->last = on.last;
  args->rows = static_cast<int64_t>(told_.size());
  for (const SampleRow& row : told_) {
    args->cuts |= row.cuts();
    args->draws |= row.draws() && !row.greedy();
    args->logprobs |= row.tops >= 0;
  }
  queue_->Upload(memory_.rows, told_.data(), args->rows * static_cast<int64_t>(sizeof(SampleRow)));
  queue_->Upload(memory_.edits, edits_.data(), static_cast<int64_t>(edits_.size() * sizeof(LogitEdit)));
  return n;
}

void DeviceSampler::Fetch(const SampleArgs& args, size_t rows, size_t begin, Drawn* drawn) {
  queue_->Download(drawn->rows.data() + begin, memory_.sampled, static_cast<int64_t>(rows * sizeof(SampledRow)));
  queue_->Download(drawn->tops.data() + begin * drawn->most, memory_.tops,
                   static_cast<int64_t>(rows) * args.tops * static_cast<int64_t>(sizeof(TopLogit)));
}

RowResult DeviceSampler::Drawn::Result(size_t row) const {
  const SampledRow& told = rows[row];
  RowResult result{.sample = {.id = told.id, .logprob = told.logprob}, .finite = told.finite != 0};
  for (size_t i = 0; i < static_cast<size_t>(told.tops); ++i) {
    const TopLogit& top = tops[row * most + i];
    result.sample.top.emplace_back(top.id, top.logprob);
  }
  return result;
}

}  // namespace pangea
