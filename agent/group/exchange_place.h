// How the devices of a deployment on one host come to exchange by themselves (kernels/exchange.h): each agent has a
// place, into which the others' devices write. A place is for the agent's life; who reaches whose is settled anew with
// each epoch, so that nobody writes into what a dead one has left.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/group/group_base.h"
#include "agent/group/rendezvous.h"
#include "kernels/exchange.h"
#include "kernels/queue.h"

namespace pangea {

class ExchangeLine;  // what ends the waiting of one epoch's devices; a group's may outlive the place

// The queue's thread, but for activity().
class ExchangePlace {
 public:
  static absl::StatusOr<std::unique_ptr<ExchangePlace>> Make(const ExchangeShape& shape, Queue* queue);
  ~ExchangePlace();
  // Of the device's memory.
  int64_t bytes() const { return unshared_ != nullptr || of_device_.memory != nullptr ? bytes_ : 0; }

  // The group of a new epoch, whose devices exchange from now on; of a queue that cannot, the group as it is. Called by
  // every agent of it, and blocks as MakeGroup does. Where one device cannot reach another's memory, all go through the
  // host's instead. What was joined before is over. A shape that says so exchanges by a library (NCCL).
  absl::StatusOr<std::unique_ptr<Group>> Join(std::unique_ptr<Group> group, const GroupSpec& spec, Rendezvous& board);
  // The same of all agents of one process, in agent order; not by a library.
  static absl::Status JoinHere(const std::vector<ExchangePlace*>& places, std::vector<std::unique_ptr<Group>>* groups);
  // Any thread: what the device does now, as far as it exchanges: it computes, or has waited for another one for a
  // while.
  Activity activity() const;

 private:
  ExchangePlace(const ExchangeShape& shape, Queue* queue) : shape_(shape), queue_(queue) {}
  SharedMemory& memory(bool of_host) { return of_host ? of_host_ : of_device_; }
  void Leave();
  void Begin(bool of_host);
  void Clear(bool of_host);
  absl::Status Offer(const GroupSpec& spec, Rendezvous& board, bool of_host, std::string* why);
  absl::Status ConnectByLibrary(const GroupSpec& spec, Rendezvous& board);
  void Reach(int agent, int file, bool of_host, std::string* why);
  std::unique_ptr<Group> Exchanging(std::unique_ptr<Group> group, const GroupSpec& spec, bool of_host);

  const ExchangeShape shape_;
  Queue* const queue_;
  int64_t bytes_ = 0;
  DeviceMemory unshared_;             // where the others do not reach it
  SharedMemory of_device_, of_host_;  // its own
  std::string no_memory_;             // why there is none of one kind
  DeviceMemory state_memory_;
  ExchangeState* state_ = nullptr;
  DeviceExchange exchange_;
  std::vector<std::byte*> reached_;  // [agents]; null: not one of those with which it exchanges
  std::shared_ptr<ExchangeLine> line_;
};

}  // namespace pangea
