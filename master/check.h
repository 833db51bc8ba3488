// `pangea check`, and the planning that it shares with `pangea serve`: everything that can be refused before a process
// is started or a weight is read.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "configs/deployment.h"
#include "configs/serve_args.h"
#include "master/keys/keys.h"
#include "master/text/text.h"
#include "pipeline/checkpoint/header.h"
#include "pipeline/parallel_plan.h"

namespace pangea {

struct PlannedDeployment {
  Deployment deployment;
  CheckpointHeader header;
  ParallelPlan plan;                // all three are meaningful when faults is empty
  std::vector<std::string> faults;  // of the file, the checkpoint and the plan, each one line
  std::vector<std::string> warnings;
  KeyRing keys;                // of keys.file
  std::unique_ptr<Text> text;  // tokenizer and chat template, loaded to see that they can be
};
// kSimulate needs neither weights (a folder with a config.json will do) nor a tokenizer, and looks at simulate.memory.
enum class PlanFor : uint8_t { kServe, kSimulate };
PlannedDeployment PlanDeployment(const ServeArgs& args, PlanFor purpose = PlanFor::kServe);

// Prints the plan on standard output, or every fault on standard error. Exit status 0; 64 for a wrong command line; 78
// for a deployment that is refused.
int CheckMain(int argc, char** argv);

}  // namespace pangea
