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
  const PrefixIndex& index = cache_.index();
  const uint64_t root = index.Root(body.adapter, any ? CacheSalt() : body.cache_salt);
  uint64_t before = root;
  while (static_cast<int>(cached.names.size() + 1) * options_.block_tokens <= most) {
    const int32_t name = index.Find(before, IdsOf(sequence, static_cast<int>(cached.names.size())));
    if (name < 0) break;
    cached.names.push_back(name);
    before = index.serial(name);
  }
  cached.names.resize(cache_.Usable(cached.names));
  cached.rows = static_cast<int>(cached.names.size()) * options_.block_tokens;
  before = cached.names.empty() ? root : index.serial(cached.names.back());
  std::vector<int32_t> rest;
  for (int i = cached.rows; i < std::min(most, cached.rows + options_.block_tokens); ++i)
    rest.push_back(sequence.IdAt(i));
  cached.partial = index.FindBeginning(before, rest);
  if (cached.partial.alike > 0) {
    const Column column = cache_.ColumnOf(cached.partial.block);
    if (std::find(column.begin(), column.end(), kNoBlock) != column.end()) cached.partial = {};
  }
  // Copies run before the forward, so its rows must have been in an earlier step than this one.
  const bool early = planted_bug == PlantedBug::kCopyTooSoon;
  if (cached.partial.alike > 0 && !early && cache_.step(cached.partial.block) >= step_.number) {
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

bool Scheduler::Holds(const Sequence& sequence, int rows) const {
  if (planted_bug == PlantedBug::kHoleShared) return true;
  const int next = rows - rows % options_.block_tokens;  // if need be it begins with the whole blocks alone
  for (int group = 0; group < cache_.groups(); ++group) {
    const auto begin = sequence.tables[group].begin();
    const auto end = begin + sequence.BlocksFor(rows, options_.block_tokens);
    if (std::find(begin + std::min(cache_.First(group, next), static_cast<int>(end - begin)), end, kNoBlock) != end)
      return false;
  }
  return true;
}

const Sequence* Scheduler::Donor(const Sequence& sequence, int rows) const {
  for (const Sequence& sibling : sequence.request->choices) {
    if (&sibling == &sequence || sibling.phase != Phase::kRunning) continue;
    // Copies run before the forward, so the prompt must have been in an earlier step than this one.
    const bool soon = planted_bug == PlantedBug::kForkTooSoon;
    if (sibling.prompt_step != 0 && (soon || sibling.prompt_step < step_.number) && Holds(sibling, rows))
      return &sibling;
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

Scheduler::Beginning Scheduler::BeginningOf(const Cached& cached) const {
  Beginning beginning{.rows = cached.rows};
  for (const int32_t name : cached.names) beginning.shared.push_back(cache_.ColumnOf(name));
  if (cached.partial.alike > 0) beginning.copied = cache_.ColumnOf(cached.partial.block);
  return beginning;
}

Scheduler::Beginning Scheduler::BeginningOf(const Sequence& donor, int rows) const {
  Beginning beginning{.rows = rows};
  const int whole = rows / options_.block_tokens;
  for (int i = 0; i < whole; ++i) beginning.shared.push_back(ColumnAt(donor, i));
  if (rows % options_.block_tokens != 0) beginning.copied = ColumnAt(donor, whole);
  return beginning;
}

int Scheduler::Needed(int group, const Beginning& beginning, int next, int total) const {
  const int shared = static_cast<int>(beginning.shared.size()), first = cache_.First(group, next);
  const auto is_free = [&](const Column& column) { return cache_.users(group, column[group]) == 0; };
  int needed = total - std::max(first, shared);
  for (int i = first; i < shared; ++i) needed += is_free(beginning.shared[i]);
  return needed + (!beginning.copied.empty() && is_free(beginning.copied));
}

Scheduler::Admission Scheduler::Admit(Sequence* sequence) {
  const int present = static_cast<int>(running_.size() + leaving_.size());
  if (present >= options_.max_sequences) return Admission::kStop;
  Request& request = *sequence->request;
  const bool reads =
      !request.WantsPrompt(*sequence) || planted_bug == PlantedBug::kEchoFromCache;  // else: needs every row's logits
  Cached cached;
  const Sequence* donor = nullptr;
  int offered = 0;
  if (reads) {
    cached = Match(*sequence);
    offered = std::min(request.prompt_size(), sequence->known() - 1);
    donor = Donor(*sequence, offered);
    if (!donor) offered = 0;
  }
  const bool swaps_in = sequence->swapped > std::max(cached.rows, offered);
  Beginning beginning = BeginningOf(cached);
  if (swaps_in) {
    donor = nullptr;
    beginning.copied.clear();
  } else if (offered > cached.rows) {
    beginning = BeginningOf(*donor, offered);
  } else if (reads) {
    donor = nullptr;
    if (cached.soon || IsSiblingReading(*sequence) || IsBeingComputed(*sequence, static_cast<int>(cached.names.size())))
      return Admission::kSkip;
  }
  const int total = sequence->BlocksFor(sequence->known(), options_.block_tokens);
  // Some room for those who run, so that the newcomer is not the victim of the next few steps. Alone, it always fits;
  // if need be without the column that would be copied.
  const auto fits = [&](int room) {
    const int next = swaps_in ? sequence->swapped : beginning.rows;
    for (int group = 0; group < cache_.groups(); ++group) {
      if (Needed(group, beginning, next, total) + room > cache_.available(group)) return false;
    }
    return true;
  };
  const bool alone = present == 0 && (fits(0) || !beginning.copied.empty());
  if (!fits(present / 4) && !alone) return Admission::kStop;
  if (!fits(0)) {
    beginning.rows -= beginning.rows % options_.block_tokens;
    beginning.copied.clear();
    if (beginning.rows < options_.prefix_min_tokens) {  // what is left is no hit any more
      beginning.rows = 0;
      beginning.shared.clear();
    }
  }
  Begin(sequence, beginning, swaps_in);
  while (sequence->blocks() < total) Grow(sequence);
  if (sequence->sent >= request.prompt_size()) sequence->prompt_step = step_.number;
  Index(sequence, step_.number);
  if (reads && options_.prefix_cache) {
    prefix_queries_ += sequence->known();
    if (!donor) prefix_hits_ += beginning.rows;
  }
  if (!request.started && sequence->choice == 0 && !donor)
    request.cached = std::min(beginning.rows, request.prompt_size());
  request.started = true;
  return Admission::kAdmitted;
}

// From the queue to the running ones, with the columns that it need not compute.
void Scheduler::Begin(Sequence* sequence, const Beginning& beginning, bool swaps_in) {
  waiting_.Erase(sequence);
  running_.insert(std::upper_bound(running_.begin(), running_.end(), sequence, Earlier()), sequence);
  sequence->phase = Phase::kRunning;
  sequence->id = next_id_++;
  sequence->sent = swaps_in ? sequence->swapped : beginning.rows;
  sequence->tables.resize(cache_.groups());
  for (int group = 0; group < cache_.groups(); ++group) {
    std::vector<int32_t>& table = sequence->tables[group];
    const int first = cache_.First(group, sequence->sent);
    for (const Column& column : beginning.shared) {
      const bool wanted = static_cast<int>(table.size()) >= first;
      if (wanted) cache_.Share(group, column[group]);
      table.push_back(wanted ? column[group] : kNoBlock);
    }
  }
  if (swaps_in) SwapIn(sequence);
  DropSwapped(sequence);
  if (!beginning.copied.empty()) CopyPartial(sequence, beginning.copied);
}

void Scheduler::CopyPartial(Sequence* sequence, const Column& from) {
  // First: one of them may be the one that would be given up.
  for (int group = 0; group < cache_.groups(); ++group) cache_.Share(group, from[group]);
  for (int group = 0; group < cache_.groups(); ++group) {
    if (planted_bug == PlantedBug::kSharePartial) {
      sequence->tables[group].push_back(from[group]);
      continue;
    }
    const int32_t to = cache_.Take(group);
    sequence->tables[group].push_back(to);
    step_.copies.push_back({.group = group, .from = from[group], .to = to});
    if (planted_bug == PlantedBug::kUncountedCopy) cache_.Release(group, from[group]);
  }
  if (planted_bug != PlantedBug::kSharePartial && planted_bug != PlantedBug::kUncountedCopy)
    flight_.held.push_back(from);
}

// The rows it has computed go to swap blocks, as far as the next row looks back; called just before its blocks are
// released.
void Scheduler::SwapOut(Sequence* sequence) {
  const int rows = std::min(sequence->sent, sequence->known() - 1);
  if (rows <= 0) return;
  const int blocks = sequence->BlocksFor(rows, options_.block_tokens);
  int copies = 0;
  for (int group = 0; group < cache_.groups(); ++group) {
    const int own = blocks - cache_.First(group, rows);
    if (own > cache_.free_slots(group)) return;
    copies += own;
  }
  const std::optional<double> row = cost_.row_seconds(), block = cost_.block_seconds();
  // There and back. What is not known yet is tried, and so learned.
  if (row && block && 2 * copies * *block > rows * *row) return;
  sequence->slots.resize(cache_.groups());
  for (int group = 0; group < cache_.groups(); ++group) {
    for (int i = cache_.First(group, rows); i < blocks; ++i) {
      const int32_t from = sequence->tables[group][i], slot = cache_.TakeSlot(group);
      SCHEDULE_CHECK(from != kNoBlock);
      sequence->slots[group].push_back(slot);
      swap_outs_.push_back({.group = planted_bug == PlantedBug::kCopyElsewhere ? 0 : group, .from = from, .to = slot});
    }
  }
  sequence->swapped = rows;
  ++swapped_;
}

// Behind the blocks that it has already.
void Scheduler::SwapIn(Sequence* sequence) {
  const int begin = sequence->blocks(), blocks = sequence->BlocksFor(sequence->swapped, options_.block_tokens);
  for (int group = 0; group < cache_.groups(); ++group) {
    std::vector<int32_t>& table = sequence->tables[group];
    const int first = cache_.First(group, sequence->swapped);
    for (int i = static_cast<int>(table.size()); i < blocks; ++i) {
      table.push_back(i < first ? kNoBlock : cache_.Take(group));
      if (i < first || (planted_bug == PlantedBug::kSwapShort && i == blocks - 1)) continue;
      step_.copies.push_back({.group = group, .from = sequence->slots[group][i - first], .to = table[i]});
    }
  }
  // Not for the prefix index, whoever comes to have them: had a sequence that shared these rows failed while they were
  // swapped out, nobody would have marked them.
  for (int i = begin; i < blocks; ++i) cache_.Distrust(ColumnAt(*sequence, i));
}

void Scheduler::CancelSwapOut(const Sequence& sequence) {
  if (planted_bug == PlantedBug::kSwapReuse || sequence.slots.empty()) return;
  std::erase_if(swap_outs_, [&](const BlockCopy& copy) {
    const std::vector<int32_t>& slots = sequence.slots[copy.group];
    return std::find(slots.begin(), slots.end(), copy.to) != slots.end();
  });
}

void Scheduler::DropSwapped(Sequence* sequence) {
  for (size_t group = 0; group < sequence->slots.size(); ++group) {
    const std::vector<int32_t>& slots = sequence->slots[group];
    for (auto slot = slots.rbegin(); slot != slots.rend(); ++slot) cache_.GiveSlot(static_cast<int>(group), *slot);
  }
  sequence->slots.clear();
  sequence->swapped = 0;
}

}  // namespace pangea
