// The real engine over agents that do no arithmetic, in virtual time: what a plan would do under a load, without the
// hardware. Deterministic: the same options and requests give the same report.
#pragma once
#include <cstdint>
#include <vector>

#include "master/schedule/engine.h"
#include "master/schedule/virtual_pipeline.h"

namespace pangea {

struct SimulatedRequest {
  double arrival = 0;          // seconds; with streams > 0 not looked at
  int prompt = 1, output = 1;  // tokens, at least 1
  uint64_t prefix = 0;         // requests of one prefix begin with the same prefix_tokens ids
  int prefix_tokens = 0;       // <= prompt
  int priority = 0;
  bool masked = false;  // each id is drawn under a mask, which its client makes in no time once it has the id before
};

// The agents lose all they know (one has died, say); so much later they have formed their groups for a new epoch.
struct Outage {
  double at = 0, seconds = 0;
};

struct SimulationOptions {
  EngineOptions engine;
  VirtualCosts costs;
  int streams = 0;         // > 0: so many clients, each of which sends its next request when one ends; 0: by arrival
  bool ends_known = true;  // outputs end by max_tokens, which the engine knows; false: by an end id, as chats do
  std::vector<Outage> outages;                    // each begins after the one before has ended
  std::vector<TimelineSpan>* timeline = nullptr;  // where to note what the stages do
};

struct Distribution {
  double mean = 0, p50 = 0, p90 = 0, p99 = 0, max = 0;  // 0 when there was none
};

struct SimulationReport {
  // refused: the queue was full, or it can never fit. expired: waited too long in the queue.
  uint64_t requests = 0, finished = 0, refused = 0, expired = 0;
  uint64_t prompt_tokens = 0, generated_tokens = 0;  // of the requests that finished
  double seconds = 0;                                // from the first arrival to the last end
  // Seconds as a client of the engine sees them: from arrival to the first token, between two tokens of one request,
  // from arrival to the last token. Of the requests that finished.
  Distribution first_token, inter_token, end_to_end;
  double loaded_seconds = 0;        // in which there was a request open or a step in flight
  std::vector<StageUse> stages;     // compute + communication + bubble = loaded_seconds
  double kv_mean = 0, kv_peak = 0;  // share of the blocks in use, over loaded_seconds
  EngineStats engine;
};

SimulationReport Simulate(const SimulationOptions& options, const std::vector<SimulatedRequest>& requests);

}  // namespace pangea
