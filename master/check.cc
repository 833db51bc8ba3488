#include "master/check.h"

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <utility>

#include "absl/strings/match.h"
#include "configs/model_path.h"
#include "master/api/generation/sampling_defaults.h"
#include "master/fleet/fleet.h"
#include "master/fleet/layout.h"
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

// Of "key: what", which rooms write that also log it.
DeploymentFault FaultOf(absl::string_view text) {
  const size_t colon = std::min(text.find(": "), text.size());
  return {std::string(text.substr(0, colon)), std::string(text.substr(std::min(colon + 2, text.size())))};
}
// Of tokenizer or template, whose messages begin with the file's path.
DeploymentFault TextFault(absl::string_view text, const std::string& template_file) {
  const bool of_template = !template_file.empty() && absl::StartsWith(text, template_file);
  return {of_template ? "chat.template_file" : "", std::string(text)};
}

}  // namespace

PlannedDeployment PlanDeployment(const ServeArgs& args, PlanFor purpose) {
  PlannedDeployment planned;
  DeploymentResult read = ReadDeploymentTarget(args.target, args.settings, args.at);
  planned.deployment = std::move(read.deployment);
  planned.faults = std::move(read.faults);
  if (!read.readable) return planned;
  // A faulty key has a default that nobody asked for: what is wrong with that is no fault of the file.
  const auto refuse = [&](const DeploymentFault& fault) {
    if (KeyIsSound(fault.key, read.faulty) && KeyIsSound(fault.other, read.faulty))
      planned.faults.push_back(read.Placed(fault));
  };
  const bool serves = purpose == PlanFor::kServe;
  planned.warnings = DeploymentWarnings(planned.deployment);
  if (auto token = ControlToken(planned.deployment); !token.ok()) refuse(FaultOf(token.status().message()));
  if (serves) {
    for (const DeploymentFault& fault : ListenCollisions(planned.deployment)) refuse(fault);
  }
  std::vector<std::string> key_faults;
  if (!planned.deployment.keys.file.empty()) planned.keys = KeyRing::Read(planned.deployment.keys.file, &key_faults);
  for (const std::string& fault : key_faults) refuse(FaultOf(fault));
  if (const auto found = FindModel(planned.deployment.model); !found.ok()) {
    refuse({"model", std::string(found.status().message())});
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
      refuse(TextFault(text.status().message(), planned.deployment.chat.template_file));
    }
  }
  PlanResult made = MakePlan(planned.header, planned.deployment);
  planned.plan = std::move(made.plan);
  for (const DeploymentFault& fault : made.faults) refuse(fault);
  if (!planned.faults.empty()) return planned;
  if (serves) {
    const std::string fault = HostFault(planned.deployment, planned.plan, AvailableMemory());
    if (!fault.empty()) refuse(FaultOf(fault));
    return planned;
  }
  if (const std::string fault = MemoryFault(planned.deployment, planned.plan); !fault.empty()) refuse(FaultOf(fault));
  return planned;
}

int CheckMain(int argc, char** argv) {
  ServeArgs args;
  CommandLine line = ServeCommandLine("check", &args);
  if (const auto code = ServeExit(line, ParseTarget(line, argc, argv, &args), args)) return *code;
  const PlannedDeployment planned = PlanDeployment(args);
  for (const std::string& warning : planned.warnings) std::cerr << "warning: " << warning << "\n";
  if (!planned.faults.empty()) {
    for (const std::string& fault : planned.faults) std::cerr << fault << "\n";
    return kConfigExitCode;
  }
  std::cout << planned.plan.Text(planned.header.config);
  if (planned.plan.agents.size() > 1) {
    const HostMemory memory = AvailableMemory();
    const auto fits = [&](const Layout& next) { return HostFault(next.deployment, next.plan, memory).empty(); };
    std::cout << "when lost   " << WhatMayBeLost(planned.header, {planned.deployment, planned.plan}, fits) << "\n";
  }
  std::cout << "sampling    "
            << Shown(MakeSamplingDefaults(planned.deployment.sampling, planned.header.sampling,
                                          planned.header.config.vocab))
            << std::endl;
  return 0;
}

}  // namespace pangea
