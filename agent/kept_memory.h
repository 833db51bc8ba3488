// What of an agent outlives its process, if its master has started it: packed weights and KV pages.
#pragma once
#include <memory>
#include <span>

#include "agent/kept_pages.h"
#include "agent/packed_weights.h"
#include "pipeline/agent_memory.h"
#include "protos/agent.pb.h"

namespace pangea {

struct KeptMemory {
  // As the assignment says: what the process before it left, or new. Of a device whose memory is the host's; that of
  // others dies with the process.
  void Open(const agent::v1::Assign& assign, const AgentMemory& planned);
  // So that the master holds them; once the weights are packed.
  void Tell(agent::v1::Ready* ready);
  bool packed_before() const { return weights && weights->filled(); }
  std::span<std::byte> page_memory() const;  // empty: none

  std::unique_ptr<PackedWeights> weights;  // these may be null
  std::unique_ptr<KeptPages> pages;
};

}  // namespace pangea
