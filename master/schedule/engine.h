// The engine owns the queue, the block bookkeeping and the batch. It is a state machine, events in -> steps and outputs
// out, with no thread and no clock of its own (EngineThread wraps it), so that it can be tested in microseconds and
// simulated.
#pragma once
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "master/schedule/prefix_index.h"
#include "master/schedule/step_port.h"
#include "pipeline/step.h"

namespace pangea {

enum class FinishReason : uint8_t { kNone, kStop, kLength };  // kStop: an end id or a stop id

// One sequence to generate. n > 1 is n of these with the same prompt and choice = 0..n-1, submitted together.
struct SequenceRequest {
  uint64_t request = 0;  // chosen by the caller, unique among all open ones
  std::vector<int32_t> prompt;
  std::shared_ptr<const Sampling> sampling = std::make_shared<Sampling>();  // never null; seed set
  int n = 1;
  int max_tokens = 0;             // >= 0; with 0 only the prompt is computed (echo)
  std::vector<int32_t> stop_ids;  // end ids and stop_token_ids: finish with kStop, the id counted
  bool prompt_logprobs = false;   // echo with log-probabilities: once, of choice 0
  int priority = 0;               // lower is served earlier, as in vLLM
  int32_t adapter = 0;            // 0: none
  CacheSalt cache_salt = {};      // cached beginnings are shared with requests of the same one alone
  // It belongs to the request that was submitted just before: it takes no place in the queue, and may wait in it for as
  // long as that one takes.
  bool follows = false;
  // Every id is drawn under a mask that the caller gives (Engine::SetMask); the draw waits for it.
  bool masked = false;
  // Who pays: among equal priorities accounts are served in proportion to their weights (> 0; of one account always the
  // same).
  uint32_t account = 0;
  double weight = 1;
  // On the clock of the events; a request that has not ended by then ends with DeadlineExceeded, running or not.
  double deadline = std::numeric_limits<double>::infinity();
};

// Outputs of one step, delivered together in one call.
struct Output {
  uint64_t request = 0;
  int choice = 0;
  Samples samples;
  std::vector<Sample>
      prompt;  // log-probability of prompt[i+1] after prompt[..i], in order; complete when the first sample comes
  FinishReason finish = FinishReason::kNone;
  absl::Status error;     // not OK: the whole request has ended
  int cached_tokens = 0;  // with the first output: prompt tokens that were not computed
  double started = 0;     // on the clock of the events: when the request first ran
};

// What the agents' layout says to the engine. It may change with an epoch: the same bytes come of every layout.
struct EngineLayout {
  int stages = 1;
  // At least one. Steps name swap blocks in copies only; a preempted sequence is copied there when that is cheaper than
  // computing it again. The first group has no window: it keeps all blocks of a sequence.
  std::vector<CacheGroup> groups = std::vector<CacheGroup>(1);
  bool operator==(const EngineLayout&) const = default;
};

struct EngineOptions : EngineLayout {
  int block_tokens = 16, context = 0;
  // Rows and sequences of a step; queue: requests of which no choice has run yet, those that follow not counted.
  int max_batch_tokens = 512, max_sequences = 64, queue = 256;
  bool prefix_cache = true;
  int prefix_min_tokens = 0;  // a hit shorter than this is computed again
  bool run_ahead =
      true;  // send a sequence's next row before its sample is known, so that no stage waits for the master
  // A step that also reads prompts may take so many times as long as one that only decodes (> 1; 0: no such bound).
  double prefill_slowdown = 0;
  double queue_seconds = 300;  // that a request may wait before it first runs: then Unavailable
  // For those who watch, on the engine's thread; may be empty. on_freed: a cancelled request holds no block any more;
  // when Cancel was called, and how many steps were answered since. on_event: EngineThread has handled an event;
  // seconds of its clock.
  std::function<void(double cancelled, int steps)> on_freed;
  std::function<void(const char* event, double begin, double end)> on_event;
};

struct EngineStats {
  int waiting = 0, running = 0, blocks_free = 0, blocks = 0, steps_in_flight = 0;  // waiting, running: sequences
  // blocks, blocks_free: of all cache groups; those that nobody uses, cached or not. prefix_queries, prefix_hits: known
  // tokens of sequences that were looked up in the prefix cache when they began to run, and those found there.
  // largest_batch: sequences in one step. prompt: ids of prompts that have been started, each prompt once. swapped:
  // preemptions that kept their K/V. rows_lost: whose K/V was lost with an epoch, so that they are computed again.
  uint64_t steps = 0, rows = 0, generated = 0, prompt = 0, preemptions = 0, swapped = 0, largest_batch = 0,
           prefix_queries = 0, prefix_hits = 0, rows_lost = 0;
  int queued = 0;             // requests of which no choice has run yet, but for those that follow another
  double oldest_arrival = 0;  // of those, when the first of them came; 0: none
};

inline constexpr uint64_t kNoPages = std::numeric_limits<uint64_t>::max();

class Engine {
 public:
  Engine(const EngineOptions& options, StepPort* port, std::function<void(std::vector<Output>)> deliver);
  ~Engine();  // CHECKs that no block is lost
  // Events. now: seconds of a monotonic clock.
  // The agents have formed their groups for this epoch and know no sequence: what was sent before is void, and whoever
  // ran is computed again, or goes on where it was if their pages are still there. Steps carry the epoch and are
  // numbered from 1 in each: so every agent, survivor or newcomer, can check that it has missed none. No step is sent
  // before the first epoch. Of several, the highest counts: an epoch that is not above the present one is old news.
  // layout: the agents' from now on, of as many cache groups with the
  // same windows; null: as before. A request that may grow beyond what the new one can hold of a sequence ends with
  // ResourceExhausted. pages_since: the agents' pages still hold what was written in that epoch and those after it.
  void EpochChanged(double now, uint64_t epoch, const EngineLayout* layout = nullptr, uint64_t pages_since = kNoPages);
  absl::Status Submit(double now,
                      SequenceRequest request);  // ResourceExhausted: queue full; InvalidArgument: can never fit
  void Cancel(double now, uint64_t request);     // no output follows
  // The choice's text has ended (stop string): free its blocks. The caller has already told its client; no output
  // follows for this choice.
  void Finish(double now, uint64_t request, int choice);
  // What the choice's id number `index`, from 0, may be: the next one, of a masked request. Kept until it is drawn, as
  // a sequence that loses its blocks, or its epoch, draws it again. For any other id it is dropped: the choice may have
  // ended meanwhile.
  void SetMask(uint64_t request, int choice, int index, AllowedIds allowed);
  void OnResult(double now, StepResult result);  // one of another epoch is dropped
  void Tick(double now);                         // queue age and deadlines; calls deliver for what has expired
  void FailAll(const absl::Status& why);         // every open request ends with this error; later Submits too
  std::optional<double> NextDeadline() const;    // when Tick has something to do, if nothing else happens
  EngineStats stats() const;
  const absl::Status& failure() const;  // why it serves no more; OK while it does
  void CheckInvariants() const;         // every block is free, or owned by exactly its users

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// What the doors ask of an engine, from any thread. Each as Engine's own.
class RequestPort {
 public:
  virtual ~RequestPort() = default;
  virtual absl::Status Submit(SequenceRequest request) = 0;
  virtual void Cancel(uint64_t request) = 0;
  virtual void Finish(uint64_t request, int choice) = 0;
  virtual void SetMask(uint64_t request, int choice, int index, AllowedIds allowed) = 0;
  virtual EngineStats stats() const = 0;
};

// The engine for many threads. Every method may be called from any thread and returns at once, but: Submit and OnResult
// do the engine's work themselves when nobody else is at it, and Submit waits for its answer (not to be called from
// deliver). The rest is done by a thread of its own. deliver and the port are called by whoever does the work, one call
// at a time. The destructor ends open requests without a word.
class EngineThread final : public RequestPort {
 public:
  // on_failure: once, as deliver, when the engine gave up by itself (agents that answer out of order).
  EngineThread(const EngineOptions& options, StepPort* port, std::function<void(std::vector<Output>)> deliver,
               std::function<void(const absl::Status&)> on_failure = nullptr);
  ~EngineThread() override;
  void EpochChanged(uint64_t epoch, std::optional<EngineLayout> layout = std::nullopt, uint64_t pages_since = kNoPages);
  absl::Status Submit(SequenceRequest request) override;
  void Cancel(uint64_t request) override;
  void Finish(uint64_t request, int choice) override;
  void SetMask(uint64_t request, int choice, int index, AllowedIds allowed) override;
  void OnResult(StepResult result);
  void FailAll(absl::Status why);
  EngineStats stats() const override;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pangea
