#include "master/schedule/scheduler.h"

#include <algorithm>

#include "master/schedule/check.h"
#include "master/schedule/planted_bug.h"

namespace pangea {
namespace {

// A chunk shorter than this costs more in passes over the weights than it gains by overlapping stages.
constexpr int kSmallestSplit = 64;

int CeilDiv(int a, int b) { return (a + b - 1) / b; }

}  // namespace

Scheduler::Scheduler(const EngineOptions& options) : options_(options), pool_(options.blocks) {}

void Scheduler::Enqueue(Sequence* sequence) {
  sequence->phase = Phase::kWaiting;
  waiting_.insert(sequence);
}

void Scheduler::Leave(Sequence* sequence) {
  switch (sequence->phase) {
    case Phase::kWaiting:
      waiting_.erase(sequence);
      break;
    case Phase::kRunning:
      running_.erase(std::find(running_.begin(), running_.end(), sequence));
      break;
    case Phase::kLeaving:  // preempted before and ended now
    case Phase::kDone:
      return;
  }
  if (planted_bug == PlantedBug::kFreeEarly) ReleaseBlocks(sequence);
  if (sequence->outstanding > 0) {
    sequence->phase = Phase::kLeaving;
    leaving_.push_back(sequence);
    return;
  }
  ReleaseBlocks(sequence);
  sequence->phase = Phase::kDone;
  if (!sequence->ended) Enqueue(sequence);
}

void Scheduler::Settle(Sequence* sequence) {
  if (sequence->phase != Phase::kLeaving || sequence->outstanding > 0) return;
  leaving_.erase(std::find(leaving_.begin(), leaving_.end(), sequence));
  ReleaseBlocks(sequence);
  sequence->phase = Phase::kDone;
  if (!sequence->ended) Enqueue(sequence);
}

void Scheduler::ReleaseBlocks(Sequence* sequence) {
  if (planted_bug == PlantedBug::kLeakBlock && !sequence->table.empty()) sequence->table.pop_back();
  // From the back: the blocks that come first in a table are the likelier ones to be wanted again.
  for (auto block = sequence->table.rbegin(); block != sequence->table.rend(); ++block) pool_.Release(*block);
  if (sequence->id != 0) forgotten_.push_back(sequence->id);
  sequence->table.clear();
  sequence->id = 0;
  sequence->told = sequence->sent = 0;
  sequence->awaiting = false;
  sequence->prompt_step = 0;
}

void Scheduler::SetReady(Sequence* sequence) {
  sequence->awaiting = false;
  sequence->ready_since = ++ready_clock_;
}

// As many steps as stages keep them all busy. One more hides the way to the master and back, but only when no sequence
// waits for a sample: it would otherwise split the decoding sequences into more parts than there are stages.
bool Scheduler::MayPlan() const {
  const int flights = static_cast<int>(flights_.size());
  if (flights != options_.stages) return flights < options_.stages;
  return std::none_of(running_.begin(), running_.end(), [](const Sequence* s) { return s->awaiting; });
}

std::optional<Step> Scheduler::Plan() {
  if (!MayPlan()) return std::nullopt;
  step_ = Step();
  flight_ = Flight();
  step_.epoch = options_.epoch;
  step_.number = flight_.number = next_number_;

  int budget = options_.max_batch_tokens;
  for (Sequence* sequence : ReadyToDecode()) {
    if (budget == 0) break;
    AddRun(sequence, 1);
    --budget;
  }
  for (Sequence* sequence : running_) {
    if (budget == 0) break;
    if (sequence->awaiting || sequence->decoding()) continue;
    const int rows = std::min(budget, ChunkOf(*sequence));
    AddRun(sequence, rows);
    budget -= rows;
  }
  for (auto next = waiting_.begin(); next != waiting_.end() && budget > 0;) {
    Sequence* sequence = *next;
    ++next;  // admission takes it out of the queue
    const Admission admission = Admit(sequence);
    if (admission == Admission::kStop) break;  // nobody overtakes: a long prompt would otherwise wait for ever
    if (admission == Admission::kSkip) continue;
    const int rows = std::min(budget, ChunkOf(*sequence));
    AddRun(sequence, rows);
    budget -= rows;
  }
  if (step_.sequences.empty()) return std::nullopt;
  ++next_number_;
  step_.ended.swap(forgotten_);
  flights_.push_back(std::move(flight_));
  return std::move(step_);
}

std::vector<Sequence*> Scheduler::ReadyToDecode() {
  std::vector<Sequence*> ready;
  int decoding = 0;
  // By index: preemption takes sequences off the end, behind the one that is looked at.
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence* sequence = running_[i];
    if (sequence->awaiting) ++decoding;
    if (sequence->awaiting || !sequence->decoding()) continue;
    ++decoding;
    if (CoverNext(sequence)) ready.push_back(sequence);
  }
  const size_t part = CeilDiv(decoding, options_.stages);
  if (ready.size() > part) {
    std::sort(ready.begin(), ready.end(),
              [](const Sequence* a, const Sequence* b) { return a->ready_since < b->ready_since; });
    ready.resize(part);
  }
  return ready;
}

bool Scheduler::CoverNext(Sequence* sequence) {
  const size_t needed = sequence->BlocksFor(sequence->known(), options_.block_tokens);
  while (sequence->table.size() < needed) {
    if (pool_.free() > 0) {
      sequence->table.push_back(pool_.Take());
      continue;
    }
    if (!leaving_.empty()) return false;  // blocks are on their way: wait for the commit
    Sequence* victim = running_.back();
    if (victim == sequence || planted_bug == PlantedBug::kNeverYield) return false;  // its betters will finish
    ++preemptions_;
    Leave(victim);
  }
  return true;
}

int Scheduler::ChunkOf(const Sequence& sequence) const {
  const int left = sequence.known() - sequence.sent;
  if (options_.stages == 1) return left;
  return std::min(left, std::max(kSmallestSplit, CeilDiv(sequence.known(), options_.stages)));
}

void Scheduler::AddRun(Sequence* sequence, int rows) {
  const Request& request = *sequence->request;
  const int end = sequence->sent + rows;
  Run run{.sequence = sequence,
          .id = sequence->id,
          .start = sequence->sent,
          .rows = rows,
          .newest = end == sequence->known()};

  StepSequence part;
  part.id = sequence->id;
  part.start = run.start;
  part.ids.reserve(rows);
  for (int position = run.start; position < end; ++position) part.ids.push_back(sequence->IdAt(position));
  if (request.WantsPrompt(*sequence) && end > static_cast<int>(request.prompt.size())) {
    part.logits = LogitRows::kAll;
    if (!run.newest) part.next_id = sequence->IdAt(end);
  } else if (run.newest && request.limit > 0) {
    part.logits = LogitRows::kLast;
  }
  part.whole_tables = sequence->told == 0;
  if (part.whole_tables) part.sampling = SamplingOf(*sequence);
  const bool withhold = planted_bug == PlantedBug::kTableNotTold && !part.whole_tables;
  part.blocks.resize(1);
  if (!withhold) part.blocks[0].assign(sequence->table.begin() + sequence->told, sequence->table.end());
  run.logits = part.logits;

  sequence->told = static_cast<int>(sequence->table.size());
  sequence->sent = end;
  sequence->awaiting = run.newest;
  ++sequence->outstanding;
  if (sequence->prompt_step == 0 && end >= request.prompt_size()) sequence->prompt_step = step_.number;
  step_.sequences.push_back(std::move(part));
  flight_.runs.push_back(run);
}

Scheduler::Admission Scheduler::Admit(Sequence* sequence) {
  const int present = static_cast<int>(running_.size() + leaving_.size());
  if (present >= options_.max_sequences) return Admission::kStop;
  bool waits = false;
  const Sequence* donor = Donor(*sequence, &waits);
  if (waits) return Admission::kSkip;

  // The newest known row is always computed: it brings the next sample.
  const int taken = donor ? std::min(sequence->request->prompt_size(), sequence->known() - 1) : 0;
  const int shared = taken / options_.block_tokens;
  const int needed = sequence->BlocksFor(sequence->known(), options_.block_tokens) - shared;
  // Some room for those who run, so that the newcomer is not the victim of the next few steps. Alone, it always fits.
  const int room = present / 4;
  if (needed + room > pool_.free() && !(present == 0 && needed <= pool_.free())) return Admission::kStop;

  waiting_.erase(sequence);
  running_.insert(std::upper_bound(running_.begin(), running_.end(), sequence, Earlier()), sequence);
  sequence->phase = Phase::kRunning;
  sequence->request->started = true;
  sequence->id = next_id_++;
  if (donor) Fork(sequence, *donor, taken);
  const size_t total = sequence->BlocksFor(sequence->known(), options_.block_tokens);
  while (sequence->table.size() < total) sequence->table.push_back(pool_.Take());
  return Admission::kAdmitted;
}

const Sequence* Scheduler::Donor(const Sequence& sequence, bool* waits) const {
  *waits = false;
  if (sequence.request->WantsPrompt(sequence)) return nullptr;  // needs the logits of every row
  for (const Sequence& sibling : sequence.request->choices) {
    if (&sibling == &sequence || sibling.phase != Phase::kRunning) continue;
    // Copies run before the forward, so the prompt must have been in an earlier step than this one.
    const bool soon = planted_bug == PlantedBug::kForkTooSoon;
    if (sibling.prompt_step != 0 && (soon || sibling.prompt_step < step_.number)) return &sibling;
    *waits = true;
  }
  return nullptr;
}

void Scheduler::Fork(Sequence* sequence, const Sequence& donor, int rows) {
  const int shared = rows / options_.block_tokens;
  for (int i = 0; i < shared; ++i) {
    pool_.Share(donor.table[i]);
    sequence->table.push_back(donor.table[i]);
  }
  if (rows % options_.block_tokens != 0) {
    const int32_t from = donor.table[shared];
    if (planted_bug == PlantedBug::kSharePartial) {
      pool_.Share(from);
      sequence->table.push_back(from);
    } else {
      const int32_t to = pool_.Take();
      sequence->table.push_back(to);
      step_.copies.push_back({.group = 0, .from = from, .to = to});
      if (planted_bug != PlantedBug::kUncountedCopy) {
        pool_.Share(from);
        flight_.held.push_back(from);
      }
    }
  }
  sequence->sent = rows;
  if (rows >= sequence->request->prompt_size()) sequence->prompt_step = step_.number;
}

Flight Scheduler::Commit() {
  SCHEDULE_CHECK(!flights_.empty());
  Flight flight = std::move(flights_.front());
  flights_.pop_front();
  for (const int32_t block : flight.held) pool_.Release(block);
  flight.held.clear();
  for (const Run& run : flight.runs) {
    SCHEDULE_CHECK(run.sequence->outstanding > 0);
    --run.sequence->outstanding;
  }
  return flight;
}

void Scheduler::Void() {
  while (!flights_.empty()) {
    const Flight flight = Commit();
    for (const Run& run : flight.runs) Settle(run.sequence);
  }
}

void Scheduler::CheckInvariants() const {
  pool_.CheckInvariants();
  std::vector<int> users(pool_.size(), 0), outstanding;
  const auto count = [&](const Sequence* sequence) {
    for (const int32_t block : sequence->table) ++users[block];
    int named = 0;
    for (const Flight& flight : flights_) {
      for (const Run& run : flight.runs) named += run.sequence == sequence;
    }
    SCHEDULE_CHECK(named == sequence->outstanding);
  };
  for (const Sequence* sequence : waiting_) {
    SCHEDULE_CHECK(sequence->phase == Phase::kWaiting && sequence->table.empty() && !sequence->ended);
    SCHEDULE_CHECK(sequence->outstanding == 0);
  }
  for (const Sequence* sequence : running_) {
    SCHEDULE_CHECK(sequence->phase == Phase::kRunning && !sequence->ended);
    SCHEDULE_CHECK(sequence->told <= static_cast<int>(sequence->table.size()));
    SCHEDULE_CHECK(sequence->sent <= static_cast<int>(sequence->table.size()) * options_.block_tokens);
    count(sequence);
  }
  for (const Sequence* sequence : leaving_) {
    SCHEDULE_CHECK(sequence->phase == Phase::kLeaving && sequence->outstanding > 0);
    count(sequence);
  }
  for (const Flight& flight : flights_) {
    for (const int32_t block : flight.held) ++users[block];
  }
  for (int32_t block = 0; block < pool_.size(); ++block) SCHEDULE_CHECK(users[block] == pool_.users(block));
  SCHEDULE_CHECK(std::is_sorted(running_.begin(), running_.end(), Earlier()));
  SCHEDULE_CHECK(static_cast<int>(running_.size() + leaving_.size()) <= options_.max_sequences);
  SCHEDULE_CHECK(static_cast<int>(flights_.size()) <= options_.stages + 1);
}

}  // namespace pangea
