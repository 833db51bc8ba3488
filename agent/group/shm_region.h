// One shared mapping for all agents of a deployment on one host: a counter and two slots per agent for gathering, and a
// ring per ordered pair of stages and rank for sending. The pages of rings that nobody uses are never touched, hence
// never allocated.
#pragma once
#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "agent/group/group_base.h"
#include "agent/group/shared_word.h"

namespace pangea {

class ShmRegion {
 public:
  struct alignas(128) Sequence {
    SharedWord published;  // chunks gathered so far, by one agent
  };
  struct alignas(128) Channel {
    SharedWord written;  // bytes, modulo 2^31
    alignas(64) SharedWord read;
  };

  // Makes an anonymous file (memfd): no name anywhere, gone with the last process that maps it.
  static absl::StatusOr<std::shared_ptr<ShmRegion>> Create(const GroupSpec& spec);
  // Opens what `address` names. The region must have been created from the same shape and epoch.
  static absl::StatusOr<std::shared_ptr<ShmRegion>> Open(const GroupSpec& spec, const std::string& address);
  ~ShmRegion();
  ShmRegion(const ShmRegion&) = delete;

  // How another process of this host and user opens it, until CloseFile.
  std::string address() const;
  // The mapping stays; nobody can open it any more.
  void CloseFile();

  Sequence& sequence(int agent) { return sequences()[agent]; }
  std::byte* slot(int agent, uint32_t chunk) {
    return base_ + layout_.slots + (agent * 2 + chunk % 2) * layout_.slot_bytes;
  }
  size_t slot_bytes() const { return layout_.slot_bytes; }
  // Between the same rank of two stages.
  Channel& channel(int from_stage, int to_stage, int rank) {
    return channels()[channel_index(from_stage, to_stage, rank)];
  }
  std::byte* ring(int from_stage, int to_stage, int rank) {
    return base_ + layout_.rings + channel_index(from_stage, to_stage, rank) * layout_.ring_bytes;
  }
  size_t ring_bytes() const { return layout_.ring_bytes; }  // a power of two

  // Wakes every sleeper of every agent; all later waits end at once. agent: who did it.
  void Abort(int agent);
  int aborted_by() const { return header()->aborted_by.load(std::memory_order_acquire) - 1; }  // -1: nobody yet

 private:
  struct Layout {
    size_t sequences, channels, slots, rings, bytes;
    size_t slot_bytes, ring_bytes;
  };
  struct Header {
    uint64_t magic, nonce, epoch, bytes;
    std::atomic<int32_t> aborted_by;  // agent + 1; 0: nobody
  };

  ShmRegion(const GroupSpec& spec, int fd, std::byte* base);
  static Layout MakeLayout(const GroupSpec& spec);
  static absl::StatusOr<std::shared_ptr<ShmRegion>> Map(const GroupSpec& spec, int fd);
  Header* header() const { return reinterpret_cast<Header*>(base_); }
  Sequence* sequences() const { return reinterpret_cast<Sequence*>(base_ + layout_.sequences); }
  Channel* channels() const { return reinterpret_cast<Channel*>(base_ + layout_.channels); }
  int channel_index(int from_stage, int to_stage, int rank) const {
    return (from_stage * stages_ + to_stage) * ranks_ + rank;
  }

  const int stages_, ranks_;
  const Layout layout_;
  int fd_;
  std::byte* const base_;
};

}  // namespace pangea
