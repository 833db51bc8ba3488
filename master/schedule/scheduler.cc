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

Scheduler::Scheduler(const EngineOptions& options)
    : options_(options), pool_(options.blocks), index_(options.blocks), distrusted_(options.blocks, false) {}

Scheduler::~Scheduler() { Void(); }

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
  sequence->indexed = 0;
  sequence->indexable = true;
  sequence->index_serial = 0;
}

void Scheduler::Distrust(const Sequence& sequence) {
  if (planted_bug == PlantedBug::kShareFailed) return;
  for (const int32_t block : sequence.table) {
    distrusted_[block] = true;
    if (!index_.Has(block)) continue;
    index_.Erase(block);
    pool_.Uncache(block);
  }
}

int32_t Scheduler::TakeBlock() {
  if (pool_.free() == 0) {
    const int32_t oldest = pool_.Oldest();
    if (planted_bug != PlantedBug::kStaleIndex) index_.Erase(oldest);
    pool_.Uncache(oldest);
  }
  const int32_t block = pool_.Take();
  distrusted_[block] = false;
  return block;
}

void Scheduler::Accepted(Sequence* sequence) {
  Index(sequence);  // a row that ran ahead has an id now
  if (sequence->sent >= sequence->known()) return;  // it ran ahead: the row of this very sample is under way
  sequence->awaiting = false;
  sequence->ready_since = ++ready_clock_;
}

// As many steps as stages keep them all busy. One more hides the way to the master and back: with the sequences of the
// oldest flight going on, or when no sequence waits for a sample; otherwise it would split the decoding sequences into
// more parts than there are stages.
bool Scheduler::MayPlan() const {
  const int flights = static_cast<int>(flights_.size());
  if (flights != options_.stages) return flights < options_.stages;
  if (options_.run_ahead) return true;
  return std::none_of(running_.begin(), running_.end(), [](const Sequence* s) { return s->awaiting; });
}

std::optional<Step> Scheduler::Plan() {
  if (!MayPlan()) return std::nullopt;
  step_ = Step();
  flight_ = Flight();
  step_.epoch = options_.epoch;
  step_.number = flight_.number = next_number_;

  int budget = options_.max_batch_tokens;
  // The step beyond the stages is made of those that run ahead, and of prompts; who could decode now waits for its turn.
  const bool beyond = static_cast<int>(flights_.size()) == options_.stages && options_.run_ahead;
  for (Sequence* sequence : beyond ? ReadyToRunAhead() : ReadyToDecode()) {
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

std::vector<Sequence*> Scheduler::ReadyToRunAhead() {
  std::vector<Sequence*> ready;
  for (const Run& run : flights_.front().runs) {
    Sequence* sequence = run.sequence;
    // A block taken by preemption for a row that a stop id may make void would be a bad bargain, so only free ones serve.
    const size_t needed = sequence->BlocksFor(sequence->sent + 1, options_.block_tokens);
    if (!run.newest || sequence->phase != Phase::kRunning || run.id != sequence->id || !sequence->MayRunAhead()) continue;
    if (sequence->table.size() + pool_.available() < needed) continue;
    while (sequence->table.size() < needed) sequence->table.push_back(TakeBlock());
    ready.push_back(sequence);
  }
  return ready;
}

bool Scheduler::CoverNext(Sequence* sequence) {
  const size_t needed = sequence->BlocksFor(sequence->known(), options_.block_tokens);
  while (sequence->table.size() < needed) {
    if (pool_.available() > 0) {
      sequence->table.push_back(TakeBlock());
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
          .newest = end >= sequence->known()};

  StepSequence part;
  part.id = sequence->id;
  part.start = run.start;
  part.ids.reserve(rows);
  // A row past the known ids is "your last sample": ids stay empty.
  for (int position = run.start; position < std::min(end, sequence->known()); ++position)
    part.ids.push_back(sequence->IdAt(position));
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
  Index(sequence);
}

std::vector<int32_t> Scheduler::IdsOf(const Sequence& sequence, int block) const {
  std::vector<int32_t> ids(options_.block_tokens);
  for (int i = 0; i < options_.block_tokens; ++i) ids[i] = sequence.IdAt(block * options_.block_tokens + i);
  return ids;
}

void Scheduler::Index(Sequence* sequence) {
  if (!options_.prefix_cache || !sequence->indexable || sequence->phase != Phase::kRunning) return;
  const int early = planted_bug == PlantedBug::kIndexPartial ? options_.block_tokens - 1 : 0;
  const int rows = std::min(sequence->sent + early, sequence->known());
  for (; (sequence->indexed + 1) * options_.block_tokens <= rows; ++sequence->indexed) {
    const uint64_t before = sequence->indexed == 0 ? PrefixIndex::Root(0) : sequence->index_serial;
    const std::vector<int32_t> ids = IdsOf(*sequence, sequence->indexed);
    int32_t block = index_.Find(before, ids);
    if (block < 0) {  // otherwise another sequence was first; this one's block is an ordinary one
      block = sequence->table[sequence->indexed];
      if (distrusted_[block]) {  // a sequence that has failed had it too: neither it nor what was computed from it is
                                 // offered again
        sequence->indexable = false;
        return;
      }
      if (index_.Has(block)) index_.Erase(block);  // what it continued has been given up: it could not be found
      index_.Insert(before, ids, block);
      pool_.Cache(block);
    }
    sequence->index_serial = index_.serial(block);
  }
}

std::vector<int32_t> Scheduler::Match(const Sequence& sequence) const {
  std::vector<int32_t> blocks;
  if (!options_.prefix_cache) return blocks;
  // The newest known row is always computed: it brings the next sample.
  const int most = sequence.known() - (planted_bug == PlantedBug::kWholeHit ? 0 : 1);
  uint64_t before = PrefixIndex::Root(0);
  while (static_cast<int>(blocks.size() + 1) * options_.block_tokens <= most) {
    const int32_t block = index_.Find(before, IdsOf(sequence, static_cast<int>(blocks.size())));
    if (block < 0) break;
    blocks.push_back(block);
    before = index_.serial(block);
  }
  return blocks;
}

bool Scheduler::IsBeingComputed(const Sequence& sequence, int blocks) const {
  const int end = (blocks + 1) * options_.block_tokens;
  if (!options_.prefix_cache || end > sequence.known() - 1) return false;
  for (const Sequence* other : running_) {
    if (other->known() < end || other->sent >= end || other->decoding()) continue;
    int position = 0;
    while (position < end && other->IdAt(position) == sequence.IdAt(position)) ++position;
    if (position == end) return true;
  }
  return false;
}

const Sequence* Scheduler::Donor(const Sequence& sequence) const {
  for (const Sequence& sibling : sequence.request->choices) {
    if (&sibling == &sequence || sibling.phase != Phase::kRunning) continue;
    // Copies run before the forward, so the prompt must have been in an earlier step than this one.
    const bool soon = planted_bug == PlantedBug::kForkTooSoon;
    if (sibling.prompt_step != 0 && (soon || sibling.prompt_step < step_.number)) return &sibling;
  }
  return nullptr;
}

// The prompt's last, partial block can only be had from a sibling.
bool Scheduler::IsSiblingReading(const Sequence& sequence) const {
  const auto& choices = sequence.request->choices;
  return std::any_of(choices.begin(), choices.end(), [&](const Sequence& sibling) {
    return &sibling != &sequence && sibling.phase == Phase::kRunning &&
           (sibling.prompt_step == 0 || sibling.prompt_step == step_.number);
  });
}

Scheduler::Admission Scheduler::Admit(Sequence* sequence) {
  const int present = static_cast<int>(running_.size() + leaving_.size());
  if (present >= options_.max_sequences) return Admission::kStop;
  Request& request = *sequence->request;
  const bool reads =
      !request.WantsPrompt(*sequence) || planted_bug == PlantedBug::kEchoFromCache;  // else: needs every row's logits
  std::vector<int32_t> taken;
  int rows = 0;  // that need not be computed
  const Sequence* donor = nullptr;
  if (reads) {
    taken = Match(*sequence);
    rows = static_cast<int>(taken.size()) * options_.block_tokens;
    donor = Donor(*sequence);
    const int offered = donor ? std::min(request.prompt_size(), sequence->known() - 1) : 0;
    if (offered > rows) {
      rows = offered;
      taken.assign(donor->table.begin(), donor->table.begin() + rows / options_.block_tokens);
    } else {
      donor = nullptr;
      if (IsSiblingReading(*sequence) || IsBeingComputed(*sequence, static_cast<int>(taken.size())))
        return Admission::kSkip;
    }
  }
  const int total = sequence->BlocksFor(sequence->known(), options_.block_tokens);
  const int idle =
      static_cast<int>(std::count_if(taken.begin(), taken.end(), [&](int32_t b) { return pool_.users(b) == 0; }));
  const int needed = total - static_cast<int>(taken.size()) + idle;
  // Some room for those who run, so that the newcomer is not the victim of the next few steps. Alone, it always fits.
  const int room = present / 4;
  if (needed + room > pool_.available() && !(present == 0 && needed <= pool_.available())) return Admission::kStop;

  waiting_.erase(sequence);
  running_.insert(std::upper_bound(running_.begin(), running_.end(), sequence, Earlier()), sequence);
  sequence->phase = Phase::kRunning;
  sequence->id = next_id_++;
  sequence->sent = rows;
  for (const int32_t block : taken) pool_.Share(block);
  sequence->table = std::move(taken);
  if (donor && rows % options_.block_tokens != 0) CopyPartial(sequence, *donor);
  while (static_cast<int>(sequence->table.size()) < total) sequence->table.push_back(TakeBlock());
  if (rows >= request.prompt_size()) sequence->prompt_step = step_.number;
  Index(sequence);
  if (reads && options_.prefix_cache) {
    prefix_queries_ += sequence->known();
    if (!donor) prefix_hits_ += rows;
  }
  if (!request.started && sequence->choice == 0 && !donor) request.cached = std::min(rows, request.prompt_size());
  request.started = true;
  return Admission::kAdmitted;
}

void Scheduler::CopyPartial(Sequence* sequence, const Sequence& donor) {
  const int32_t from = donor.table[sequence->table.size()];
  if (planted_bug == PlantedBug::kSharePartial) {
    pool_.Share(from);
    sequence->table.push_back(from);
    return;
  }
  const int32_t to = TakeBlock();
  sequence->table.push_back(to);
  step_.copies.push_back({.group = 0, .from = from, .to = to});
  if (planted_bug == PlantedBug::kUncountedCopy) return;
  pool_.Share(from);
  flight_.held.push_back(from);
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
  for (int32_t block = 0; block < pool_.size(); ++block) {
    if (!index_.Has(block)) continue;
    index_.Erase(block);
    pool_.Uncache(block);
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
  for (int32_t block = 0; block < pool_.size(); ++block) SCHEDULE_CHECK(index_.Has(block) == pool_.cached(block));
  SCHEDULE_CHECK(std::is_sorted(running_.begin(), running_.end(), Earlier()));
  SCHEDULE_CHECK(static_cast<int>(running_.size() + leaving_.size()) <= options_.max_sequences);
  SCHEDULE_CHECK(static_cast<int>(flights_.size()) <= options_.stages + 1);
}

}  // namespace pangea
