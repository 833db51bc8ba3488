// Where an agent's memory goes, in bytes. The plan works it out (capacity.h), the executor reports what it holds, and a
// test holds the two equal. Not in it: code, thread stacks, what the C++ library keeps of freed memory, requests on
// their way, the sampler's lists of candidates, which live for a step, and the memory through which the agents of one
// host exchange (agent/group/shm_region.h).
#pragma once
#include <array>
#include <cstdint>
#include <string_view>
#include <utility>

namespace pangea {

struct AgentMemory {
  int64_t packed = 0;         // matrices, as the products read them
  int64_t mapped = 0;         // tables of rows, where they lie in the checkpoint: the system may drop these pages
  int64_t vectors = 0;        // norms, biases, rotation tables; on a device of its own memory also the tables of rows
  int64_t pages = 0;          // KV blocks
  int64_t swap = 0;           // blocks of preempted sequences
  int64_t activations = 0;    // of the largest step, and its batch
  int64_t sampler = 0;        // logits; the last stage only
  int64_t attention = 0;      // partial results
  int64_t communication = 0;  // partial sums of this rank and, with several, of all; what the devices exchange through

  static constexpr size_t kParts = 9;
  std::array<std::pair<std::string_view, int64_t>, kParts> list() const {
    return {{{"packed", packed},
             {"mapped", mapped},
             {"vectors", vectors},
             {"pages", pages},
             {"swap", swap},
             {"activations", activations},
             {"sampler", sampler},
             {"attention", attention},
             {"communication", communication}}};
  }
  int64_t weights() const { return packed + mapped + vectors; }
  int64_t total() const {
    int64_t sum = 0;
    for (const auto& part : list()) sum += part.second;
    return sum;
  }
  int64_t own() const { return total() - mapped; }  // what the host must have free for it
  bool operator==(const AgentMemory&) const = default;
};

}  // namespace pangea
