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

Sample FakeSample(uint64_t prefix, const SequenceSampling& sampling, const std::vector<int32_t>& generated,
                  const AllowedIds* allowed) {
  uint64_t hash = Mix(Mix(prefix, sampling.params->seed), sampling.choice);
  for (const int32_t id : generated) hash = Mix(hash, id);  // as penalties and min_tokens depend on them
  for (const int32_t id : sampling.prompt_ids) hash = Mix(hash, id);
  Sample sample;
  sample.id = static_cast<int32_t>(hash % kFakeVocab);
  while (allowed && !allowed->Contains(sample.id)) sample.id = (sample.id + 1) % kFakeVocab;
  sample.logprob = -static_cast<float>((hash >> 20) % 1000);
  for (int i = 0; i < sampling.params->top_logprobs; ++i)
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

AllowedIds FakeMask(uint64_t seed, int choice, int index) {
  const uint64_t hash = Mix(Mix(seed, choice), index);
  AllowedIds allowed{.others = (hash & 3) == 0};
  const uint64_t some = (Mix(hash, 1) & Mix(hash, 2)) | uint64_t{1} << (hash >> 8) % 64;
  if (!allowed.others || (hash & 4) != 0) allowed.words.emplace_back(0, some);
  if ((hash & 8) != 0) allowed.words.emplace_back(1, Mix(hash, 3) & ((uint64_t{1} << (kFakeVocab - 64)) - 1));
  return allowed;
}

bool SameSample(const Sample& a, const Sample& b) { return a.id == b.id && a.logprob == b.logprob && a.top == b.top; }

namespace {

// Seeds ending in 13 stand for NaN in the logits after a few ids.
bool Poisoned(const SequenceSampling& sampling, size_t generated) {
  return sampling.params->seed % 100 == 13 && generated >= 2;
}

}  // namespace

Expected ExpectedOf(const SequenceRequest& request, int choice, int capacity) {
  Expected expected;
  SequenceSampling sampling{.params = request.sampling, .choice = choice};
  if (sampling.params->repetition_penalty != 1) sampling.prompt_ids = request.prompt;
  uint64_t prefix = 0;
  for (const int32_t id : request.prompt) prefix = Mix(prefix, id);
  std::vector<int32_t> generated;
  const int limit = std::min(request.max_tokens, capacity - static_cast<int>(request.prompt.size()));
  while (static_cast<int>(generated.size()) < limit) {
    if (Poisoned(sampling, generated.size())) {
      expected.fails = true;
      return expected;
    }
    const AllowedIds mask = FakeMask(sampling.params->seed, choice, static_cast<int>(generated.size()));
    const Sample sample = FakeSample(prefix, sampling, generated, request.masked ? &mask : nullptr);
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
    expected.push_back(FakePromptSample(prefix, request.prompt[i + 1], *request.sampling));
  }
  return expected;
}

FakeAgents::FakeAgents(const EngineOptions& options) : options_(options) { MakePages(); }

void FakeAgents::MakePages() {
  pages_.clear();
  for (const CacheGroup& group : options_.groups)
    pages_.emplace_back(group.blocks + group.swap_blocks, std::vector<Slot>(options_.block_tokens));
}

void FakeAgents::Fault(const std::string& what) {
  if (fault_.empty()) fault_ = what;
}

StepResult FakeAgents::TakeResult() {
  Pending pending = std::move(results_.front());
  results_.pop_front();
  for (const SequenceResult& part : pending.result.sequences) {
    const auto known = sequences_.find(part.id);
    if (part.status.ok() || known == sequences_.end()) continue;
    for (size_t group = 0; group < pages_.size(); ++group) {
      const std::vector<int32_t>& table = known->second.tables[group];
      for (size_t i = known->second.first / options_.block_tokens; i < table.size(); ++i) {
        if (table[i] != kNoBlock) tainted_.insert({group, table[i]});
      }
    }
  }
  // What the step's rows were the last to look into may belong to others from now on.
  for (const auto& [id, end] : pending.ends) {
    const auto known = sequences_.find(id);
    if (known == sequences_.end()) continue;
    for (size_t group = 0; group < pages_.size(); ++group) {
      std::vector<int32_t>& table = known->second.tables[group];
      for (int i = std::min<int>(First(group, end), table.size()) - 1; i >= 0 && table[i] != kNoBlock; --i) {
        table[i] = kNoBlock;
        ++given_back;
      }
    }
  }
  return std::move(pending.result);
}

void FakeAgents::Break() {
  broken_ = true;
  void_steps += static_cast<int>(results_.size());
  for (Pending& pending : results_) {
    torn_.insert(torn_.end(), pending.written.begin(), pending.written.end());
    if (pending.undrawn.empty()) late.push_back(std::move(pending.result));  // else it waits for ever
  }
  results_.clear();
}

void FakeAgents::BeginEpoch(uint64_t epoch, const EngineLayout* layout, bool pages) {
  Break();
  broken_ = false;
  epoch_ = epoch;
  next_number_ = 1;
  for (const auto& [id, known] : sequences_) ended_.insert(id);
  before_.clear();
  for (auto& [id, known] : sequences_) {
    if (pages) before_[{known.sampling.params.get(), known.sampling.choice}] = std::move(known);
  }
  sequences_.clear();
  if (pages) {
    for (const auto& [block, slot] : torn_) pages_[block.first][block.second][slot] = Slot();
  } else {
    if (layout != nullptr) static_cast<EngineLayout&>(options_) = *layout;
    tainted_.clear();
    MakePages();
  }
  torn_.clear();
}

bool FakeAgents::Has(const Known& known, Block block) {
  const std::vector<int32_t>& table = known.tables[block.first];
  return std::find(table.begin(), table.end(), block.second) != table.end();
}

bool FakeAgents::InATable(Block block, uint64_t but) const {
  return std::any_of(sequences_.begin(), sequences_.end(),
                     [&](const auto& entry) { return entry.first != but && Has(entry.second, block); });
}

void FakeAgents::Send(const Step& step) {
  if (!fault_.empty()) return;
  if (broken_) {
    ++void_steps;
    return;
  }
  const StepLimits limits{.vocab = kFakeVocab,
                          .block_tokens = options_.block_tokens,
                          .max_rows = options_.max_batch_tokens,
                          .max_sequences = options_.max_sequences,
                          .max_position = options_.context,
                          .groups = options_.groups};
  if (const absl::Status valid = Validate(step, limits); !valid.ok()) return Fault(std::string(valid.message()));
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
  const Block from{copy.group, copy.from}, to{copy.group, copy.to};
  const int blocks = options_.groups[copy.group].blocks;
  MayWrite(0, to);
  pages_[copy.group][copy.to] = pages_[copy.group][copy.from];
  for (int slot = 0; slot < options_.block_tokens; ++slot) pending->written.emplace_back(to, slot);
  const bool swaps = copy.from >= blocks || copy.to >= blocks;
  if (swaps && tainted_.contains(from)) {
    tainted_.insert(to);
  } else {
    tainted_.erase(to);
  }
  if (copy.to >= blocks) {
    if (copy.from >= blocks) Fault("a copy within the swap blocks");
    ++swap_outs;
    return;  // the source may have another owner by now; whether the right rows were kept shows at the swap-in
  }
  if (!copy_targets_.emplace(to, copy.from).second) Fault("two copies into one block");
  if (swaps) {
    ++swap_ins;
    return;
  }
  ++copies;
  // The source is named by this step: on behalf of those that own it.
  for (const auto& [id, known] : sequences_) {
    if (Has(known, from)) pending->named[from].insert(id);
  }
  if (!pending->named.contains(from)) pending->named[from].insert(0);  // cached: no sequence has it
}

// A block may be written by a sequence only when no other live sequence has it and no outstanding step names it for
// another.
void FakeAgents::MayWrite(uint64_t id, Block block) {
  const std::string name = absl::StrCat("block ", block.second, " of group ", block.first);
  for (const auto& [other, known] : sequences_) {
    if (other != id && Has(known, block))
      return Fault(absl::StrCat("sequence ", id, " writes ", name, " of sequence ", other));
  }
  for (const Pending& pending : results_) {
    const auto named = pending.named.find(block);
    if (named == pending.named.end()) continue;
    for (const uint64_t other : named->second) {
      if (other != id) {
        return Fault(absl::StrCat(name, " was given to sequence ", id, " while outstanding step ",
                                  pending.result.number, " names it for sequence ", other));
      }
    }
  }
}

const FakeAgents::Slot* FakeAgents::At(const Known& known, int group, int position) const {
  const int32_t block = known.tables[group][position / options_.block_tokens];
  return block == kNoBlock ? nullptr : &pages_[group][block][position % options_.block_tokens];
}

void FakeAgents::UpdateTable(const StepSequence& part, Known* known) {
  if (part.blocks.size() != pages_.size()) return Fault("a table of every cache group is expected");
  if (part.whole_tables) known->tables.clear();
  known->tables.resize(pages_.size());
  for (size_t group = 0; group < pages_.size(); ++group) {
    std::vector<int32_t>& table = known->tables[group];
    for (const int32_t block : part.blocks[group]) {
      if (block != kNoBlock && std::find(table.begin(), table.end(), block) != table.end())
        return Fault("a block twice in one table");
      table.push_back(block);
    }
    if (part.start + part.rows() > static_cast<int>(table.size()) * options_.block_tokens)
      return Fault(absl::StrCat("sequence ", part.id, ": the table does not cover its positions"));
  }
}

void FakeAgents::Write(uint64_t id, Block block, int slot, Slot content, bool again, Pending* pending) {
  if (block.second == kNoBlock) return Fault("a row is written to a block that was given back");
  MayWrite(id, block);
  tainted_.erase(block);
  Slot& stored = pages_[block.first][block.second][slot];
  if (again && (stored.prefix != content.prefix || stored.id != content.id))
    Fault("a row written twice with other ids");
  stored = content;
  pending->written.emplace_back(block, slot);
}

// Whether the sequence goes on with the pages that it had in the epoch before: nobody shares anything with it anew.
bool FakeAgents::Continues(const StepSequence& part, const Known& known, const Known& before) const {
  const int blocks = (part.start + options_.block_tokens - 1) / options_.block_tokens;
  for (size_t group = 0; group < pages_.size() && part.start > 0; ++group) {
    const std::vector<int32_t>&now = known.tables[group], &then = before.tables[group];
    if (static_cast<int>(then.size()) < blocks || !std::equal(now.begin(), now.begin() + blocks, then.begin()))
      return false;
  }
  return part.start > 0;
}

void FakeAgents::CheckShared(const StepSequence& part, const Known& known) {
  for (size_t group = 0; group < pages_.size(); ++group) {
    for (int i = 0; i < part.start / options_.block_tokens; ++i) {
      const Block block{group, known.tables[group][i]};
      const auto copied = copy_targets_.find(block);
      const bool own = copied != copy_targets_.end() && copied->second >= options_.groups[group].blocks;  // from swap
      if (!own && tainted_.contains(block) && !InATable(block, part.id)) Fault("K/V of a failed sequence was shared");
    }
  }
}

// Attention sees the prefix and nothing else: every slot continues the one before it. Groups with a window have the
// same in what they look into. The hash of the prefix comes back.
uint64_t FakeAgents::CheckPrefix(const StepSequence& part, const Known& known) {
  uint64_t prefix = 0;
  for (int position = 0; position < part.start; ++position) {
    const Slot* slot = At(known, 0, position);
    if (slot == nullptr || slot->id < 0 || slot->prefix != Mix(prefix, slot->id)) {
      Fault(absl::StrCat("sequence ", part.id, ": position ", position, " of its table is not its own"));
      return 0;
    }
    prefix = slot->prefix;
    for (size_t group = 1; group < pages_.size(); ++group) {
      const int window = options_.groups[group].window;
      if (window > 0 && position <= part.start - window) continue;
      const Slot* other = At(known, static_cast<int>(group), position);
      if (other == nullptr || other->id != slot->id || other->prefix != slot->prefix)
        Fault(absl::StrCat("sequence ", part.id, ": position ", position, " is not its own in group ", group));
    }
  }
  return prefix;
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
    if (static_cast<int>(sequences_.size()) > options_.max_sequences) return Fault("more sequences than slots");
    known.first = known.length = part.start;
    const auto before = before_.find({part.sampling->params.get(), part.sampling->choice});
    if (before != before_.end() && Continues(part, known, before->second)) {
      known.first = std::min(known.first, before->second.first);
      ++rewound;
    } else {
      shared_tables += part.start > 0;
      CheckShared(part, known);
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
  const int end = part.start + part.rows();
  pending->ends[part.id] = end;
  for (size_t group = 0; group < pages_.size(); ++group) {
    for (int i = First(group, part.start); i * options_.block_tokens < end; ++i)
      pending->named[{group, known.tables[group][i]}].insert(part.id);
  }
  uint64_t prefix = CheckPrefix(part, known);
  SequenceResult result;
  result.id = part.id;
  for (int i = 0; i < part.rows() && fault_.empty(); ++i) {
    const int position = part.start + i;
    prefix = Mix(prefix, part.ids[i]);
    for (int group = 0; group < static_cast<int>(pages_.size()); ++group) {
      Write(part.id, {group, known.tables[group][position / options_.block_tokens]}, position % options_.block_tokens,
            {prefix, part.ids[i]}, position < known.length, pending);
    }
    if (part.logits != LogitRows::kAll) continue;
    const int32_t next = i + 1 < part.rows() ? part.ids[i + 1] : part.next_id;
    if (next >= 0) result.prompt.push_back(FakePromptSample(prefix, next, *known.sampling.params));
  }
  known.length = std::max(known.length, end);
  if (part.logits == LogitRows::kNone || !fault_.empty()) return;
  if (part.masked) {
    pending->undrawn[part.id] = {pending->result.sequences.size(), prefix};
  } else if (part.logits == LogitRows::kLast || part.next_id < 0) {
    Draw(prefix, nullptr, &known, &result);
  }
  pending->result.sequences.push_back(std::move(result));
}

void FakeAgents::Draw(uint64_t prefix, const AllowedIds* allowed, Known* known, SequenceResult* result) {
  if (Poisoned(known->sampling, known->generated.size())) {
    result->status = absl::InternalError("logits are not numbers");
    known->generated.push_back(0);  // a row that ran ahead reads something, whatever it is
  } else {
    result->samples.push_back(FakeSample(prefix, known->sampling, known->generated, allowed));
    known->generated.push_back(result->samples.back().id);
  }
}

void FakeAgents::SendMask(const Mask& mask) {
  if (broken_ || !fault_.empty()) return;
  if (mask.epoch != epoch_) return Fault("a mask of another epoch");
  const StepLimits limits{.vocab = kFakeVocab};
  if (const absl::Status valid = Validate(mask, limits); !valid.ok()) return Fault(std::string(valid.message()));
  const auto pending =
      std::find_if(results_.begin(), results_.end(), [&](const Pending& p) { return p.result.number == mask.step; });
  if (pending == results_.end()) return Fault(absl::StrCat("a mask for step ", mask.step, ", which is not under way"));
  const auto undrawn = pending->undrawn.find(mask.sequence);
  if (undrawn == pending->undrawn.end()) return Fault("a mask that nobody waits for");
  const auto [index, prefix] = undrawn->second;
  pending->undrawn.erase(undrawn);
  const auto known = sequences_.find(mask.sequence);
  if (known == sequences_.end()) return Fault("a mask for a sequence that has ended");
  Draw(prefix, &mask.allowed, &known->second, &pending->result.sequences[index]);
  ++masks;
}

}  // namespace pangea
