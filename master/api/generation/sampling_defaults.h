// The value of a sampling parameter that a request does not give: the deployment file's, else the model's own (where
// `sampling.defaults` lets it), else OpenAI's.
#pragma once
#include <map>
#include <string>
#include <string_view>

#include "configs/deployment.h"

namespace pangea {

inline constexpr std::string_view kFromDeployment = "deployment", kFromModel = "model", kFromOpenAi = "openai";

struct SamplingDefault {
  double value = 0;
  std::string_view from = kFromOpenAi;
};
// By the parameter's name in a request. All but max_tokens are always there.
using SamplingDefaults = std::map<std::string, SamplingDefault>;

// model: CheckpointHeader::sampling; vocab bounds top_k.
SamplingDefaults MakeSamplingDefaults(const Deployment::Sampling& deployment,
                                      const std::map<std::string, double>& model, int vocab);
// "temperature 0.6 (model), top_p 1 (openai), …"
std::string Shown(const SamplingDefaults& defaults);

}  // namespace pangea
