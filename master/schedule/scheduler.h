// The policy: which rows go into the next step, who gets blocks, who must yield. Pure bookkeeping on integers; the
// engine turns events into calls of it.
//
// What goes into a step, in this order, as long as max_batch_tokens rows are not reached:
//   1. a row of every decoding sequence,
//   2. chunks of the prompts of running sequences,
//   3. the first chunks of sequences that are admitted from the queue.
//
// Prompts beside streams. Prompt rows that share a step with decoding rows are limited so that the step takes at most
// prefill_slowdown times as long as without them, judged by how long steps have taken so far (StepCost).
//
// Blocks and preemption. Decoding sequences get new blocks in rank order (Earlier). When none is free, the running
// sequence of lowest rank gives up all of its blocks. It is computed again later or, when that is cheaper and there is
// room, comes back from a copy in the swap blocks. So the sequence of highest rank always goes on; and since every
// single sequence fits the pool (checked when it is submitted), there is no deadlock.
//
// Admission. Sequences leave the queue in the order of FairQueue. One is admitted when there are blocks for all its
// known ids at once, so that reading a prompt never runs out of blocks half way.
//
// Prefix cache. A full block of known ids enters the prefix index when the step that computes it is sent; later parts
// of the same step may use it, because in every layer all K/V of a step is written before attention reads. It stays
// there until nobody uses it and it is the least recently used.
//   - A sequence that is admitted takes over the blocks of its beginning. While another sequence is still computing
//     more of that beginning, it waits for those blocks.
//   - Of a block that only begins alike, the newcomer gets a copy, and goes on behind the ids that are alike.
//   - A choice that joins while a sibling's prompt is already computed shares the sibling's full prompt blocks and
//     copies the partial one.
//
// Epochs. When the agents have formed their groups anew, some of them with new processes, the steps in flight are void,
// and whoever ran goes back to the head of the queue, as after any preemption, and is computed again from its ids; all
// blocks and swap blocks are free, and the prefix index is empty. But when all agents still have their pages, they hold
// what committed steps have computed (a result comes of the parts of all, so all had written theirs): then whoever ran
// in a committed step keeps its blocks and goes on from its last committed row, and the index keeps what such steps
// have computed. Swap blocks are free in any case.
//
// Cache groups. Every sequence has a table in each group; they grow and shrink together, a column of blocks at a time.
// What a window has passed is given back when the step that passed it is committed: no later row looks into it. A
// column that is in the prefix index may lack blocks of such groups; a newcomer takes over columns up to where every
// group still has what its first row looks into. A preempted sequence needs blocks for all its known ids again, so the
// smallest group bounds a sequence's length.
//
// Run-ahead. One step more than there are stages is outstanding: the sequences of the oldest one go on with "your last
// sample" before the master knows it, so that no stage waits for the way to the master and back. The price is one
// surplus row for a sequence that turns out to end there. With several stages, the decoding sequences are cut into
// about as many equal parts, one step each, so that every stage has work.
#pragma once
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "master/schedule/cache_blocks.h"
#include "master/schedule/fair_queue.h"
#include "master/schedule/sequence.h"
#include "master/schedule/step_cost.h"

namespace pangea {

// One sequence's part of a step in flight.
struct Run {
  Sequence* sequence = nullptr;
  uint64_t id = 0;  // at the agents
  int start = 0, rows = 0;
  LogitRows logits = LogitRows::kNone;
  // Holds the sequence's newest known row: commits with a sample, or with the end when none is wanted.
  bool newest = false;
};

struct Flight {
  uint64_t number = 0;
  std::vector<Run> runs;     // in the step's order
  std::vector<Column> held;  // sources of copies, kept until the commit
  double sent = 0;           // when
  int decode_rows = 0, prompt_rows = 0, copies = 0;
  bool masked = false;  // it waits for masks: its time says nothing of computing
};

class Scheduler {
 public:
  explicit Scheduler(const EngineOptions& options);
  ~Scheduler();  // nothing may be in queue, batch or flight

  void Enqueue(Sequence* sequence);  // kWaiting -> the queue
  // Takes the sequence out of queue or batch; its blocks are freed at once or when its last outstanding step is
  // committed. With sequence->ended it is done then, otherwise it goes back to the queue.
  void Leave(Sequence* sequence);
  // The next step, when one may be sent and there is something to send; the caller sends it. The flight is added to
  // flights().
  std::optional<Step> Plan(double now);
  // Takes the oldest flight out, less its sequences' outstanding counts: the caller looks at its runs, then calls
  // Settle for each.
  Flight Commit();
  // What a committed flight took, copy_seconds of it for its copies: later steps are planned by it.
  void Learn(double now, const Flight& flight, double copy_seconds);
  // After a committed run has been looked at: blocks that its window has passed are given back, and a sequence that was
  // leaving and has no outstanding step goes.
  void Settle(const Run& run);
  void Accepted(Sequence* sequence);        // its sample has been committed and appended
  void Distrust(const Sequence& sequence);  // it has failed: nobody shall share its K/V
  // The agents have formed their groups and know nothing of sequences. No step is planned before the first epoch.
  // layout: theirs from now on; null: as before. pages: they still have what committed steps have written.
  void BeginEpoch(uint64_t epoch, const EngineLayout* layout, bool pages);
  void Void(bool pages);  // the steps in flight will never be answered, and agents know no sequence
  void CheckInvariants() const;

  uint64_t epoch() const { return epoch_; }  // 0: none yet
  const std::deque<Flight>& flights() const { return flights_; }
  const FairQueue& waiting() const { return waiting_; }
  const std::vector<Sequence*>& running() const { return running_; }
  const std::vector<Sequence*>& leaving() const { return leaving_; }
  const CacheBlocks& cache() const { return cache_; }
  uint64_t preemptions() const { return preemptions_; }
  uint64_t rows_lost() const { return rows_lost_; }  // with epochs: they are computed again
  uint64_t swapped() const { return swapped_; }
  uint64_t prefix_queries() const { return prefix_queries_; }
  uint64_t prefix_hits() const { return prefix_hits_; }

 private:
  enum class Admission { kAdmitted, kSkip, kStop };

  bool MayPlan() const;
  // The parts that the decoding sequences are in differ in size: the oldest flight had better be committed first.
  bool IsUneven() const;
  int PromptBudget() const;                     // prompt rows that may join the step being planned
  std::vector<Sequence*> ReadyToDecode();       // those that have their blocks, preempting where needed
  std::vector<Sequence*> ReadyToRunAhead();     // those of the oldest flight: their sample is the next to be known
  bool CoverNext(Sequence* sequence);           // blocks for its next row
  void AddRun(Sequence* sequence, int rows);    // to the step being planned
  int ChunkOf(const Sequence& sequence) const;  // rows of prompt that one step should take
  Admission Admit(Sequence* sequence);
  // What the prefix index knows of a sequence's beginning: whole columns, by name, and of one more its first rows, to
  // be copied.
  struct Cached {
    std::vector<int32_t> names;
    PrefixIndex::Beginning partial;
    int rows = 0;
    bool soon = false;  // the step being planned computes a good part of the partial one: it can be copied in the next
  };
  Cached Match(const Sequence& sequence) const;
  // What a newcomer need not compute, and the columns that it has it from: some to share, perhaps one to copy.
  struct Beginning {
    int rows = 0;
    std::vector<Column> shared;
    Column copied;  // empty: none
  };
  void Begin(Sequence* sequence, const Beginning& beginning, bool swaps_in);
  Beginning BeginningOf(const Cached& cached) const;
  Beginning BeginningOf(const Sequence& donor, int rows) const;
  // Blocks of a group that are free now and would not be: when it begins so, its next row is at `next`, and it has
  // `total` blocks.
  int Needed(int group, const Beginning& beginning, int next, int total) const;
  // Whether a running sequence will soon have computed the block after the first `blocks` of this one.
  bool IsBeingComputed(const Sequence& sequence, int blocks) const;
  // A running sibling whose prompt was computed by an earlier step and that still has what the row after the first
  // `rows` looks into; or null.
  const Sequence* Donor(const Sequence& sequence, int rows) const;
  bool Holds(const Sequence& sequence, int rows) const;
  bool IsSiblingReading(const Sequence& sequence) const;
  void CopyPartial(Sequence* sequence, const Column& from);
  void SwapOut(Sequence* sequence);  // when it is cheaper than computing it again
  void SwapIn(Sequence* sequence);
  void CancelSwapOut(const Sequence& sequence);   // copies that have not been sent: nobody will read them
  void DropSwapped(Sequence* sequence);           // gives its swap blocks back
  void Index(Sequence* sequence, uint64_t step);  // the full blocks of its sent rows; the newest are of that step
  std::vector<int32_t> IdsOf(const Sequence& sequence, int block) const;
  Column ColumnAt(const Sequence& sequence, int block) const;
  void Grow(Sequence* sequence);                // by a column; cache_.available() > 0
  void GiveBack(Sequence* sequence, int next);  // what rows from position `next` on do not look into
  void ReleaseBlocks(Sequence* sequence);
  void GoHome(Sequence* sequence);  // to the queue, or to its end; holding nothing
  // As agents that know nothing of sequences need it, when they have its rows up to this one. Not with rows == 0.
  void Rewind(Sequence* sequence, int rows);

  EngineOptions options_;
  CacheBlocks cache_;
  FairQueue waiting_;
  std::vector<Sequence*> running_;  // in rank order
  std::vector<Sequence*> leaving_;
  std::deque<Flight> flights_;       // oldest first
  std::vector<uint64_t> forgotten_;  // ids that the next step ends
  // Copies to swap blocks, which the next step makes before anything else. Their source blocks are released already,
  // and that step may even give them to other sequences; but those write to them only after the copies.
  std::vector<BlockCopy> swap_outs_;
  StepCost cost_;
  double last_result_ = 0;
  Step step_;  // being planned
  Flight flight_;
  uint64_t epoch_ = 0, next_number_ = 1;  // agents check that an epoch's steps are numbered from 1, without a gap
  uint64_t next_id_ = 1, ready_clock_ = 0;
  uint64_t preemptions_ = 0, rows_lost_ = 0, swapped_ = 0, prefix_queries_ = 0, prefix_hits_ = 0;
};

}  // namespace pangea
