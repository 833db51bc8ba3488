// Test only. One random life of an engine in virtual time in which several accounts always have something waiting, from
// a seed: weights, lengths, how much each keeps waiting, stages of unlike speed, small block pools, one account that
// comes late. Checked after every event: between any two accounts, what they were served per weight since both had
// something waiting differs by a bounded amount.
#pragma once
#include <cstdint>
#include <string>

namespace pangea {

struct FairCounts {
  uint64_t requests = 0, steps = 0, preemptions = 0, late = 0;
  double widest = 0;  // largest difference, as a share of its bound
};

// The first fault, empty when there is none. counts may be null; it is added to.
std::string RunFairLife(uint64_t seed, FairCounts* counts);

}  // namespace pangea
