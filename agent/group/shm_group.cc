#include "agent/group/shm_group.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace pangea {
namespace {

class ShmGroup : public GroupBase {
 public:
  ShmGroup(const GroupSpec& spec, std::shared_ptr<ShmRegion> region) : GroupBase(spec), region_(std::move(region)) {}

 protected:
  // Chunk by chunk: write mine, publish, wait for everybody's, read them. When all have published chunk k-1 they have
  // finished reading chunk k-2, whose slot chunk k takes: so two slots and one counter a rank are enough.
  absl::Status Gather(std::span<const std::byte> mine, std::span<const size_t> sizes,
                      std::span<std::byte> all) override {
    const size_t slot = region_->slot_bytes();
    const size_t largest = *std::max_element(sizes.begin(), sizes.end());
    const auto deadline = Deadline();
    for (size_t at = 0; at < std::max<size_t>(largest, 1); at += slot) {
      if (at < mine.size()) {
        std::memcpy(region_->slot(spec().agent, chunk_), mine.data() + at, std::min(slot, mine.size() - at));
      }
      region_->sequence(spec().agent).published.Add(1);
      const uint32_t target = (chunk_ + 1) & SharedWord::kCountMask;
      size_t into = 0;
      for (int r = 0; r < ranks(); into += sizes[r++]) {
        const int peer = agent(stage(), r);
        if (absl::Status status = WaitPublished(peer, target, deadline); !status.ok()) return status;
        if (at < sizes[r]) {
          std::memcpy(all.data() + into + at, region_->slot(peer, chunk_), std::min(slot, sizes[r] - at));
        }
      }
      ++chunk_;
    }
    return absl::OkStatus();
  }

  absl::Status DoSend(int to_stage, std::span<const std::byte> data) override {
    ShmRegion::Channel& channel = region_->channel(stage(), to_stage, rank());
    std::byte* ring = region_->ring(stage(), to_stage, rank());
    const size_t capacity = region_->ring_bytes();
    const auto deadline = Deadline();
    for (size_t at = 0; at < data.size();) {
      const uint32_t written = SharedWord::count(channel.written.value());
      const uint32_t seen = channel.read.value();
      if (SharedWord::aborted(seen)) return Aborted();
      const size_t used = SharedWord::Ahead(written, SharedWord::count(seen));
      if (used == capacity) {
        if (channel.read.WaitChange(seen, deadline, spec().spin) == seen)
          return TooLate("stage", to_stage, "takes no data");
        continue;
      }
      const size_t place = written & (capacity - 1);
      const size_t n = std::min({data.size() - at, capacity - used, capacity - place, Piece(capacity)});
      std::memcpy(ring + place, data.data() + at, n);
      channel.written.Add(n);
      at += n;
    }
    return absl::OkStatus();
  }

  absl::Status DoReceive(int from_stage, std::span<std::byte> data) override {
    ShmRegion::Channel& channel = region_->channel(from_stage, stage(), rank());
    const std::byte* ring = region_->ring(from_stage, stage(), rank());
    const size_t capacity = region_->ring_bytes();
    const auto deadline = Deadline();
    for (size_t at = 0; at < data.size();) {
      const uint32_t read = SharedWord::count(channel.read.value());
      const uint32_t seen = channel.written.value();
      if (SharedWord::aborted(seen)) return Aborted();
      const size_t ready = SharedWord::Ahead(SharedWord::count(seen), read);
      if (ready == 0) {
        if (channel.written.WaitChange(seen, deadline, spec().spin) == seen) {
          return TooLate("stage", from_stage, "sends no data");
        }
        continue;
      }
      Arrived();
      const size_t place = read & (capacity - 1);
      const size_t n = std::min({data.size() - at, ready, capacity - place});
      std::memcpy(data.data() + at, ring + place, n);
      channel.read.Add(n);
      at += n;
    }
    return absl::OkStatus();
  }

  void Wake() override { region_->Abort(spec().agent); }

 private:
  // A sender publishes in pieces, so that the receiver copies one while the next is written.
  static size_t Piece(size_t capacity) { return std::max<size_t>(capacity / 4, 1); }

  absl::Status WaitPublished(int peer, uint32_t target, std::chrono::steady_clock::time_point deadline) {
    SharedWord& word = region_->sequence(peer).published;
    uint32_t seen = word.value();
    while (true) {
      if (SharedWord::aborted(seen)) return Aborted();
      if (SharedWord::Ahead(SharedWord::count(seen), target) >= 0) return absl::OkStatus();
      const uint32_t now = word.WaitChange(seen, deadline, spec().spin);
      if (now == seen) return TooLate("rank", peer % ranks(), "did not enter");
      seen = now;
    }
  }

  absl::Status Aborted() const { return absl::AbortedError(absl::StrCat("aborted by agent ", region_->aborted_by())); }
  absl::Status TooLate(absl::string_view kind, int index, absl::string_view what) const {
    return absl::DeadlineExceededError(
        absl::StrCat(kind, " ", index, " ", what, " within ", absl::FormatDuration(spec().limit)));
  }

  const std::shared_ptr<ShmRegion> region_;
  uint32_t chunk_ = 0;  // chunks that this agent has gathered
};

}  // namespace

std::unique_ptr<Group> MakeShmGroup(const GroupSpec& spec, std::shared_ptr<ShmRegion> region) {
  return std::make_unique<ShmGroup>(spec, std::move(region));
}

absl::StatusOr<std::unique_ptr<Group>> FormShmGroup(const GroupSpec& spec, Rendezvous& rendezvous) {
  const auto opened = [](int agent) { return absl::StrCat("shm/opened/", agent); };
  if (spec.agent != 0) {
    const absl::StatusOr<std::string> address = rendezvous.Get("shm/address", spec.limit);
    if (!address.ok()) return address.status();
    auto region = ShmRegion::Open(spec, *address);
    if (!region.ok()) return region.status();
    rendezvous.Set(opened(spec.agent), "");
    return MakeShmGroup(spec, *std::move(region));
  }
  auto region = ShmRegion::Create(spec);
  if (!region.ok()) return region.status();
  rendezvous.Set("shm/address", (*region)->address());
  for (int agent = 1; agent < spec.stages * spec.ranks; ++agent) {
    if (auto status = rendezvous.Get(opened(agent), spec.limit); !status.ok()) return status.status();
  }
  (*region)->CloseFile();
  return MakeShmGroup(spec, *std::move(region));
}

}  // namespace pangea
