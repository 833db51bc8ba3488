#include "master/api/generation/sampling_defaults.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace pangea {

SamplingDefaults MakeSamplingDefaults(const Deployment::Sampling& deployment,
                                      const std::map<std::string, double>& model, int vocab) {
  SamplingDefaults defaults = {{"temperature", {1}},
                               {"top_p", {1}},
                               {"top_k", {0}},
                               {"min_p", {0}},
                               {"repetition_penalty", {1}},
                               {"presence_penalty", {0}},
                               {"frequency_penalty", {0}}};
  if (deployment.defaults == "model") {
    for (const auto& [name, value] : model) defaults[name] = {value, kFromModel};
  }
  for (const auto& [name, value] : {std::pair{"temperature", deployment.temperature},
                                    {"top_p", deployment.top_p},
                                    {"top_k", deployment.top_k},
                                    {"min_p", deployment.min_p},
                                    {"repetition_penalty", deployment.repetition_penalty},
                                    {"presence_penalty", deployment.presence_penalty},
                                    {"frequency_penalty", deployment.frequency_penalty},
                                    {"max_tokens", deployment.max_tokens}}) {
    if (value) defaults[name] = {*value, kFromDeployment};
  }
  // More candidates than ids there are none; -1 is another way to say "off".
  double& top_k = defaults["top_k"].value;
  top_k = std::clamp(top_k, 0.0, static_cast<double>(vocab));
  return defaults;
}

std::string Shown(const SamplingDefaults& defaults) {
  std::string text;
  for (const auto& [name, value] : defaults)
    absl::StrAppend(&text, text.empty() ? "" : ", ", name, " ", value.value, " (", std::string(value.from), ")");
  return text;
}

}  // namespace pangea
