#include "pipeline/step.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"

namespace pangea {
namespace {

template <typename... Parts>
absl::Status Invalid(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

absl::Status CheckIds(const std::string& what, absl::Span<const int32_t> ids, int64_t most, int32_t vocab) {
  if (static_cast<int64_t>(ids.size()) > most) return Invalid(what, ": has ", ids.size(), " ids, at most ", most);
  for (const int32_t id : ids) {
    if (id < 0 || id >= vocab) return Invalid(what, ": id ", id, " is outside the vocabulary of ", vocab);
  }
  return absl::OkStatus();
}

absl::Status CheckSampling(const std::string& what, const SequenceSampling& sampling, const StepLimits& limits) {
  const Sampling& s = *sampling.params;
  const auto range = [&](const char* name, double value, double low, double high) {
    if (!(value >= low && value <= high))
      return Invalid(what, ".", name, ": is ", value, ", must be from ", low, " to ", high);
    return absl::OkStatus();
  };
  constexpr double kMost = 1e30;
  for (const auto& status :
       {range("temperature", s.temperature, 0, kMost), range("top_p", s.top_p, 0, 1),
        range("top_k", s.top_k, 0, INT32_MAX), range("min_p", s.min_p, 0, 1),
        range("presence_penalty", s.presence_penalty, -kMost, kMost),
        range("frequency_penalty", s.frequency_penalty, -kMost, kMost), range("choice", sampling.choice, 0, INT32_MAX),
        range("top_logprobs", s.top_logprobs, -1, limits.vocab), range("min_tokens", s.min_tokens, 0, INT32_MAX)}) {
    if (!status.ok()) return status;
  }
  if (!(s.repetition_penalty > 0 && s.repetition_penalty <= kMost))
    return Invalid(what, ".repetition_penalty: is ", s.repetition_penalty, ", must be above 0");
  if (absl::Status status = CheckIds(what + ".end_ids", s.end_ids, limits.vocab, limits.vocab); !status.ok())
    return status;
  if (absl::Status status = CheckIds(what + ".prompt_ids", sampling.prompt_ids, limits.max_position, limits.vocab);
      !status.ok())
    return status;
  if (absl::Status status =
          CheckIds(what + ".generated_ids", sampling.generated_ids, limits.max_position, limits.vocab);
      !status.ok())
    return status;
  if (static_cast<int64_t>(s.logit_bias.size()) > limits.vocab)
    return Invalid(what, ".logit_bias: has ", s.logit_bias.size(), " entries, at most ", limits.vocab);
  int32_t before = -1;
  for (const auto& [id, bias] : s.logit_bias) {
    if (id < 0 || id >= limits.vocab)
      return Invalid(what, ".logit_bias: id ", id, " is outside the vocabulary of ", limits.vocab);
    if (id <= before) return Invalid(what, ".logit_bias: ids must ascend; ", id, " follows ", before);
    if (!std::isfinite(bias)) return Invalid(what, ".logit_bias: the bias of id ", id, " is not finite");
    before = id;
  }
  return absl::OkStatus();
}

absl::Status CheckBlocks(const std::string& what, const StepSequence& sequence, const StepLimits& limits) {
  if (sequence.blocks.size() > limits.groups.size()) {
    return Invalid(what, ".blocks: has ", sequence.blocks.size(), " cache groups, at most ", limits.groups.size());
  }
  if (sequence.whole_tables && sequence.blocks.size() != limits.groups.size()) {
    return Invalid(what, ".blocks: whole tables must be given for all ", limits.groups.size(), " cache groups");
  }
  if (!sequence.blocks.empty() && sequence.blocks.size() != limits.groups.size()) {
    return Invalid(what, ".blocks: has ", sequence.blocks.size(), " cache groups, must name blocks of all ",
                   limits.groups.size());
  }
  const int64_t most = (int64_t{limits.max_position} + limits.block_tokens - 1) / limits.block_tokens;
  for (size_t g = 0; g < sequence.blocks.size(); ++g) {
    const std::vector<int32_t>& blocks = sequence.blocks[g];
    const CacheGroup& group = limits.groups[g];
    if (static_cast<int64_t>(blocks.size()) > most)
      return Invalid(what, ".blocks: has ", blocks.size(), " blocks, at most ", most);
    if (blocks.size() != sequence.blocks[0].size())
      return Invalid(what, ".blocks: cache group ", g, " has another number of blocks than the first");
    const size_t first = sequence.whole_tables ? group.FirstBlock(sequence.start, limits.block_tokens) : 0;
    std::set<int32_t> once;
    for (size_t i = 0; i < blocks.size(); ++i) {
      const int32_t block = blocks[i];
      if (block == kNoBlock && i < first) continue;
      if (block < 0 || block >= group.blocks)
        return Invalid(what, ".blocks: block ", block, " is outside the ", group.blocks, " blocks");
      if (!once.insert(block).second) return Invalid(what, ".blocks: block ", block, " occurs twice");
    }
    const int64_t tokens = static_cast<int64_t>(blocks.size()) * limits.block_tokens,
                  needed = int64_t{sequence.start} + sequence.rows();
    if (sequence.whole_tables && tokens < needed)
      return Invalid(what, ".blocks: the whole table holds ", tokens, " tokens, the rows reach ", needed);
  }
  return absl::OkStatus();
}

absl::Status CheckSequence(const StepSequence& sequence, const StepLimits& limits) {
  const std::string what = absl::StrCat("sequence ", sequence.id);
  if (sequence.adapter != 0) return Invalid(what, ".adapter: is ", sequence.adapter, "; adapters are not served");
  if (sequence.start < 0 || int64_t{sequence.start} + sequence.rows() > limits.max_position) {
    return Invalid(what, ".start: rows ", sequence.start, " to ", int64_t{sequence.start} + sequence.rows() - 1,
                   " reach outside the ", limits.max_position, " positions");
  }
  if (sequence.ids.empty() && sequence.start == 0)
    return Invalid(what, ".ids: are empty at position 0: there is no last sample");
  if (absl::Status s = CheckIds(what + ".ids", sequence.ids, limits.max_rows, limits.vocab); !s.ok()) return s;
  if (static_cast<uint8_t>(sequence.logits) > static_cast<uint8_t>(LogitRows::kAll))
    return Invalid(what, ".logits: ", static_cast<int>(sequence.logits), " is not known");
  const bool draws =
      sequence.logits == LogitRows::kLast || (sequence.logits == LogitRows::kAll && sequence.next_id < 0);
  if (sequence.masked && !draws) return Invalid(what, ".masked: nothing is drawn");
  if (absl::Status s = CheckBlocks(what, sequence, limits); !s.ok()) return s;
  return sequence.sampling ? CheckSampling(what + ".sampling", *sequence.sampling, limits) : absl::OkStatus();
}

}  // namespace

int Step::rows() const {
  int sum = 0;
  for (const StepSequence& sequence : sequences) sum += sequence.rows();
  return sum;
}

absl::Status Validate(const Step& step, const StepLimits& limits) {
  if (limits.block_tokens < 1) return Invalid("limits.block_tokens: is ", limits.block_tokens);
  if (static_cast<int64_t>(step.sequences.size()) > limits.max_sequences) {
    return Invalid("sequences: the step has ", step.sequences.size(), ", at most ", limits.max_sequences);
  }
  int64_t rows = 0;
  for (const StepSequence& sequence : step.sequences)
    rows += sequence.ids.empty() ? 1 : static_cast<int64_t>(sequence.ids.size());
  if (rows > limits.max_rows) return Invalid("rows: the step has ", rows, ", at most ", limits.max_rows);
  std::set<uint64_t> ended;
  for (const uint64_t id : step.ended) {
    if (!ended.insert(id).second) return Invalid("ended: sequence ", id, " occurs twice");
  }
  std::set<uint64_t> ids;
  for (const StepSequence& sequence : step.sequences) {
    if (!ids.insert(sequence.id).second) return Invalid("sequence ", sequence.id, ": occurs twice");
    if (ended.contains(sequence.id) && !sequence.whole_tables)
      return Invalid("sequence ", sequence.id, ": has ended in this very step");
    if (absl::Status s = CheckSequence(sequence, limits); !s.ok()) return s;
  }
  std::set<std::pair<int32_t, int32_t>> targets;
  for (const BlockCopy& copy : step.copies) {
    if (copy.group < 0 || copy.group >= static_cast<int64_t>(limits.groups.size()))
      return Invalid("copies: cache group ", copy.group, " is outside the ", limits.groups.size());
    const CacheGroup& group = limits.groups[copy.group];
    for (const int32_t block : {copy.from, copy.to}) {
      if (block < 0 || block >= group.blocks + group.swap_blocks)
        return Invalid("copies: block ", block, " is outside the ", group.blocks, " blocks and ", group.swap_blocks,
                       " swap blocks");
    }
    if (copy.from == copy.to) return Invalid("copies: block ", copy.from, " is copied to itself");
    if (!targets.insert({copy.group, copy.to}).second) return Invalid("copies: block ", copy.to, " is written twice");
  }
  return absl::OkStatus();
}

bool AllowedIds::Contains(int32_t id) const {
  const auto word = std::lower_bound(words.begin(), words.end(), std::pair<int32_t, uint64_t>{id / 64, 0});
  if (word == words.end() || word->first != id / 64) return others;
  return (word->second >> (id % 64) & 1) != 0;
}

absl::Status Validate(const Mask& mask, const StepLimits& limits) {
  const int words = MaskWords(limits.vocab);
  const std::string what = absl::StrCat("mask of sequence ", mask.sequence);
  int32_t before = -1;
  bool any = mask.allowed.others && static_cast<int64_t>(mask.allowed.words.size()) < words;
  for (const auto& [word, bits] : mask.allowed.words) {
    if (word < 0 || word >= words) return Invalid(what, ": word ", word, " is outside the ", words, " words");
    if (word <= before) return Invalid(what, ": words must ascend; ", word, " follows ", before);
    if (word == limits.vocab / 64 && (bits >> (limits.vocab % 64)) != 0)
      return Invalid(what, ": an id is outside the vocabulary of ", limits.vocab);
    any |= bits != 0;
    before = word;
  }
  return any ? absl::OkStatus() : Invalid(what, ": no id is allowed");
}

}  // namespace pangea
