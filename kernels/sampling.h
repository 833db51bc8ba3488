// Logits -> ids on a device that draws itself (DeviceOps::sample): what it is told of each row, and what it says. Plain
// data, which its kernels read as the host wrote it. The filters, their order and the draw are the sampler's
// (agent/sampler.h), and so are the bytes (docs/exactness.md, section 5). One rank: the whole vocabulary lies here.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/types.h"

namespace pangea {

// What is added to a logit first of all; -infinity: the id is banned. Of a row each id once.
struct LogitEdit {
  int32_t id;
  float bias;
};

// One row of logits to be judged.
struct SampleRow {
  uint64_t seed;
  int32_t slot;      // whose last id, and counts, the drawn one becomes
  int32_t position;  // of the row: the id drawn stands at position + 1
  int32_t choice;
  int32_t known_id;  // >= 0: nothing is drawn, only this id's log-probability is wanted
  float temperature, top_p, min_p;
  float presence_penalty, frequency_penalty, repetition_penalty;
  int32_t top_k;
  int32_t tops;               // most likely ids to tell; -1: no log-probabilities at all
  int32_t first_edit, edits;  // in SampleMemory::edits
  int32_t mask;               // row of SampleMemory::masks; -1: none
  int32_t counts;             // 1: the slot's counts matter, and the drawn id is counted

  constexpr bool draws() const { return known_id < 0; }
  constexpr bool greedy() const { return temperature == 0; }
  // Whether the ids that remain are found by walking them from the best on.
  constexpr bool walks() const { return draws() && !greedy() && top_p < 1; }
  // Whether exp(x) is summed over all ids for it.
  constexpr bool sums_all() const { return walks() && top_k == 0 && min_p == 0; }
  constexpr bool cuts() const { return draws() && !greedy() && (top_p < 1 || top_k > 0 || min_p > 0); }
};
static_assert(sizeof(SampleRow) == 72);

struct SampledRow {
  int32_t id;
  int32_t finite;  // 0: NaN or infinity in the logits; all else is void
  float logprob;
  int32_t tops;  // told
};
struct TopLogit {
  int32_t id;
  float logprob;
};

// How often a slot's ids were generated, and whether they are in its prompt.
inline constexpr int32_t kInPrompt = INT32_MIN, kTimes = INT32_MAX;  // masks

inline constexpr int64_t kLseIds = 256;       // whose exp(x) are summed together
inline constexpr int64_t kSampleIds = 2048;   // of a row that a block of threads judges
inline constexpr int64_t kMostListed = 1024;  // ids that are put in order at a time

// The largest value of some ids, ties to the lowest id.
struct BestId {
  float value;
  int32_t id;
};
// Between the kernels: of one row.
struct CutRow {
  uint64_t least;  // the last id that remains, as a number that orders (value, id)
  float raw_lse;
  int32_t tops;
};

// Where all of it lies in the device's memory, SamplingBytes in all.
struct SampleMemory {
  SamplingShape shape;
  SampleRow* rows = nullptr;      // [rows]
  LogitEdit* edits = nullptr;     // [vocab]: room for one row's at least; also ids that are to be counted
  uint64_t* masks = nullptr;      // [rows][mask_words]: bit b of word w says whether id 64 w + b may be drawn
  float* raw_pairs = nullptr;     // [rows][chunks][2] (LseChunks): of the logits as the model gave them,
  float* pairs = nullptr;         // and of those that are drawn from
  int32_t* not_finite = nullptr;  // [rows][blocks]
  BestId* best = nullptr;         // [rows][blocks]
  BestId* drawn = nullptr;        // [rows][blocks]: with Gumbel noise
  CutRow* cut = nullptr;          // [rows]
  SampledRow* sampled = nullptr;  // [rows]
  TopLogit* tops = nullptr;       // [rows][tops of the call]
  int32_t* counts = nullptr;      // [slots][vocab]
  int64_t bytes = 0;

  constexpr int64_t mask_words() const { return (shape.vocab + 63) / 64; }
  constexpr int64_t chunks() const { return (shape.vocab + kLseIds - 1) / kLseIds; }
  constexpr int64_t blocks() const { return (shape.vocab + kSampleIds - 1) / kSampleIds; }

  SampleMemory(const SamplingShape& s, std::byte* memory) : shape(s) {
    const auto take = [&]<class T>(T*& part, int64_t n) {
      part = reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(memory) + static_cast<uintptr_t>(bytes));
      bytes += (n * static_cast<int64_t>(sizeof(T)) + 255) / 256 * 256;
    };
    take(rows, s.rows);
    take(edits, s.vocab);
    take(masks, s.rows * mask_words());
    take(raw_pairs, s.rows * chunks() * 2);
    take(pairs, s.rows * chunks() * 2);
    take(not_finite, s.rows * blocks());
    take(best, s.rows * blocks());
    take(drawn, s.rows * blocks());
    take(cut, s.rows);
    take(sampled, s.rows);
    take(tops, s.rows * s.tops);
    take(counts, s.slots * s.vocab);
  }
};

struct SampleArgs {
  const SampleMemory* memory = nullptr;
  const float* logits = nullptr;                       // [rows][vocab], kept
  float* edited = nullptr;                             // [rows][vocab]: what is drawn from
  int32_t* last = nullptr;                             // [slots]: takes the drawn ids (0 where a row is not finite)
  int64_t rows = 0;                                    // of memory->rows
  int64_t tops = 0;                                    // most that a row tells
  bool cuts = false, draws = false, logprobs = false;  // what some row needs
};

// Of a slot: ids are counted, as generated or as in its prompt; or all its counts become 0.
struct CountArgs {
  int32_t* counts = nullptr;     // [n]
  const int32_t* ids = nullptr;  // of the device, [n]; null: forget all
  int64_t n = 0;                 // of the vocabulary where all are forgotten
  bool in_prompt = false;
};

}  // namespace pangea
