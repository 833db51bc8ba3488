#include "agent/group/exchange_place.h"

#include <unistd.h>

#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/group/passed_file.h"
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
  explicit ExchangeLine(ExchangeState* state) : state_(state) {}
  void Abort() {
    MutexLock lock(mutex_);
    if (state_ != nullptr) Seen(state_->abort).store(1, std::memory_order_release);
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
};

namespace {

class ExchangingGroup final : public Group {
 public:
  ExchangingGroup(std::unique_ptr<Group> hosts, const GroupSpec& spec, const Exchange& exchange,
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
  const Exchange* exchange() const override { return &exchange_; }
  absl::Status status() const override {
    if (auto s = hosts_->status(); !s.ok()) return s;
    const auto [fault, whom] = line_->Fault();
    if (fault == ExchangeState::kNone) return absl::OkStatus();
    const std::string who = whom == ExchangeState::kStageBefore   ? "the stage before"
                            : whom == ExchangeState::kStageBehind ? "the stage behind"
                                                                  : absl::StrCat("rank ", whom);
    const std::string where = absl::StrCat("stage ", stage(), " rank ", rank(), ", epoch ", spec_.epoch);
    if (fault == ExchangeState::kAborted)
      return absl::AbortedError(absl::StrCat(where, ": its device was told to wait no more for ", who));
    return absl::DeadlineExceededError(absl::StrCat(where, ": its device waited for ", who,
                                                    ", which did not come within ", absl::FormatDuration(spec_.limit)));
  }
  void Abort(const absl::Status& why) override {
    hosts_->Abort(why);
    line_->Abort();
  }
  uint64_t collectives() const override { return hosts_->collectives(); }

 private:
  const std::unique_ptr<Group> hosts_;
  const GroupSpec spec_;
  const Exchange exchange_;
  const std::shared_ptr<ExchangeLine> line_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ExchangePlace>> ExchangePlace::Make(const ExchangeShape& shape, Queue* queue) {
  auto place = std::unique_ptr<ExchangePlace>(new ExchangePlace(shape, queue));
  const int64_t bytes = ExchangeBytes(shape);
  place->bytes_ = bytes;
  if (!CanExchange(*queue)) {
    place->unused_ = queue->Allocate(bytes);
    return place;
  }
  std::string why;
  place->of_device_ = queue->Share(bytes, false, &why);
  if (place->of_device_.memory == nullptr)
    return absl::ResourceExhaustedError(absl::StrCat("no memory that other agents' devices reach: ", why));
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

bool ExchangePlace::waits() const {
  if (state_ == nullptr) return false;
  for (uint32_t& waits : state_->waits)
    if (Seen(waits).load(std::memory_order_relaxed) != 0) return true;
  return false;
}

// All counts are 0, and what this device was at is over, before another one may write here.
absl::Status ExchangePlace::Begin(bool of_host) {
  queue_->Finish();
  queue_->ForgetRepeated();  // which holds the addresses of the epoch before
  Leave();
  *state_ = {};
  std::string why;
  SharedMemory& own = memory(of_host);
  if (own.memory == nullptr) own = queue_->Share(bytes_, of_host, &why);
  if (own.memory == nullptr) return absl::FailedPreconditionError(why);
  const std::vector<std::byte> zeros(static_cast<size_t>(ExchangeMemory(shape_, own.memory).counts_bytes));
  queue_->Upload(own.memory, zeros.data(), static_cast<int64_t>(zeros.size()));
  queue_->Finish();
  return absl::OkStatus();
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
  auto offer = FileOffer::Make();
  if (!offer.ok()) return offer.status();
  board.Set(key("at", spec.agent), offer->address());
  std::vector<OwnedFile> connections;
  for (const int peer : peers) {
    const auto address = board.Get(key("at", peer), spec.limit);
    if (!address.ok()) return address.status();
    auto connection = ConnectToOffer(*address);
    if (!connection.ok()) return connection.status();
    connections.push_back(*std::move(connection));
  }
  if (auto s = meet("connected"); !s.ok()) return s;
  if (auto s = offer->Give(memory(of_host).file, static_cast<int>(peers.size())); !s.ok()) return s;
  if (auto s = meet("given"); !s.ok()) return s;
  reached_.resize(static_cast<size_t>(spec.stages) * spec.ranks);
  std::string own;
  for (size_t i = 0; i < peers.size() && own.empty(); ++i) {
    const auto file = TakeFile(connections[i]);
    if (!file.ok()) return file.status();
    Reach(peers[i], file->get(), of_host, &own);
  }
  board.Set(key("reached", spec.agent), own);
  *why = own;
  for (int other = 0; other < spec.stages * spec.ranks && why->empty(); ++other) {
    if (other == spec.agent) continue;
    auto theirs = board.Get(key("reached", other), spec.limit);
    if (!theirs.ok()) return theirs.status();
    if (!theirs->empty()) *why = absl::StrCat("agent ", other, ": ", *theirs);
  }
  return absl::OkStatus();
}

std::unique_ptr<Group> ExchangePlace::Exchanging(std::unique_ptr<Group> group, const GroupSpec& spec, bool of_host) {
  const int stage = spec.agent / spec.ranks, rank = spec.agent % spec.ranks;
  reached_.resize(static_cast<size_t>(spec.stages) * spec.ranks);
  const auto at = [&](int other_stage, int other_rank) {
    const int other = (other_stage + spec.stages) % spec.stages * spec.ranks + other_rank;
    return other == spec.agent ? memory(of_host).memory : reached_[other];
  };
  exchange_ = {.shape = shape_, .rank = rank, .own = memory(of_host).memory};
  for (int other = 0; other < spec.ranks; ++other) exchange_.peers[other] = at(stage, other);
  exchange_.before = at(stage - 1, rank);
  exchange_.behind = at(stage + 1, rank);
  exchange_.state = state_;
  exchange_.limit = absl::ToInt64Nanoseconds(spec.limit);
  exchange_.of_host = of_host;
  line_ = std::make_shared<ExchangeLine>(state_);
  return std::make_unique<ExchangingGroup>(std::move(group), spec, exchange_, line_);
}

absl::StatusOr<std::unique_ptr<Group>> ExchangePlace::Join(std::unique_ptr<Group> group, const GroupSpec& spec,
                                                           Rendezvous& board) {
  if (!CanExchange(*queue_)) return group;
  std::string first;
  for (const bool of_host : {false, true}) {
    if (auto s = Begin(of_host); !s.ok()) return s;
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
  for (ExchangePlace* const place : places) {
    if (!CanExchange(*place->queue_)) return absl::OkStatus();
    if (auto s = place->Begin(false); !s.ok()) return s;
  }
  for (size_t i = 0; i < places.size(); ++i) {
    const GroupSpec spec = spec_of(i);
    places[i]->reached_.resize(places.size());
    std::string why;
    for (const int peer : Peers(spec)) places[i]->Reach(peer, places[peer]->of_device_.file, false, &why);
    if (!why.empty()) return absl::FailedPreconditionError(why);
    (*groups)[i] = places[i]->Exchanging(std::move((*groups)[i]), spec, false);
  }
  return absl::OkStatus();
}

}  // namespace pangea
