// Collectives between the agents of one deployment, as a stage sees them. Implementations live in agent/group (thread,
// shared memory, Gloo). A library's all-reduce adds in an order that depends on the rank count, so there is none here:
// ranks gather, and the stage adds in the tree's fixed order.
//
// Contract: every call is bounded by the group's time limit, returns a Status, and names rank and collective in its
// error. A group with one error is dead: every later call returns that error until the group is formed anew with the
// next epoch.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"

namespace pangea {

struct DeviceExchange;

class Group {
 public:
  virtual ~Group() = default;
  virtual int stages() const = 0;
  virtual int ranks() const = 0;  // per stage
  virtual int stage() const = 0;
  virtual int rank() const = 0;
  // Within the stage: rank i contributes sizes[i] bytes (mine.size() == sizes[rank()]; every rank passes the same
  // sizes); all receive the concatenation in rank order in `all`. Executor thread only.
  virtual absl::Status AllGather(std::span<const std::byte> mine, std::span<const size_t> sizes,
                                 std::span<std::byte> all) = 0;
  // To and from the same rank of another stage; messages keep their order per pair. Both sides know the size.
  virtual absl::Status Send(int to_stage, std::span<const std::byte> data) = 0;
  virtual absl::Status Receive(int from_stage, std::span<std::byte> data) = 0;
  // By which the agents' devices exchange the same by themselves (kernels/ops.h), instead of by the calls above; null:
  // they do not. This agent's Abort ends its device's waits, too; a peer's does not.
  virtual const DeviceExchange* exchange() const { return nullptr; }
  // The error of which it died; OK while it lives. Executor thread.
  virtual absl::Status status() const = 0;
  // From any thread: makes every pending and later call of this group fail at once.
  virtual void Abort(const absl::Status& why) = 0;
  virtual uint64_t collectives() const = 0;  // entered so far (health: "which one did it not enter")
};

}  // namespace pangea
