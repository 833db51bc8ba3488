#include "master/check.h"

#include <algorithm>
#include <iostream>
#include <utility>

#include "master/fleet/fleet.h"
#include "pipeline/cost_model.h"

namespace pangea {

PlannedDeployment PlanDeployment(const ServeArgs& args, PlanFor purpose) {
  PlannedDeployment planned;
  DeploymentResult read = ReadDeploymentTarget(args.target, args.settings);
  planned.deployment = std::move(read.deployment);
  planned.faults = std::move(read.faults);
  if (!read.readable) return planned;
  planned.warnings = DeploymentWarnings(planned.deployment);
  if (auto token = ControlToken(planned.deployment); !token.ok()) planned.faults.emplace_back(token.status().message());
  if (!planned.deployment.keys.file.empty())
    planned.keys = KeyRing::Read(planned.deployment.keys.file, &planned.faults);
  const bool serves = purpose == PlanFor::kServe;
  auto header = serves ? ReadCheckpointHeader(planned.deployment.model) : DescribeCheckpoint(planned.deployment.model);
  if (!header.ok()) {
    const std::string fault(header.status().message());
    const bool named = fault.starts_with(planned.deployment.model);
    planned.faults.push_back(named ? fault : planned.deployment.model + ": " + fault);
    // Who gets another file for the tensors' sake should not learn only then what its text lacks.
    if (const auto metadata = ReadGgufMetadata(planned.deployment.model); serves && metadata.ok()) {
      if (auto text = Text::Load(*metadata, planned.deployment.chat.template_file); !text.ok())
        planned.faults.emplace_back(text.status().message());
    }
    return planned;
  }
  planned.header = *std::move(header);
  planned.warnings.insert(planned.warnings.end(), planned.header.warnings.begin(), planned.header.warnings.end());
  if (serves) {
    auto text = Text::Load(planned.header, planned.deployment.chat.template_file);
    if (text.ok())
      planned.text = *std::move(text);
    else
      planned.faults.emplace_back(text.status().message());
  }
  PlanResult made = MakePlan(planned.header, planned.deployment);
  planned.plan = std::move(made.plan);
  for (std::string& fault : made.faults) {
    // The plan may repeat a rule of the file; once is enough.
    const auto same = [&](const std::string& known) { return known.ends_with(fault); };
    if (std::none_of(planned.faults.begin(), planned.faults.end(), same)) planned.faults.push_back(std::move(fault));
  }
  if (serves || !planned.faults.empty()) return planned;
  if (std::string fault = MemoryFault(planned.deployment, planned.plan); !fault.empty())
    planned.faults.push_back(std::move(fault));
  return planned;
}

int CheckMain(int argc, char** argv) {
  const auto args = ParseServeArgs(argc, argv);
  if (!args.ok()) return std::cerr << "pangea check: " << args.status().message() << "\n", kUsageExitCode;
  if (args->help) return std::cout << ServeHelp("check"), 0;
  const PlannedDeployment planned = PlanDeployment(*args);
  for (const std::string& warning : planned.warnings) std::cerr << "warning: " << warning << "\n";
  if (!planned.faults.empty()) {
    for (const std::string& fault : planned.faults) std::cerr << fault << "\n";
    return kConfigExitCode;
  }
  std::cout << planned.plan.Text(planned.header.config) << std::flush;
  return 0;
}

}  // namespace pangea
