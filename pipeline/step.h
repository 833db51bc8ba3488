// What one step is, in plain integers: the language of engine, wire and executor. Never a string, never a tensor.
//
// A step is one forward of the whole pipeline over a flat batch: for each sequence a run of rows at consecutive
// positions. Worked example: blocks of 16 tokens; sequence 7 reads its prompt of 20 ids in chunks of 16, sequence 3
// decodes at position 33.
//   step 41: {id 7, start 0, ids [p0..p15], logits none, blocks [[4]], sampling set}
//            {id 3, start 33, ids [812], logits last}
//   step 42: {id 7, start 16, ids [p16..p19], logits last, blocks [[9]]}
//            {id 3, start 34, ids [91], logits last}
//   result 42: {id 7, samples [s0]} {id 3, samples [s1]}
// Sequence 7 then continues with start 20, ids [s0].
//
// Rules (checked by Validate and by the executor): steps run in number order, a gap is an error; all K/V of a step is
// written in a layer before attention reads it; a block freed at the commit of step n may be named by any later step.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"

namespace pangea {

enum class LogitRows : uint8_t { kNone = 0, kLast = 1, kAll = 2 };

// How the ids of a request are drawn (order of filters: bias, penalties, temperature, min_p, top_k, top_p). Made once,
// by the door that checked it, and the same object from there to the step, whatever is drawn again.
struct Sampling {
  float temperature = 1;  // 0: greedy
  float top_p = 1;        // 1: off
  int32_t top_k = 0;      // 0: off
  float min_p = 0;        // 0: off
  float presence_penalty = 0;
  float frequency_penalty = 0;
  float repetition_penalty = 1;  // over prompt and generated ids
  uint64_t seed = 0;
  int32_t top_logprobs = -1;  // -1: no log-probabilities; else how many alternatives
  int32_t min_tokens = 0;     // end_ids are banned until so many ids are generated
  std::vector<int32_t> end_ids;
  std::vector<std::pair<int32_t, float>> logit_bias;  // ids ascending
  bool NeedsCounts() const { return presence_penalty != 0 || frequency_penalty != 0 || repetition_penalty != 1; }
};

// With what the draws of one sequence depend on besides, up to the step that carries it.
struct SequenceSampling {
  std::shared_ptr<const Sampling> params = std::make_shared<Sampling>();  // never null
  int32_t choice = 0;                                                     // 0..n-1 within its prompt
  std::vector<int32_t> prompt_ids;                                        // only when repetition_penalty != 1
  std::vector<int32_t> generated_ids;                                     // before this step (resume); else empty
};

// Layers whose pages have one shape and whose rows look back equally far. A sequence has a table in every group; all
// tables are equally long, block i holds positions i * block_tokens on, and each group numbers its own blocks.
struct CacheGroup {
  int32_t blocks = 0;
  int32_t swap_blocks = 0;  // beyond them: blocks .. blocks + swap_blocks - 1; named in copies only
  int32_t window = 0;       // so many positions a row sees, its own the last of them; 0: all up to its own
  // The first block that a row at this position, and those after it, look into.
  int32_t FirstBlock(int32_t position, int32_t block_tokens) const {
    return window == 0 || position < window ? 0 : (position - window + 1) / block_tokens;
  }
  bool operator==(const CacheGroup&) const = default;
};

// In a whole table, for the blocks before those that its first row looks into: none.
inline constexpr int32_t kNoBlock = -1;

// While it decodes, a sequence has one row and most models have one cache group: these then need no memory of their
// own.
using StepIds = absl::InlinedVector<int32_t, 1>;
using StepTables = absl::InlinedVector<std::vector<int32_t>, 1>;

struct StepSequence {
  uint64_t id = 0;
  int32_t adapter = 0;  // 0: none
  int32_t start = 0;    // position of the first row
  StepIds ids;          // the rows' ids; empty: one row, "your last sample"
  LogitRows logits = LogitRows::kNone;
  int32_t next_id = -1;  // with kAll: the id that follows the last row when it is known (a prompt chunk before the
                         // last); no sample is then drawn. -1: the last row is sampled from
  StepTables blocks;     // per cache group: appended to the table (or the whole table, see below); none: nothing new
  bool whole_tables = false;                 // blocks replace the table: first step of a sequence in an epoch
  std::optional<SequenceSampling> sampling;  // when new or changed
  bool masked = false;                       // a Mask follows: it draws once that has come
  int rows() const { return ids.empty() ? 1 : static_cast<int>(ids.size()); }
};

// Of one cache group. Either may be a swap block of it.
struct BlockCopy {
  int32_t group = 0, from = 0, to = 0;
};

// Which ids may be drawn. Bit b of a word {w, bits} says whether id 64 w + b may; words ascend. `others` says whether
// ids may whose word is not listed: so both a few ids and all but a few are short.
struct AllowedIds {
  bool others = false;
  std::vector<std::pair<int32_t, uint64_t>> words;
  bool Contains(int32_t id) const;
};

// Follows its step, for one of its masked sequences: the last stage waits for it between logits and draw.
struct Mask {
  uint64_t epoch = 0, step = 0, sequence = 0;
  AllowedIds allowed;
};

struct Step {
  uint64_t epoch = 0;
  uint64_t number = 0;
  std::vector<StepSequence> sequences;
  std::vector<uint64_t> ended;    // forgotten by the agents before the forward
  std::vector<BlockCopy> copies;  // before the forward, in this order
  int rows() const;
};

struct Sample {
  int32_t id = 0;
  float logprob = 0;                           // raw distribution, before bias, penalties and temperature
  std::vector<std::pair<int32_t, float>> top;  // best first
};

// A step gives most sequences one, which then needs no memory of its own on its way through the master.
using Samples = absl::InlinedVector<Sample, 1>;

struct SequenceResult {
  uint64_t id = 0;
  Samples samples;             // zero or more
  std::vector<Sample> prompt;  // LogitRows::kAll: for each row whose next id is known (all but the last row, and the
                               // last too when next_id >= 0), that id with its log-probability, in row order
  absl::Status status;         // not OK: this sequence has failed (NaN in its logits); no samples
};

struct StepResult {
  uint64_t epoch = 0;
  uint64_t number = 0;
  std::vector<SequenceResult> sequences;  // those that asked for logits, in the step's order
  double copy_seconds = 0;                // what the step's block copies took, on the agent that sends the result
};

// Limits checked before anything is allocated.
struct StepLimits {
  int32_t vocab = 0, block_tokens = 16, max_rows = 0, max_sequences = 0, max_position = 0;
  std::vector<CacheGroup> groups;
};
absl::Status Validate(const Step& step, const StepLimits& limits);
// At least one id must be allowed, or nothing could be drawn.
absl::Status Validate(const Mask& mask, const StepLimits& limits);
inline int MaskWords(int32_t vocab) { return (vocab + 63) / 64; }

}  // namespace pangea
