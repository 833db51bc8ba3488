#include "agent/group/exchange_place.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "agent/group/passed_file.h"
#include "kernels/check.h"
#include "kernels/ops.h"

namespace pangea {
namespace {

std::atomic_ref<uint32_t> Seen(uint32_t& word) { return std::atomic_ref(word); }

// With whom an agent exchanges: the ranks of its stage, and its like of the stages before and behind.
std::vector<int> Peers(const GroupSpec& spec) {
  const int stage = spec.agent / spec.ranks, agents = spec.stages * spec.ranks;
  std::vector<int> peers;
  for (int other = 0; other < agents; ++other) {
    const int apart = (other / spec.ranks - stage + spec.stages) % spec.stages;
    const bool beside = apart == 0, next = other % spec.ranks == spec.agent % spec.ranks;
    if (other != spec.agent && (beside || (next && (apart == 1 || apart == spec.stages - 1)))) peers.push_back(other);
  }
  return peers;
}

}  // namespace

class ExchangeLine {
 public:
  ExchangeLine(ExchangeState* state, Queue* queue) : state_(state), queue_(queue) {}
  void Abort() {
    MutexLock lock(mutex_);
    if (state_ == nullptr) return;
    Seen(state_->abort).store(1, std::memory_order_release);
    queue_->AbortConnection();
  }
  // Of a library's connection; empty while it lives.
  std::string Error() {
    MutexLock lock(mutex_);
    return state_ != nullptr ? queue_->connection_error() : "its epoch is over";
  }
  // How the first wait ended that was given up, and for whom it was.
  std::pair<uint32_t, int> Fault() {
    MutexLock lock(mutex_);
    if (state_ == nullptr) return {ExchangeState::kAborted, 0};
    const uint32_t fault = Seen(state_->fault).load(std::memory_order_acquire);
    return {fault, static_cast<int>(state_->whom)};
  }
  void End() {
    MutexLock lock(mutex_);
    state_ = nullptr;
  }

 private:
  Mutex mutex_;
  ExchangeState* state_ ABSL_GUARDED_BY(mutex_);
  Queue* const queue_;
};

namespace {

class ExchangingGroup final : public Group {
 public:
  ExchangingGroup(std::unique_ptr<Group> hosts, const GroupSpec& spec, const DeviceExchange& exchange,
                  std::shared_ptr<ExchangeLine> line)
      : hosts_(std::move(hosts)), spec_(spec), exchange_(exchange), line_(std::move(line)) {}
  int stages() const override { return hosts_->stages(); }
  int ranks() const override { return hosts_->ranks(); }
  int stage() const override { return hosts_->stage(); }
  int rank() const override { return hosts_->rank(); }
  absl::Status AllGather(std::span<const std::byte> mine, std::span<const size_t> sizes,
                         std::span<std::byte> all) override {
    return hosts_->AllGather(mine, sizes, all);
  }
  absl::Status Send(int to_stage, std::span<const std::byte> data) override { return hosts_->Send(to_stage, data); }
  absl::Status Receive(int from_stage, std::span<std::byte> data) override { return hosts_->Receive(from_stage, data); }
  const DeviceExchange* exchange() const override { return &exchange_; }
  absl::Status status() const override {
    if (auto s = hosts_->status(); !s.ok()) return s;
    if (exchange_.shape.library) {
      const std::string error = line_->Error();
      return error.empty() ? absl::OkStatus() : absl::UnavailableError(absl::StrCat(Where(), ", NCCL: ", error));
    }
    const auto [fault, whom] = line_->Fault();
    if (fault == ExchangeState::kNone) return absl::OkStatus();
    const std::string who = whom == ExchangeState::kStageBefore   ? "the stage before"
                            : whom == ExchangeState::kStageBehind ? "the stage behind"
                                                                  : absl::StrCat("rank ", whom);
    if (fault == ExchangeState::kAborted)
      return absl::AbortedError(absl::StrCat(Where(), ": its device was told to wait no more for ", who));
    return absl::DeadlineExceededError(absl::StrCat(Where(), ": its device waited for ", who,
                                                    ", which did not come within ", absl::FormatDuration(spec_.limit)));
  }
  void Abort(const absl::Status& why) override {
    hosts_->Abort(why);
    line_->Abort();
  }
  uint64_t collectives() const override { return hosts_->collectives(); }

 private:
  std::string Where() const { return absl::StrCat("stage ", stage(), " rank ", rank(), ", epoch ", spec_.epoch); }

  const std::unique_ptr<Group> hosts_;
  const GroupSpec spec_;
  const DeviceExchange exchange_;
  const std::shared_ptr<ExchangeLine> line_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ExchangePlace>> ExchangePlace::Make(const ExchangeShape& shape, Queue* queue) {
  auto place = std::unique_ptr<ExchangePlace>(new ExchangePlace(shape, queue));
  const int64_t bytes = ExchangeBytes(shape);
  place->bytes_ = bytes;
  if (!CanExchange(*queue)) {
    place->unshared_ = queue->Allocate(bytes);
    return place;
  }
  if (shape.library) {
    place->unshared_ = queue->Allocate(bytes);
    if (place->unshared_ == nullptr) return absl::ResourceExhaustedError("no memory for ids between stages");
  } else {
    place->of_device_ = queue->Share(bytes, false, &place->no_memory_);  // without it the host's will do
  }
  place->state_memory_ = queue->AllocateSeen(sizeof(ExchangeState));
  if (place->state_memory_ == nullptr) return absl::ResourceExhaustedError("no memory that host and device share");
  place->state_ = new (place->state_memory_.get()) ExchangeState{};
  return place;
}

ExchangePlace::~ExchangePlace() {
  Leave();
  for (const bool of_host : {false, true}) {
    if (memory(of_host).memory == nullptr) continue;
    queue_->Unreach(memory(of_host).memory, of_host ? 0 : bytes_);
    close(memory(of_host).file);
  }
}

void ExchangePlace::Leave() {
  if (line_) line_->End();
  line_.reset();
  for (std::byte* const memory : reached_)
    if (memory != nullptr) queue_->Unreach(memory, 0);
  reached_.clear();
}

Activity ExchangePlace::activity() const {
  if (state_ == nullptr) return Activity::kBusy;
  const auto waits = [&](int whom) { return Seen(state_->waits[whom]).load(std::memory_order_relaxed) != 0; };
  if (waits(ExchangeState::kStageBefore)) return Activity::kBubble;
  for (int rank = 0; rank < shape_.ranks; ++rank)
    if (waits(rank)) return Activity::kCommunication;
  return waits(ExchangeState::kStageBehind) ? Activity::kCommunication : Activity::kBusy;
}

// What this device was at is over, and it reaches nobody any more.
void ExchangePlace::Begin(bool of_host) {
  queue_->Finish();
  queue_->ForgetRepeated();  // which holds the addresses of the epoch before
  Leave();
  for (uint32_t* const word : {&state_->abort, &state_->fault, &state_->whom}) Seen(*word).store(0);
  for (uint32_t& waits : state_->waits) Seen(waits).store(0);
  SharedMemory& own = memory(of_host);
  if (own.memory == nullptr && of_host) own = queue_->Share(bytes_, of_host, &no_memory_);
}

// All counts are 0. Not before all peers have begun, too: one that is still at a step of the epoch before may write
// here.
void ExchangePlace::Clear(bool of_host) {
  std::byte* const own = memory(of_host).memory;
  if (own == nullptr) return;
  const std::vector<std::byte> zeros(static_cast<size_t>(ExchangeMemory(shape_, own).counts_bytes));
  queue_->Upload(own, zeros.data(), static_cast<int64_t>(zeros.size()));
  queue_->Finish();
}

void ExchangePlace::Reach(int agent, int file, bool of_host, std::string* why) {
  reached_[agent] = queue_->Reach(file, bytes_, of_host, why);
}

// Gives its file to its peers and takes theirs. *why: that some device, this one or another, could not reach one.
absl::Status ExchangePlace::Offer(const GroupSpec& spec, Rendezvous& board, bool of_host, std::string* why) {
  const auto key = [&](absl::string_view what, int agent) {
    return absl::StrCat("exchange/", of_host ? "host/" : "device/", what, "/", agent);
  };
  const std::vector<int> peers = Peers(spec);
  // All of these have come as far as this one.
  const auto meet = [&](absl::string_view where) {
    board.Set(key(where, spec.agent), "");
    for (const int peer : peers)
      if (auto there = board.Get(key(where, peer), spec.limit); !there.ok()) return there.status();
    return absl::OkStatus();
  };
  const SharedMemory& own = memory(of_host);
  auto offer = FileOffer::Make();
  if (!offer.ok()) return offer.status();
  board.Set(key("at", spec.agent), own.memory != nullptr ? offer->address() : "");  // or it has none
  std::map<int, OwnedFile> connections;
  for (const int peer : peers) {
    const auto address = board.Get(key("at", peer), spec.limit);
    if (!address.ok()) return address.status();
    if (address->empty()) continue;
    auto connection = ConnectToOffer(*address);
    if (!connection.ok()) return connection.status();
    connections.emplace(peer, *std::move(connection));
  }
  if (auto s = meet("connected"); !s.ok()) return s;
  Clear(of_host);
  if (own.memory != nullptr) {
    if (auto s = offer->Give(own.file, static_cast<int>(peers.size())); !s.ok()) return s;
  }
  if (auto s = meet("given"); !s.ok()) return s;
  reached_.resize(static_cast<size_t>(spec.stages) * spec.ranks);
  std::string fault = own.memory != nullptr ? "" : no_memory_;
  for (const auto& [peer, connection] : connections) {
    const auto file = TakeFile(connection);
    if (!file.ok()) return file.status();
    if (fault.empty()) Reach(peer, file->get(), of_host, &fault);
  }
  board.Set(key("reached", spec.agent), fault);
  *why = fault;
  for (int other = 0; other < spec.stages * spec.ranks && why->empty(); ++other) {
    if (other == spec.agent) continue;
    auto theirs = board.Get(key("reached", other), spec.limit);
    if (!theirs.ok()) return theirs.status();
    if (!theirs->empty()) *why = absl::StrCat("agent ", other, ": ", *theirs);
  }
  return absl::OkStatus();
}

// All come to the board before any begins to connect, as that waits for those who do not come. Closing the board ends
// it.
absl::Status ExchangePlace::ConnectByLibrary(const GroupSpec& spec, Rendezvous& board) {
  constexpr absl::Duration kMost = absl::Seconds(60);
  Begin(false);
  std::string id, why = queue_->OpenConnections();
  if (!why.empty()) return absl::FailedPreconditionError(why);
  if (spec.agent == 0) {
    id = queue_->NewConnectionId(&why);
    if (!why.empty()) return absl::FailedPreconditionError(why);
    board.Set("exchange/library/id", absl::BytesToHexString(id));
  } else {
    const auto told = board.Get("exchange/library/id", spec.limit);
    if (!told.ok()) return told.status();
    id = absl::HexStringToBytes(*told);
  }
  const int agents = spec.stages * spec.ranks;
  board.Set(absl::StrCat("exchange/library/here/", spec.agent), "");
  for (int other = 0; other < agents; ++other) {
    if (other == spec.agent) continue;
    const auto there = board.Get(absl::StrCat("exchange/library/here/", other), spec.limit);
    if (!there.ok()) return there.status();
  }
  line_ = std::make_shared<ExchangeLine>(state_, queue_);
  board.OnClose([line = line_] { line->Abort(); });
  const absl::Duration limit = std::min(spec.limit, kMost);
  why = queue_->Connect({id, agents, spec.agent, absl::ToInt64Nanoseconds(limit)});
  if (why.empty()) {
    // The first transfer between two agents waits for both, as later ones need not: all have it now. Of a word, which
    // nobody reads.
    std::vector<PeerTransfer> first;
    for (const int peer : Peers(spec)) {
      first.push_back({.agent = peer, .send = unshared_.get(), .bytes = 4});
      first.push_back({.agent = peer, .receive = unshared_.get() + 4 * (1 + peer % kMostExchangeRanks), .bytes = 4});
    }
    queue_->Transfer(first);
    why = queue_->connection_error();
  }
  board.OnClose(nullptr);
  return why.empty() ? absl::OkStatus() : absl::UnavailableError(why);
}

std::unique_ptr<Group> ExchangePlace::Exchanging(std::unique_ptr<Group> group, const GroupSpec& spec, bool of_host) {
  const int stage = spec.agent / spec.ranks, rank = spec.agent % spec.ranks;
  reached_.resize(static_cast<size_t>(spec.stages) * spec.ranks);
  const auto at = [&](int other_stage, int other_rank) {
    const int other = (other_stage + spec.stages) % spec.stages * spec.ranks + other_rank;
    return other == spec.agent ? memory(of_host).memory : reached_[other];
  };
  exchange_ = {.shape = shape_, .rank = rank, .own = shape_.library ? unshared_.get() : memory(of_host).memory};
  for (int other = 0; other < spec.ranks; ++other) exchange_.peers[other] = at(stage, other);
  exchange_.before = at(stage - 1, rank);
  exchange_.behind = at(stage + 1, rank);
  exchange_.state = state_;
  exchange_.limit = absl::ToInt64Nanoseconds(spec.limit);
  exchange_.first_agent = stage * spec.ranks;
  exchange_.agent_before = (spec.agent + (spec.stages - 1) * spec.ranks) % (spec.stages * spec.ranks);
  exchange_.agent_behind = (spec.agent + spec.ranks) % (spec.stages * spec.ranks);
  exchange_.of_host = of_host;
  if (line_ == nullptr) line_ = std::make_shared<ExchangeLine>(state_, queue_);
  return std::make_unique<ExchangingGroup>(std::move(group), spec, exchange_, line_);
}

absl::StatusOr<std::unique_ptr<Group>> ExchangePlace::Join(std::unique_ptr<Group> group, const GroupSpec& spec,
                                                           Rendezvous& board) {
  if (!CanExchange(*queue_)) return group;
  if (shape_.library) {
    if (auto s = ConnectByLibrary(spec, board); !s.ok()) return s;
    return Exchanging(std::move(group), spec, false);
  }
  std::string first;
  for (const bool of_host : {false, true}) {
    Begin(of_host);
    std::string why;
    if (auto s = Offer(spec, board, of_host, &why); !s.ok()) return s;
    if (why.empty()) return Exchanging(std::move(group), spec, of_host);
    if (!of_host) first = why;
  }
  return absl::FailedPreconditionError(absl::StrCat("the agents' devices cannot reach each other's memory: ", first));
}

absl::Status ExchangePlace::JoinHere(const std::vector<ExchangePlace*>& places,
                                     std::vector<std::unique_ptr<Group>>* groups) {
  const auto spec_of = [&](size_t i) {
    return GroupSpec{.stages = (*groups)[i]->stages(), .ranks = (*groups)[i]->ranks(), .agent = static_cast<int>(i)};
  };
  std::string first;
  for (const bool of_host : {false, true}) {
    for (ExchangePlace* const place : places) {
      PANGEA_CHECK(!place->shape_.library);
      if (!CanExchange(*place->queue_)) return absl::OkStatus();
      place->Begin(of_host);
    }
    std::string why;
    for (size_t i = 0; i < places.size() && why.empty(); ++i) {
      places[i]->Clear(of_host);
      places[i]->reached_.resize(places.size());
      for (const int peer : Peers(spec_of(i))) {
        const SharedMemory& theirs = places[peer]->memory(of_host);
        if (theirs.memory == nullptr) why = places[peer]->no_memory_;
        if (why.empty()) places[i]->Reach(peer, theirs.file, of_host, &why);
      }
    }
    if (!why.empty()) {
      if (!of_host) first = why;
      continue;
    }
    for (size_t i = 0; i < places.size(); ++i)
      (*groups)[i] = places[i]->Exchanging(std::move((*groups)[i]), spec_of(i), of_host);
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat("the agents' devices cannot reach each other's memory: ", first));
}

}  // namespace pangea
