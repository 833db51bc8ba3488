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

// The queue's thread, but for waits().
class ExchangePlace {
 public:
  static absl::StatusOr<std::unique_ptr<ExchangePlace>> Make(const ExchangeShape& shape, Queue* queue);
  ~ExchangePlace();
  int64_t bytes() const { return bytes_; }  // of the device's memory

  // The group of a new epoch, whose devices exchange from now on; of a queue that cannot, the group as it is. Called by
  // every agent of it, and blocks as MakeGroup does. Where one device cannot reach another's memory, all go through the
  // host's instead. What was joined before is over.
  absl::StatusOr<std::unique_ptr<Group>> Join(std::unique_ptr<Group> group, const GroupSpec& spec, Rendezvous& board);
  // The same of all agents of one process, in agent order.
  static absl::Status JoinHere(const std::vector<ExchangePlace*>& places, std::vector<std::unique_ptr<Group>>* groups);
  // Any thread: whether the device now waits for another one, and has for a while.
  bool waits() const;

 private:
  ExchangePlace(const ExchangeShape& shape, Queue* queue) : shape_(shape), queue_(queue) {}
  SharedMemory& memory(bool of_host) { return of_host ? of_host_ : of_device_; }
  void Leave();
  absl::Status Begin(bool of_host);
  absl::Status Offer(const GroupSpec& spec, Rendezvous& board, bool of_host, std::string* why);
  void Reach(int agent, int file, bool of_host, std::string* why);
  std::unique_ptr<Group> Exchanging(std::unique_ptr<Group> group, const GroupSpec& spec, bool of_host);

  const ExchangeShape shape_;
  Queue* const queue_;
  int64_t bytes_ = 0;
  DeviceMemory unused_;               // of a queue that cannot exchange: what the plan counts
  SharedMemory of_device_, of_host_;  // its own
  DeviceMemory state_memory_;
  ExchangeState* state_ = nullptr;
  Exchange exchange_;
  std::vector<std::byte*> reached_;  // [agents]; null: not one of those with which it exchanges
  std::shared_ptr<ExchangeLine> line_;
};

}  // namespace pangea
