#include "master/schedule/fake_agents.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace pangea {

uint64_t Mix(uint64_t a, uint64_t b) {
  uint64_t x = a * 0x9E3779B97F4A7C15u + b + 0x632BE59BD9B4E019u;
  x ^= x >> 29;
  x *= 0xBF58476D1CE4E5B9u;
  return x ^ (x >> 32);
}

Sample FakeSample(uint64_t prefix, const Sampling& sampling, const std::vector<int32_t>& generated) {
  uint64_t hash = Mix(Mix(prefix, sampling.seed), sampling.choice);
  for (const int32_t id : generated) hash = Mix(hash, id);  // as penalties and min_tokens depend on them
  for (const int32_t id : sampling.prompt_ids) hash = Mix(hash, id);
  Sample sample;
  sample.id = static_cast<int32_t>(hash % kFakeVocab);
  sample.logprob = -static_cast<float>((hash >> 20) % 1000);
  for (int i = 0; i < sampling.top_logprobs; ++i)
    sample.top.emplace_back(i, -static_cast<float>((hash >> (8 + i)) % 100));
  return sample;
}

Sample FakePromptSample(uint64_t prefix, int32_t next_id, const Sampling& sampling) {
  Sample sample;
  sample.id = next_id;
  sample.logprob = -static_cast<float>(Mix(prefix, next_id) % 1000);
  for (int i = 0; i < sampling.top_logprobs; ++i)
    sample.top.emplace_back(i, -static_cast<float>((prefix >> (8 + i)) % 100));
  return sample;
}

bool SameSample(const Sample& a, const Sample& b) { return a.id == b.id && a.logprob == b.logprob && a.top == b.top; }

namespace {

// Seeds ending in 13 stand for NaN in the logits after a few ids.
bool Poisoned(const Sampling& sampling, size_t generated) { return sampling.seed % 100 == 13 && generated >= 2; }

}  // namespace

Expected ExpectedOf(const SequenceRequest& request, int choice, int capacity) {
  Expected expected;
  Sampling sampling = request.sampling;
  sampling.choice = choice;
  if (sampling.repetition_penalty != 1) sampling.prompt_ids = request.prompt;
  uint64_t prefix = 0;
  for (const int32_t id : request.prompt) prefix = Mix(prefix, id);
  std::vector<int32_t> generated;
  const int limit = std::min(request.max_tokens, capacity - static_cast<int>(request.prompt.size()));
  while (static_cast<int>(generated.size()) < limit) {
    if (Poisoned(sampling, generated.size())) {
      expected.fails = true;
      return expected;
    }
    const Sample sample = FakeSample(prefix, sampling, generated);
    expected.samples.push_back(sample);
    generated.push_back(sample.id);
    prefix = Mix(prefix, sample.id);
    const auto& stops = request.stop_ids;
    if (std::find(stops.begin(), stops.end(), sample.id) != stops.end()) {
      expected.finish = FinishReason::kStop;
      return expected;
    }
  }
  expected.finish = FinishReason::kLength;
  return expected;
}

std::vector<Sample> ExpectedPrompt(const SequenceRequest& request) {
  std::vector<Sample> expected;
  uint64_t prefix = 0;
  for (size_t i = 0; i + 1 < request.prompt.size(); ++i) {
    prefix = Mix(prefix, request.prompt[i]);
    expected.push_back(FakePromptSample(prefix, request.prompt[i + 1], request.sampling));
  }
  return expected;
}

FakeAgents::FakeAgents(const EngineOptions& options)
    : options_(options), pages_(options.blocks + options.swap_blocks, std::vector<Slot>(options.block_tokens)) {}

void FakeAgents::Fault(const std::string& what) {
  if (fault_.empty()) fault_ = what;
}

StepResult FakeAgents::TakeResult() {
  StepResult result = std::move(results_.front().result);
  results_.pop_front();
  for (const SequenceResult& part : result.sequences) {
    const auto known = sequences_.find(part.id);
    if (part.status.ok() || known == sequences_.end()) continue;
    for (size_t i = known->second.first / options_.block_tokens; i < known->second.table.size(); ++i) {
      tainted_.insert(known->second.table[i]);
    }
  }
  return result;
}

void FakeAgents::Break() {
  broken_ = true;
  void_steps += static_cast<int>(results_.size());
  for (Pending& pending : results_) late.push_back(std::move(pending.result));
  results_.clear();
}

void FakeAgents::BeginEpoch(uint64_t epoch) {
  Break();
  broken_ = false;
  epoch_ = epoch;
  next_number_ = 1;
  for (const auto& [id, known] : sequences_) ended_.insert(id);
  sequences_.clear();
  tainted_.clear();
  for (std::vector<Slot>& page : pages_) page.assign(page.size(), Slot());
}

bool FakeAgents::InATable(int32_t block, uint64_t but) const {
  return std::any_of(sequences_.begin(), sequences_.end(), [&](const auto& entry) {
    const std::vector<int32_t>& table = entry.second.table;
    return entry.first != but && std::find(table.begin(), table.end(), block) != table.end();
  });
}

void FakeAgents::Send(const Step& step) {
  if (!fault_.empty()) return;
  if (broken_) {
    ++void_steps;
    return;
  }
  const StepLimits limits{.vocab = kFakeVocab,
                          .blocks = options_.blocks,
                          .swap_blocks = options_.swap_blocks,
                          .block_tokens = options_.block_tokens,
                          .cache_groups = 1,
                          .max_rows = options_.max_batch_tokens,
                          .max_sequences = options_.max_sequences,
                          .max_position = options_.context};
  if (const absl::Status valid = Validate(step, limits); !valid.ok()) Fault(std::string(valid.message()));
  if (step.number != next_number_++) Fault(absl::StrCat("step ", step.number, ": a gap in the numbers"));
  if (step.epoch != epoch_) Fault("wrong epoch");
  if (static_cast<int>(results_.size()) > options_.stages) Fault("more than stages + 1 steps in flight");
  if (step.sequences.empty()) Fault("empty step");
  for (const uint64_t id : step.ended) {
    if (sequences_.erase(id) == 0) Fault("ended a sequence that is not known");
    ended_.insert(id);
  }
  Pending pending;
  pending.result.epoch = step.epoch;
  pending.result.number = step.number;
  copy_targets_.clear();
  for (const BlockCopy& copy : step.copies) Copy(copy, &pending);
  for (const StepSequence& part : step.sequences) {
    if (!fault_.empty()) return;
    Run(part, &pending);
  }
  for (const auto& [block, from] : copy_targets_) {
    if (!pending.named.contains(block)) Fault("a copy that nobody uses");
  }
  results_.push_back(std::move(pending));
}

void FakeAgents::Copy(const BlockCopy& copy, Pending* pending) {
  const int pages = static_cast<int>(pages_.size());
  if (copy.group != 0 || copy.from < 0 || copy.to < 0 || copy.from >= pages || copy.to >= pages) {
    return Fault("copy out of range");
  }
  MayWrite(0, copy.to);
  pages_[copy.to] = pages_[copy.from];
  const bool swaps = copy.from >= options_.blocks || copy.to >= options_.blocks;
  if (swaps && tainted_.contains(copy.from)) {
    tainted_.insert(copy.to);
  } else {
    tainted_.erase(copy.to);
  }
  if (copy.to >= options_.blocks) {
    if (copy.from >= options_.blocks) Fault("a copy within the swap blocks");
    ++swap_outs;
    return;  // the source may have another owner by now; whether the right rows were kept shows at the swap-in
  }
  if (swaps) {
    ++swap_ins;
    if (!copy_targets_.emplace(copy.to, copy.from).second) Fault("two copies into one block");
    return;
  }
  if (!copy_targets_.emplace(copy.to, copy.from).second) Fault("two copies into one block");
  ++copies;
  // The source is named by this step: on behalf of those that own it.
  for (const auto& [id, known] : sequences_) {
    if (std::find(known.table.begin(), known.table.end(), copy.from) != known.table.end())
      pending->named[copy.from].insert(id);
  }
  if (!pending->named.contains(copy.from)) pending->named[copy.from].insert(0);  // cached: no sequence has it
}

// A block may be written by a sequence only when no other live sequence has it and no outstanding step names it for
// another.
void FakeAgents::MayWrite(uint64_t id, int32_t block) {
  for (const auto& [other, known] : sequences_) {
    if (other != id && std::find(known.table.begin(), known.table.end(), block) != known.table.end()) {
      return Fault(absl::StrCat("sequence ", id, " writes block ", block, " of sequence ", other));
    }
  }
  for (const Pending& pending : results_) {
    const auto named = pending.named.find(block);
    if (named == pending.named.end()) continue;
    for (const uint64_t other : named->second) {
      if (other != id) {
        return Fault(absl::StrCat("block ", block, " was given to sequence ", id, " while outstanding step ",
                                  pending.result.number, " names it for sequence ", other));
      }
    }
  }
}

const FakeAgents::Slot& FakeAgents::At(const Known& known, int position) const {
  return pages_[known.table[position / options_.block_tokens]][position % options_.block_tokens];
}

void FakeAgents::UpdateTable(const StepSequence& part, Known* known) {
  if (part.blocks.size() != 1) return Fault("one cache group is expected");
  if (part.whole_tables) known->table.clear();
  for (const int32_t block : part.blocks[0]) {
    if (block < 0 || block >= options_.blocks) return Fault("block out of range");
    if (std::find(known->table.begin(), known->table.end(), block) != known->table.end())
      return Fault("a block twice in one table");
    known->table.push_back(block);
  }
  if (part.start < 0 || part.start + part.rows() > static_cast<int>(known->table.size()) * options_.block_tokens) {
    Fault(absl::StrCat("sequence ", part.id, ": the table does not cover its positions"));
  }
}

void FakeAgents::Write(uint64_t id, int32_t block, int slot, Slot content, bool again) {
  MayWrite(id, block);
  tainted_.erase(block);
  Slot& stored = pages_[block][slot];
  if (again && (stored.prefix != content.prefix || stored.id != content.id))
    Fault("a row written twice with other ids");
  stored = content;
}

void FakeAgents::Run(const StepSequence& given, Pending* pending) {
  StepSequence part = given;
  const bool fresh = !sequences_.contains(part.id);
  if (fresh && ended_.contains(part.id)) Fault("an id that had ended is used again");
  if (fresh && (!part.whole_tables || !part.sampling)) Fault("a new sequence without its table or sampling");
  Known& known = sequences_[part.id];
  UpdateTable(part, &known);
  if (!fault_.empty()) return;
  if (fresh) {
    known.first = known.length = part.start;
    shared_tables += part.start > 0;
    for (int i = 0; i < part.start / options_.block_tokens; ++i) {
      const auto copied = copy_targets_.find(known.table[i]);
      const bool own = copied != copy_targets_.end() && copied->second >= options_.blocks;  // come back from swap
      if (!own && tainted_.contains(known.table[i]) && !InATable(known.table[i], part.id))
        Fault("K/V of a failed sequence was shared");
    }
  }
  if (part.sampling) {
    known.sampling = *part.sampling;
    known.generated = part.sampling->generated_ids;
    resumes += !known.generated.empty();
  }
  if (part.ids.empty()) {  // "your last sample"
    if (known.generated.empty()) return Fault("no sample yet");
    if (part.start != known.length) Fault("your last sample belongs after the newest row");
    part.ids = {known.generated.back()};
    ++ran_ahead;
  }
  if (part.start > known.length) Fault("a gap in the positions");
  for (int i = 0; i * options_.block_tokens < part.start + part.rows(); ++i)
    pending->named[known.table[i]].insert(part.id);

  // Attention sees the prefix and nothing else: every slot continues the one before it.
  uint64_t prefix = 0;
  for (int position = 0; position < part.start; ++position) {
    const Slot& slot = At(known, position);
    if (slot.id < 0 || slot.prefix != Mix(prefix, slot.id)) {
      return Fault(absl::StrCat("sequence ", part.id, ": position ", position, " of its table is not its own"));
    }
    prefix = slot.prefix;
  }
  SequenceResult result;
  result.id = part.id;
  for (int i = 0; i < part.rows(); ++i) {
    const int position = part.start + i;
    prefix = Mix(prefix, part.ids[i]);
    Write(part.id, known.table[position / options_.block_tokens], position % options_.block_tokens,
          {prefix, part.ids[i]}, position < known.length);
    if (part.logits != LogitRows::kAll) continue;
    const int32_t next = i + 1 < part.rows() ? part.ids[i + 1] : part.next_id;
    if (next >= 0) result.prompt.push_back(FakePromptSample(prefix, next, known.sampling));
  }
  known.length = std::max(known.length, part.start + part.rows());
  if (part.logits == LogitRows::kNone) return;
  if (part.logits == LogitRows::kLast || part.next_id < 0) {
    if (Poisoned(known.sampling, known.generated.size())) {
      result.status = absl::InternalError("logits are not numbers");
      known.generated.push_back(0);  // a row that ran ahead reads something, whatever it is
    } else {
      result.samples.push_back(FakeSample(prefix, known.sampling, known.generated));
      known.generated.push_back(result.samples.back().id);
    }
  }
  pending->result.sequences.push_back(std::move(result));
}

}  // namespace pangea
