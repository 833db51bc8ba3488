// `pangea simulate`: the plan of a deployment and what it would do under a load, in virtual time. docs/simulation.md.
#pragma once
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "master/check.h"
#include "master/schedule/simulation.h"
#include "master/workload.h"

namespace pangea {

struct SimulateArgs {
  ServeArgs serve;    // target and settings
  std::string trace;  // file; empty: drawn
  WorkloadShape shape;
  int streams = 0;         // clients that each send their next request when one ends; 0: by arrival
  bool ends_known = true;  // --ends length, id
  std::vector<Outage> outages;
  bool json = false;
  std::string timeline;  // file to write; empty: none
};
// args must outlive Parse, which ParseSimulateArgs does; InvalidArgument: of the words, or of how they go together.
CommandLine SimulateCommandLine(SimulateArgs* args);
absl::Status ParseSimulateArgs(CommandLine& line, int argc, const char* const* argv, SimulateArgs* args);

// The engine and the cost model over the plan. planned.faults must be empty. timeline may be null.
SimulationReport RunSimulation(const PlannedDeployment& planned, const SimulateArgs& args,
                               const std::vector<SimulatedRequest>& requests, std::vector<TimelineSpan>* timeline);

// For people: the plan, memory, speed and latencies. For programs: one JSON object on one line; seconds, bytes, tokens.
std::string ReportText(const PlannedDeployment& planned, const SimulationReport& report);
std::string ReportJson(const PlannedDeployment& planned, const SimulationReport& report);

// Exit status 0; 64 for a wrong command line; 65 for a trace that is wrong; 73 when the timeline cannot be written; 78
// for a deployment that is refused.
int SimulateMain(int argc, char** argv);

}  // namespace pangea
