// Test only. One random life of an engine, from a seed: arrivals, lengths, cancels, stop strings, tiny block pools, n >
// 1, echo, 1 to 5 stages, results at any time, agents that lose everything. Checked after every event: the engine's
// invariants and the agents' rules; at the end: every request ended exactly once, with exactly what it gives alone.
#pragma once
#include <cstdint>
#include <string>

namespace pangea {

struct LifeCounts {
  // epochs: those that began when something ran; kept: with the pages of the one before; rewound: sequences that went
  // on with them; layouts: in another layout. outgrown: requests that a new layout could not hold. late: results of
  // older epochs that came. void_steps: steps that were never answered, or too late. given_back: blocks that a window
  // had passed. grouped: lives with several cache groups in which blocks were copied.
  uint64_t requests = 0, finished = 0, cancelled = 0, stopped = 0, failed = 0, refused = 0, expired = 0;
  uint64_t steps = 0, shared_steps = 0, preemptions = 0, copies = 0, shared_tables = 0, resumes = 0, swap_outs = 0,
           swap_ins = 0, echoes = 0, hits = 0, deepest = 0, epochs = 0, kept = 0, rewound = 0, layouts = 0,
           outgrown = 0, late = 0, void_steps = 0, given_back = 0, grouped = 0, masks = 0;
  double longest_wait = 0;  // in virtual time, as a share of what progress allows
};

// The first fault, empty when there is none. counts may be null; it is added to.
std::string RunLife(uint64_t seed, LifeCounts* counts);
// The same life in virtual time: agents whose stages take time, some slow; clients and results come when their time has
// come. Checked besides: no request waits longer than the others' work allows.
std::string RunTimedLife(uint64_t seed, LifeCounts* counts);

}  // namespace pangea
