// Who is admitted, and what it need not compute: rows from the prefix cache, from a sibling, or from its own copy.
#include <algorithm>

#include "master/schedule/check.h"
#include "master/schedule/planted_bug.h"
#include "master/schedule/scheduler.h"

namespace pangea {

Scheduler::Cached Scheduler::Match(const Sequence& sequence) const {
  Cached cached;
  if (!options_.prefix_cache) return cached;
  // The newest known row is always computed: it brings the next sample.
  const int most = sequence.known() - (planted_bug == PlantedBug::kWholeHit ? 0 : 1);
  const SequenceRequest& body = sequence.request->body;
  const bool any = planted_bug == PlantedBug::kForgetSalt;
  uint64_t before = index_.Root(body.adapter, any ? CacheSalt() : body.cache_salt);
  while (cached.rows + options_.block_tokens <= most) {
    const int32_t block = index_.Find(before, IdsOf(sequence, static_cast<int>(cached.blocks.size())));
    if (block < 0) break;
    cached.blocks.push_back(block);
    cached.rows += options_.block_tokens;
    before = index_.serial(block);
  }
  std::vector<int32_t> rest;
  for (int i = cached.rows; i < std::min(most, cached.rows + options_.block_tokens); ++i)
    rest.push_back(sequence.IdAt(i));
  cached.partial = index_.FindBeginning(before, rest);
  // Copies run before the forward, so its rows must have been in an earlier step than this one.
  const bool early = planted_bug == PlantedBug::kCopyTooSoon;
  if (cached.partial.alike > 0 && !early && indexed_step_[cached.partial.block] >= step_.number) {
    cached.soon = 2 * cached.partial.alike >= options_.block_tokens;
    cached.partial = {};
  }
  cached.rows += cached.partial.alike;
  if (cached.rows < options_.prefix_min_tokens) return {};
  return cached;
}

bool Scheduler::IsBeingComputed(const Sequence& sequence, int blocks) const {
  if (!options_.prefix_cache) return false;
  for (const Sequence* other : running_) {
    const SequenceRequest &theirs = other->request->body, &own = sequence.request->body;
    if (other->decoding() || theirs.adapter != own.adapter || theirs.cache_salt != own.cache_salt) continue;
    const int most = std::min(sequence.known() - 1, other->known());
    int alike = 0;
    while (alike < most && other->IdAt(alike) == sequence.IdAt(alike)) ++alike;
    alike -= alike % options_.block_tokens;
    if (alike > blocks * options_.block_tokens && alike > other->sent && alike >= options_.prefix_min_tokens)
      return true;
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
  Cached cached;
  const Sequence* donor = nullptr;
  if (reads) {
    cached = Match(*sequence);
    donor = Donor(*sequence);
  }
  const int offered = donor ? std::min(request.prompt_size(), sequence->known() - 1) : 0;
  const bool swaps_in = sequence->swapped > std::max(cached.rows, offered);
  int rows = cached.rows;  // that need not be computed
  int32_t copied = cached.partial.alike > 0 ? cached.partial.block : -1;
  std::vector<int32_t> taken = std::move(cached.blocks);
  if (swaps_in) {
    donor = nullptr;
    copied = -1;
  } else if (offered > rows) {
    rows = offered;
    const int whole = rows / options_.block_tokens;
    taken.assign(donor->table.begin(), donor->table.begin() + whole);
    copied = rows % options_.block_tokens != 0 ? donor->table[whole] : -1;
  } else if (reads) {
    donor = nullptr;
    if (cached.soon || IsSiblingReading(*sequence) || IsBeingComputed(*sequence, static_cast<int>(taken.size())))
      return Admission::kSkip;
  }
  const int total = sequence->BlocksFor(sequence->known(), options_.block_tokens);
  const int idle =
      static_cast<int>(std::count_if(taken.begin(), taken.end(), [&](int32_t b) { return pool_.users(b) == 0; })) +
      (copied >= 0 && pool_.users(copied) == 0);
  const int needed = total - static_cast<int>(taken.size()) + idle;
  // Some room for those who run, so that the newcomer is not the victim of the next few steps. Alone, it always fits;
  // if need be without the block that would be copied.
  const int room = present / 4;
  const bool alone = present == 0 && (needed <= pool_.available() || copied >= 0);
  if (needed + room > pool_.available() && !alone) return Admission::kStop;
  if (needed > pool_.available()) {
    rows -= rows % options_.block_tokens;
    copied = -1;
    if (rows < options_.prefix_min_tokens) {  // what is left is no hit any more
      rows = 0;
      taken.clear();
    }
  }

  waiting_.Erase(sequence);
  running_.insert(std::upper_bound(running_.begin(), running_.end(), sequence, Earlier()), sequence);
  sequence->phase = Phase::kRunning;
  sequence->id = next_id_++;
  sequence->sent = rows;
  for (const int32_t block : taken) pool_.Share(block);
  sequence->table = std::move(taken);
  if (swaps_in) SwapIn(sequence);
  DropSwapped(sequence);
  if (copied >= 0) CopyPartial(sequence, copied);
  while (static_cast<int>(sequence->table.size()) < total) sequence->table.push_back(TakeBlock());
  if (sequence->sent >= request.prompt_size()) sequence->prompt_step = step_.number;
  Index(sequence, step_.number);
  if (reads && options_.prefix_cache) {
    prefix_queries_ += sequence->known();
    if (!donor) prefix_hits_ += rows;
  }
  if (!request.started && sequence->choice == 0 && !donor) request.cached = std::min(rows, request.prompt_size());
  request.started = true;
  return Admission::kAdmitted;
}

void Scheduler::CopyPartial(Sequence* sequence, int32_t from) {
  pool_.Share(from);  // first: it may be the one that would be given up
  if (planted_bug == PlantedBug::kSharePartial) {
    sequence->table.push_back(from);
    return;
  }
  const int32_t to = TakeBlock();
  sequence->table.push_back(to);
  step_.copies.push_back({.group = 0, .from = from, .to = to});
  if (planted_bug == PlantedBug::kUncountedCopy) return pool_.Release(from);
  flight_.held.push_back(from);
}

// The rows it has computed go to swap blocks; called just before its blocks are released.
void Scheduler::SwapOut(Sequence* sequence) {
  const int rows = std::min(sequence->sent, sequence->known() - 1);
  const int blocks = sequence->BlocksFor(rows, options_.block_tokens);
  if (rows <= 0 || blocks > static_cast<int>(free_slots_.size())) return;
  const std::optional<double> row = cost_.row_seconds(), block = cost_.block_seconds();
  // There and back. What is not known yet is tried, and so learned.
  if (row && block && 2 * blocks * *block > rows * *row) return;
  for (int i = 0; i < blocks; ++i) {
    sequence->slots.push_back(free_slots_.back());
    free_slots_.pop_back();
    swap_outs_.push_back({.group = 0, .from = sequence->table[i], .to = sequence->slots[i]});
  }
  sequence->swapped = rows;
  ++swapped_;
}

void Scheduler::SwapIn(Sequence* sequence) {
  const size_t blocks = sequence->slots.size() - (planted_bug == PlantedBug::kSwapShort ? 1 : 0);
  for (size_t i = sequence->table.size(); i < sequence->slots.size(); ++i) {
    sequence->table.push_back(TakeBlock());
    if (i < blocks) step_.copies.push_back({.group = 0, .from = sequence->slots[i], .to = sequence->table[i]});
  }
  sequence->sent = sequence->swapped;
  // Not for the prefix index: had a sequence that shared these rows failed while they were swapped out, nobody would
  // have marked them.
  sequence->indexable = false;
}

void Scheduler::CancelSwapOut(const Sequence& sequence) {
  if (planted_bug == PlantedBug::kSwapReuse) return;
  std::erase_if(swap_outs_, [&](const BlockCopy& copy) {
    return std::find(sequence.slots.begin(), sequence.slots.end(), copy.to) != sequence.slots.end();
  });
}

void Scheduler::DropSwapped(Sequence* sequence) {
  free_slots_.insert(free_slots_.end(), sequence->slots.rbegin(), sequence->slots.rend());
  sequence->slots.clear();
  sequence->swapped = 0;
}

}  // namespace pangea
