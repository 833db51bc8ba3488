#include "master/check.h"

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <utility>

#include "configs/cat.h"
#include "configs/model_path.h"
#include "master/api/generation/sampling_defaults.h"
#include "master/fleet/fleet.h"
#include "master/listen.h"
#include "pipeline/cost_model.h"

namespace pangea {
namespace {

// Of a model whose weights or configuration cannot be read, also says what is wrong with its tokenizer: whoever fetches
// another file because of the first fault should know of the second.
void AddTokenizerFault(const Deployment& deployment, std::vector<std::string>* faults) {
  if (const auto metadata = ReadGgufMetadata(deployment.model); metadata.ok()) {
    const auto text = Text::Load(*metadata, deployment.chat.template_file);
    if (!text.ok()) faults->emplace_back(text.status().message());
    return;
  }
  std::error_code ignored;
  const std::filesystem::path folder(deployment.model);
  const auto has = [&](const char* name) { return std::filesystem::exists(folder / name, ignored); };
  // vocab.json alone cannot be judged: how it is read depends on the configuration, which could not be read.
  if (!has("config.json") || (has("vocab.json") && !has("tokenizer.json") && !has("tokenizer.model"))) return;
  CheckpointHeader bare;
  bare.path = deployment.model;
  const auto text = Text::Load(bare, deployment.chat.template_file);
  if (!text.ok()) faults->emplace_back(text.status().message());
}

}  // namespace

PlannedDeployment PlanDeployment(const ServeArgs& args, PlanFor purpose) {
  PlannedDeployment planned;
  DeploymentResult read = ReadDeploymentTarget(args.target, args.settings, args.at);
  planned.deployment = std::move(read.deployment);
  planned.faults = std::move(read.faults);
  if (!read.readable) return planned;
  // What the rules of the file have refused already is not told again in other words.
  const auto refuse = [&](absl::string_view fault) {
    if (std::string placed = read.Placed(std::string(fault)); !placed.empty()) planned.faults.push_back(placed);
  };
  const bool serves = purpose == PlanFor::kServe;
  planned.warnings = DeploymentWarnings(planned.deployment);
  if (auto token = ControlToken(planned.deployment); !token.ok()) refuse(token.status().message());
  if (serves) {
    for (const std::string& fault : ListenCollisions(planned.deployment)) refuse(fault);
  }
  std::vector<std::string> key_faults;
  if (!planned.deployment.keys.file.empty()) planned.keys = KeyRing::Read(planned.deployment.keys.file, &key_faults);
  for (const std::string& fault : key_faults) refuse(fault);
  if (const auto found = FindModel(planned.deployment.model); !found.ok()) {
    refuse(Cat("model: ", found.status().message()));
    return planned;
  }
  auto header = serves ? ReadCheckpointHeader(planned.deployment.model) : DescribeCheckpoint(planned.deployment.model);
  if (!header.ok()) {
    planned.faults.emplace_back(header.status().message());
    if (serves) AddTokenizerFault(planned.deployment, &planned.faults);
    return planned;
  }
  planned.header = *std::move(header);
  planned.warnings.insert(planned.warnings.end(), planned.header.warnings.begin(), planned.header.warnings.end());
  if (serves) {
    auto text = Text::Load(planned.header, planned.deployment.chat.template_file);
    if (text.ok()) {
      planned.text = *std::move(text);
      const auto& warnings = planned.text->warnings();
      planned.warnings.insert(planned.warnings.end(), warnings.begin(), warnings.end());
    } else {
      refuse(text.status().message());
    }
  }
  PlanResult made = MakePlan(planned.header, planned.deployment);
  planned.plan = std::move(made.plan);
  for (const std::string& fault : made.faults) refuse(fault);
  if (!planned.faults.empty()) return planned;
  if (serves) {
    const std::string fault = HostFault(planned.deployment, planned.plan, AvailableMemory());
    if (!fault.empty()) refuse(fault);
    return planned;
  }
  if (const std::string fault = MemoryFault(planned.deployment, planned.plan); !fault.empty()) refuse(fault);
  return planned;
}

int CheckMain(int argc, char** argv) {
  const auto args = ParseServeArgs(argc, argv);
  if (!args.ok()) return std::cerr << "pangea check: " << args.status().message() << "\n", kUsageExitCode;
  if (args->help) return std::cout << ServeHelp("check", args->every_key), 0;
  const PlannedDeployment planned = PlanDeployment(*args);
  for (const std::string& warning : planned.warnings) std::cerr << "warning: " << warning << "\n";
  if (!planned.faults.empty()) {
    for (const std::string& fault : planned.faults) std::cerr << fault << "\n";
    return kConfigExitCode;
  }
  std::cout << planned.plan.Text(planned.header.config) << "sampling    "
            << Shown(MakeSamplingDefaults(planned.deployment.sampling, planned.header.sampling,
                                          planned.header.config.vocab))
            << std::endl;
  return 0;
}

}  // namespace pangea
