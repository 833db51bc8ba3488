// What the engine knows of a request and of each of its choices. The truth about ids lives here; agents only cache K/V
// of them.
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "master/schedule/engine.h"
#include "master/schedule/planted_bug.h"

namespace pangea {

struct Request;

// kWaiting: in the queue, holds nothing. kRunning: has blocks and takes part in steps. kLeaving: takes part in no
// further step and holds its blocks until the last step that names them is committed; then kWaiting (preempted) or
// kDone. kDone: ended.
enum class Phase : uint8_t { kWaiting, kRunning, kLeaving, kDone };

struct Sequence {
  Request* request = nullptr;
  int choice = 0;
  Phase phase = Phase::kWaiting;
  bool ended = false;              // no output follows (finished, cancelled or failed)
  std::vector<int32_t> generated;  // committed ids
  int charged = 0;                 // rows that its account has been charged
  // While it waits after preemption: where its first `swapped` rows are; in each cache group, from the first block on
  // that the row after them looks into.
  StepTables slots;
  int swapped = 0;
  std::optional<AllowedIds> mask;  // of its next id, once it is known
  // From here on: of the present run, cleared by preemption.
  uint64_t id = 0;            // at the agents; a fresh one for every run
  StepTables tables;          // of each cache group: blocks, in order of position; kNoBlock: given back
  int told = 0;               // how many of them the agents know, in every group
  int sent = 0;               // rows in steps that were sent
  int outstanding = 0;        // steps in flight that name it
  bool answered = false;      // a step that names it has been committed
  bool awaiting = false;      // its newest row is under way; only "your last sample" can be sent after it
  uint64_t prompt_step = 0;   // the step that held the prompt's last row; 0: not sent yet
  int indexed = 0;            // leading blocks that are in the prefix index, or equal to one that is
  uint64_t index_serial = 0;  // of the last of them
  bool indexable = true;      // false once it has met a block that must not be shared
  uint64_t mask_due = 0;      // the step in flight that draws its next id, and has not been sent the mask; 0: none
  uint64_t ready_since = 0;   // order in which sequences became ready to decode

  int blocks() const { return tables.empty() ? 0 : static_cast<int>(tables[0].size()); }  // in every group
  int known() const;
  int32_t IdAt(int position) const;
  bool decoding() const { return sent > 0 && sent + 1 == known(); }  // one row brings the next sample
  // Whether the row after the one under way may be sent before that one's sample is known: the sequence then surely
  // goes on, but for a stop id, whose surplus row is dropped.
  bool MayRunAhead() const;
  int BlocksFor(int positions, int block_tokens) const { return (positions + block_tokens - 1) / block_tokens; }
};

struct Request {
  SequenceRequest body;
  double arrival = 0;
  double started_at = 0;            // when the first of its choices ran
  uint64_t order = 0;               // of arrival
  int limit = 0;                    // ids that a choice may generate: max_tokens or the context, whichever is first
  bool started = false;             // a choice has run: it no longer counts as queued
  bool counted = false;             // as started, in the statistics
  std::optional<double> cancelled;  // when
  uint64_t cancelled_step = 0;      // steps answered by then
  double alarm = std::numeric_limits<double>::infinity();  // when it has waited too long, or its deadline
  std::vector<Sample> prompt;                              // log-probabilities so far: of body.prompt[1], [2], ...
  bool prompt_delivered = false;
  int cached = 0;  // prompt rows that choice 0 took from the prefix cache when it first ran
  bool cached_delivered = false;
  std::vector<Sequence> choices;  // never resized: steps point into it

  int prompt_size() const { return static_cast<int>(body.prompt.size()); }
  // Rows whose next id's log-probability is still missing lie at prompt.size() .. prompt_size() - 2.
  bool WantsPrompt(const Sequence& sequence) const {
    return body.prompt_logprobs && sequence.choice == 0 && static_cast<int>(prompt.size()) < prompt_size() - 1;
  }
};

inline int Sequence::known() const { return request->prompt_size() + static_cast<int>(generated.size()); }
inline int32_t Sequence::IdAt(int position) const {
  const int prompt = request->prompt_size();
  return position < prompt ? request->body.prompt[position] : generated[position - prompt];
}

inline bool Sequence::MayRunAhead() const {
  if (request->body.masked && planted_bug != PlantedBug::kMaskedAhead) return false;  // its mask depends on the sample
  return awaiting && sent == known() && static_cast<int>(generated.size()) + 1 < request->limit;
}

// Who is served first and preempted last: priority (lower first), then arrival, then choice.
struct Earlier {
  bool operator()(const Sequence* a, const Sequence* b) const;
};

// The parameters as the agents need them at the first step of a run.
SequenceSampling SamplingOf(const Sequence& sequence);

}  // namespace pangea
