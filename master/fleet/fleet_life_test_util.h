// A fleet's life in virtual time: Facts and Reconcile as they are, in a world of processes that die, freeze, fail, are
// cut off, start slowly and speak late. What may never happen is checked at every event.
#pragma once
#include <cstdint>
#include <string>

namespace pangea {

struct FleetLifeCounts {
  uint64_t lives = 0, epochs = 0, deaths = 0, freezes = 0, own_faults = 0, cuts = 0, lost_links = 0, pauses = 0;
  uint64_t planned = 0, spares = 0, late = 0, given_up = 0, restarts = 0, steps = 0;
};

// "": all was well; otherwise what was not. The seed decides everything. counts may be null.
std::string RunFleetLife(uint64_t seed, FleetLifeCounts* counts);

}  // namespace pangea
