#include "master/schedule/scheduler.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "master/schedule/check.h"
#include "master/schedule/planted_bug.h"

namespace pangea {
namespace {

// A chunk shorter than this costs more in passes over the weights than it gains by overlapping stages.
constexpr int kSmallestSplit = 64;

int CeilDiv(int a, int b) { return (a + b - 1) / b; }

}  // namespace

Scheduler::Scheduler(const EngineOptions& options)
    : options_(options), cache_(options.groups, options.block_tokens), cost_(options.max_sequences) {}

Scheduler::~Scheduler() { Void(/*pages=*/false); }

void Scheduler::Enqueue(Sequence* sequence) {
  sequence->phase = Phase::kWaiting;
  waiting_.Insert(sequence);
}

void Scheduler::Leave(Sequence* sequence) {
  switch (sequence->phase) {
    case Phase::kWaiting:
      waiting_.Erase(sequence);
      CancelSwapOut(*sequence);
      if (planted_bug != PlantedBug::kSwapLeak) DropSwapped(sequence);
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
  if (!sequence->ended) SwapOut(sequence);
  GoHome(sequence);
}

void Scheduler::Settle(const Run& run) {
  Sequence* sequence = run.sequence;
  if (sequence->phase == Phase::kRunning) {
    sequence->answered = true;
    GiveBack(sequence, run.start + run.rows);
  }
  if (sequence->phase != Phase::kLeaving || sequence->outstanding > 0) return;
  leaving_.erase(std::find(leaving_.begin(), leaving_.end(), sequence));
  if (!sequence->ended) SwapOut(sequence);
  GoHome(sequence);
}

void Scheduler::GoHome(Sequence* sequence) {
  ReleaseBlocks(sequence);
  sequence->phase = Phase::kDone;
  if (!sequence->ended) Enqueue(sequence);
}

void Scheduler::ReleaseBlocks(Sequence* sequence) {
  if (planted_bug == PlantedBug::kLeakBlock && sequence->blocks() > 0) sequence->tables.back().pop_back();
  // From the back: the blocks that come first in a table are the likelier ones to be wanted again.
  for (int group = 0; group < static_cast<int>(sequence->tables.size()); ++group) {
    const std::vector<int32_t>& table = sequence->tables[group];
    for (auto block = table.rbegin(); block != table.rend(); ++block) cache_.Release(group, *block);
  }
  if (sequence->told > 0) forgotten_.push_back(sequence->id);
  sequence->tables.clear();
  sequence->id = 0;
  sequence->told = sequence->sent = 0;
  sequence->awaiting = sequence->answered = false;
  sequence->prompt_step = sequence->mask_due = 0;
  sequence->indexed = 0;
  sequence->indexable = true;
  sequence->index_serial = 0;
}

void Scheduler::Distrust(const Sequence& sequence) {
  if (planted_bug == PlantedBug::kShareFailed) return;
  for (int i = 0; i < sequence.blocks(); ++i) cache_.Distrust(ColumnAt(sequence, i));
}

Column Scheduler::ColumnAt(const Sequence& sequence, int block) const {
  Column column;
  for (const std::vector<int32_t>& table : sequence.tables) column.push_back(table[block]);
  return column;
}

void Scheduler::Grow(Sequence* sequence) {
  for (int group = 0; group < cache_.groups(); ++group) sequence->tables[group].push_back(cache_.Take(group));
}

void Scheduler::GiveBack(Sequence* sequence, int next) {
  if (planted_bug == PlantedBug::kGiveBackEarly) next += options_.block_tokens;
  for (int group = 0; group < cache_.groups(); ++group) {
    std::vector<int32_t>& table = sequence->tables[group];
    // Down to where the step before stopped.
    for (int i = std::min(cache_.First(group, next), sequence->blocks()) - 1; i >= 0 && table[i] != kNoBlock; --i)
      cache_.Release(group, std::exchange(table[i], kNoBlock));
  }
}

void Scheduler::Accepted(Sequence* sequence) {
  Index(sequence, next_number_ - 1);                // a row that ran ahead has an id now
  if (sequence->sent >= sequence->known()) return;  // it ran ahead: the row of this very sample is under way
  sequence->awaiting = false;
  sequence->ready_since = ++ready_clock_;
}

// As many steps as stages keep them all busy. One more hides the way to the master and back: with the sequences of the
// oldest flight going on, or when no sequence waits for a sample; otherwise it would split the decoding sequences into
// more parts than there are stages.
bool Scheduler::MayPlan() const {
  if (epoch_ == 0) return false;
  const int flights = static_cast<int>(flights_.size());
  if (flights != options_.stages) return flights < options_.stages;
  if (options_.run_ahead) return true;
  return std::none_of(running_.begin(), running_.end(), [](const Sequence* s) { return s->awaiting; });
}

// Rows of prompt that a step may have. Limited as long as anything decodes, in this step or in one under way, since the
// steps share the stages. The yardstick is a step in which all sequences decode: those who decode now will have to bear
// that time anyway.
int Scheduler::PromptBudget() const {
  if (options_.prefill_slowdown <= 0) return options_.max_batch_tokens;
  int decoding = flight_.decode_rows;
  for (auto flight = flights_.rbegin(); decoding == 0 && flight != flights_.rend(); ++flight)
    decoding = flight->decode_rows;
  if (decoding == 0) return options_.max_batch_tokens;
  const int all = std::min<int>(options_.max_sequences, running_.size() + waiting_.size());
  return cost_.PromptRows(decoding, CeilDiv(all, options_.stages), options_.prefill_slowdown).value_or(kSmallestSplit);
}

std::optional<Step> Scheduler::Plan(double now) {
  if (!MayPlan()) return std::nullopt;
  step_ = Step();
  flight_ = Flight();
  flight_.sent = now;
  step_.sequences.reserve(running_.size());
  flight_.runs.reserve(running_.size());
  step_.epoch = epoch_;
  step_.number = flight_.number = next_number_;

  int budget = options_.max_batch_tokens;
  // The step beyond the stages is made of those that run ahead, and of prompts; who could decode now waits for its
  // turn.
  const bool beyond = static_cast<int>(flights_.size()) == options_.stages && options_.run_ahead;
  if (beyond && IsUneven()) return std::nullopt;
  // One stream alone has nobody to share the stages with: its next id need not go by the master either.
  const bool alone = options_.run_ahead && flights_.size() == 1 && waiting_.empty() && running_.size() == 1 &&
                     running_.front()->awaiting;
  for (Sequence* sequence : beyond || alone ? ReadyToRunAhead() : ReadyToDecode()) {
    if (budget == 0) break;
    AddRun(sequence, 1);
    --budget;
  }
  budget = std::min(budget, PromptBudget());
  for (Sequence* sequence : running_) {
    if (budget == 0) break;
    if (sequence->awaiting || sequence->decoding()) continue;
    const int rows = std::min(budget, ChunkOf(*sequence));
    AddRun(sequence, rows);
    budget -= rows;
  }
  FairQueue::Cursor next(&waiting_);
  while (budget > 0) {
    Sequence* sequence = next.Next();
    if (sequence == nullptr) break;
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
  const auto first = planted_bug == PlantedBug::kSwapLate ? step_.copies.end() : step_.copies.begin();
  step_.copies.insert(first, swap_outs_.begin(), swap_outs_.end());
  swap_outs_.clear();
  flight_.copies = static_cast<int>(step_.copies.size());
  flights_.push_back(std::move(flight_));
  return std::move(step_);
}

// Sequences that run ahead stay together, flight after flight. A flight that is smaller than its share therefore does
// not run ahead when other sequences could join it once it is committed: each flight costs a pass over the weights
// however small it is, and one more than there are stages would stay for good.
bool Scheduler::IsUneven() const {
  int idle = 0, decoding = 0, ahead = 0;
  for (const Sequence* sequence : running_) {
    decoding += sequence->awaiting || sequence->decoding();
    idle += !sequence->awaiting && sequence->decoding();
  }
  for (const Run& run : flights_.front().runs)
    ahead += run.newest && run.sequence->awaiting && run.id == run.sequence->id;
  const int share = decoding / options_.stages;
  return ahead < share && (idle > 0 || 2 * ahead < share);
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
  // When a flight has grown well beyond its share, only so many of it go on; the others join a smaller flight once they
  // are committed.
  const size_t share =
      CeilDiv(static_cast<int>(std::count_if(running_.begin(), running_.end(),
                                             [](const Sequence* s) { return s->awaiting || s->decoding(); })),
              options_.stages);
  const size_t most = flights_.front().runs.size() > share + share / 4 ? share : flights_.front().runs.size();
  for (const Run& run : flights_.front().runs) {
    if (ready.size() == most) break;
    Sequence* sequence = run.sequence;
    // Only blocks that are free: nobody is preempted for a row that a stop id may make void.
    const int needed = sequence->BlocksFor(sequence->sent + 1, options_.block_tokens);
    if (!run.newest || sequence->phase != Phase::kRunning || run.id != sequence->id || !sequence->MayRunAhead())
      continue;
    if (sequence->blocks() + cache_.available() < needed) continue;
    while (sequence->blocks() < needed) Grow(sequence);
    ready.push_back(sequence);
  }
  return ready;
}

bool Scheduler::CoverNext(Sequence* sequence) {
  const int needed = sequence->BlocksFor(sequence->known(), options_.block_tokens);
  while (sequence->blocks() < needed) {
    if (cache_.available() > 0) {
      Grow(sequence);
      continue;
    }
    if (!leaving_.empty()) return false;  // blocks are on their way: wait for the commit
    Sequence* victim = running_.back();
    if (victim == sequence || planted_bug == PlantedBug::kNeverYield)
      return false;  // wait: those before it will finish
    ++preemptions_;
    Leave(victim);
  }
  return true;
}

int Scheduler::ChunkOf(const Sequence& sequence) const {
  if (planted_bug == PlantedBug::kDribble) return 1;
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
  part.adapter = request.body.adapter;
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
  part.blocks.resize(sequence->tables.size());
  for (size_t group = 0; group < part.blocks.size() && !withhold; ++group) {
    const std::vector<int32_t>& table = sequence->tables[planted_bug == PlantedBug::kOneTable ? 0 : group];
    part.blocks[group].assign(table.begin() + sequence->told, table.end());
  }
  run.logits = part.logits;
  part.masked = request.body.masked && run.newest && request.limit > 0;
  if (part.masked) sequence->mask_due = step_.number, flight_.masked = true;

  sequence->told = sequence->blocks();
  sequence->sent = end;
  sequence->awaiting = run.newest;
  ++sequence->outstanding;
  if (sequence->prompt_step == 0 && end >= request.prompt_size()) sequence->prompt_step = step_.number;
  (rows == 1 && end > request.prompt_size() ? flight_.decode_rows : flight_.prompt_rows) += rows;
  if (end > sequence->charged) {
    waiting_.Charge(*sequence, end - std::max(sequence->charged, run.start));
    sequence->charged = end;
  }
  step_.sequences.push_back(std::move(part));
  flight_.runs.push_back(run);
  Index(sequence, step_.number);
}

std::vector<int32_t> Scheduler::IdsOf(const Sequence& sequence, int block) const {
  std::vector<int32_t> ids(options_.block_tokens);
  for (int i = 0; i < options_.block_tokens; ++i) ids[i] = sequence.IdAt(block * options_.block_tokens + i);
  return ids;
}

void Scheduler::Index(Sequence* sequence, uint64_t step) {
  if (!options_.prefix_cache || !sequence->indexable || sequence->phase != Phase::kRunning) return;
  const int early = planted_bug == PlantedBug::kIndexPartial ? options_.block_tokens - 1 : 0;
  const int rows = std::min(sequence->sent + early, sequence->known());
  for (; (sequence->indexed + 1) * options_.block_tokens <= rows; ++sequence->indexed) {
    const SequenceRequest& body = sequence->request->body;
    uint64_t before =
        sequence->indexed == 0 ? cache_.index().Root(body.adapter, body.cache_salt) : sequence->index_serial;
    const std::vector<int32_t> ids = IdsOf(*sequence, sequence->indexed);
    const Column column = ColumnAt(*sequence, sequence->indexed);
    // A sequence that has failed had it too, or might have: neither it nor what was computed from it is offered.
    if (cache_.IsDistrusted(column)) {
      sequence->indexable = false;
      return;
    }
    int32_t name = cache_.index().Find(before, ids);
    if (name < 0) {  // otherwise another sequence was first; this one's column is an ordinary one
      if (cache_.index().Has(column[0])) cache_.Forget(column[0]);  // what it continued has been given up: not findable
      if (sequence->indexed == 0) before = cache_.MakeRoot(body.adapter, body.cache_salt);
      name = cache_.Insert(before, ids, column, step);
    }
    sequence->index_serial = cache_.index().serial(name);
  }
}

Flight Scheduler::Commit() {
  SCHEDULE_CHECK(!flights_.empty());
  Flight flight = std::move(flights_.front());
  flights_.pop_front();
  for (const Column& column : flight.held) {
    for (int group = 0; group < cache_.groups(); ++group) cache_.Release(group, column[group]);
  }
  flight.held.clear();
  for (const Run& run : flight.runs) {
    SCHEDULE_CHECK(run.sequence->outstanding > 0);
    --run.sequence->outstanding;
  }
  return flight;
}

void Scheduler::Learn(double now, const Flight& flight, double copy_seconds) {
  const double seconds = now - std::max(flight.sent, last_result_) - copy_seconds;
  last_result_ = now;
  if (flight.masked) return;
  cost_.Learn(flight.decode_rows, flight.prompt_rows, seconds);
  cost_.LearnCopies(flight.copies, copy_seconds);
}

void Scheduler::BeginEpoch(uint64_t epoch, const EngineLayout* layout, bool pages) {
  SCHEDULE_CHECK(epoch > epoch_);
  Void(pages && layout == nullptr);
  epoch_ = epoch;
  if (layout != nullptr && planted_bug != PlantedBug::kLayoutStays) {
    static_cast<EngineLayout&>(options_) = *layout;
    cache_.Lay(layout->groups);
    cost_ = StepCost(options_.max_sequences);  // what steps take is to be learned anew
  }
  if (planted_bug != PlantedBug::kNumbersGoOn) next_number_ = 1;
}

void Scheduler::Rewind(Sequence* sequence, int rows) {
  sequence->id = next_id_++;
  sequence->sent = rows;
  sequence->told = 0;
  sequence->awaiting = false;
  sequence->ready_since = ++ready_clock_;
  sequence->prompt_step = sequence->mask_due = 0;
  sequence->indexed = 0;  // it finds its columns again
  sequence->index_serial = 0;
}

void Scheduler::Void(bool pages) {
  const uint64_t first = flights_.empty() ? next_number_ : flights_.front().number;  // that is void
  std::unordered_map<const Sequence*, const Run> void_runs;                          // of each sequence the first
  while (!flights_.empty()) {
    for (const Run& run : Commit().runs) void_runs.emplace(run.sequence, run);
  }
  if (pages) {
    if (planted_bug != PlantedBug::kVoidIndexed) cache_.ForgetFrom(first);
  } else if (planted_bug != PlantedBug::kIndexOutlives) {
    cache_.ForgetAll();
  }
  std::vector<Sequence*> homeless = std::exchange(leaving_, {});
  std::vector<Sequence*> ran = std::exchange(running_, {});
  for (Sequence* sequence : ran) {
    const auto run = void_runs.find(sequence);
    const bool void_at_all = run != void_runs.end();
    // What it has begun with, shared or copied, may itself be of a void step.
    const bool goes_on = pages && (sequence->answered || planted_bug == PlantedBug::kVoidBeginning);
    const int rows = void_at_all && planted_bug != PlantedBug::kVoidRows ? run->second.start : sequence->sent;
    rows_lost_ += sequence->sent - (goes_on ? rows : 0);
    if (goes_on) {
      Rewind(sequence, rows);
      running_.push_back(sequence);
    } else if (planted_bug == PlantedBug::kOutliveEpoch) {
      running_.push_back(sequence);
    } else {
      ++preemptions_;
      homeless.push_back(sequence);
    }
  }
  for (Sequence* sequence : homeless) GoHome(sequence);
  if (planted_bug != PlantedBug::kSwapOutlives) {
    waiting_.ForEach([this](Sequence* sequence) { DropSwapped(sequence); });
    swap_outs_.clear();
  }
  if (planted_bug != PlantedBug::kEndUnknown) forgotten_.clear();
}

void Scheduler::CheckInvariants() const {
  std::vector<std::vector<int>> users;
  std::vector<int> slots(cache_.groups(), 0);
  for (const CacheGroup& group : options_.groups) users.emplace_back(group.blocks, 0);
  const auto use = [&](const Column& column) {
    for (int group = 0; group < cache_.groups(); ++group) {
      if (column[group] != kNoBlock) ++users[group][column[group]];
    }
  };
  const auto count = [&](const Sequence* sequence) {
    for (int i = 0; i < sequence->blocks(); ++i) use(ColumnAt(*sequence, i));
    int named = 0;
    for (const Flight& flight : flights_) {
      for (const Run& run : flight.runs) named += run.sequence == sequence;
    }
    SCHEDULE_CHECK(named == sequence->outstanding);
  };
  waiting_.ForEach([&](const Sequence* sequence) {
    SCHEDULE_CHECK(sequence->phase == Phase::kWaiting && sequence->tables.empty() && !sequence->ended);
    SCHEDULE_CHECK(sequence->outstanding == 0);
    for (size_t group = 0; group < sequence->slots.size(); ++group) slots[group] += sequence->slots[group].size();
  });
  // A swap block that is free may be taken by the next sequence: no copy to it may still be waiting to be sent.
  for (const BlockCopy& copy : swap_outs_) SCHEDULE_CHECK(!cache_.IsFreeSlot(copy.group, copy.to));
  for (const Sequence* sequence : running_) {
    SCHEDULE_CHECK(sequence->phase == Phase::kRunning && !sequence->ended);
    for (const std::vector<int32_t>& table : sequence->tables)
      SCHEDULE_CHECK(static_cast<int>(table.size()) == sequence->blocks());
    SCHEDULE_CHECK(sequence->told <= sequence->blocks());
    SCHEDULE_CHECK(sequence->sent <= sequence->blocks() * options_.block_tokens);
    SCHEDULE_CHECK(sequence->slots.empty());
    count(sequence);
  }
  for (const Sequence* sequence : leaving_) {
    SCHEDULE_CHECK(sequence->phase == Phase::kLeaving && sequence->outstanding > 0);
    count(sequence);
  }
  for (const Flight& flight : flights_) {
    for (const Column& column : flight.held) use(column);
  }
  cache_.CheckInvariants(users, slots);
  SCHEDULE_CHECK(std::is_sorted(running_.begin(), running_.end(), Earlier()));
  SCHEDULE_CHECK(static_cast<int>(running_.size() + leaving_.size()) <= options_.max_sequences);
  SCHEDULE_CHECK(static_cast<int>(flights_.size()) <= options_.stages + 1);
}

}  // namespace pangea
