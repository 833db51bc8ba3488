// A model's folder in the Hugging Face layout: config.json, generation_config.json and safetensors files together.
#pragma once
#include <string>

#include "absl/status/statusor.h"
#include "pipeline/checkpoint/header.h"

namespace pangea {

// weights: false takes a folder without weight files for one whose tensors have the type that config.json declares.
// Faults of the configuration come first, then those of the files.
absl::StatusOr<CheckpointHeader> ReadFolderHeader(const std::string& path, bool weights);

// "; it has PyTorch weights …": what else a folder without safetensors holds, and what can be done with it; empty when
// there is nothing to say.
std::string OtherWeights(const std::string& folder);

}  // namespace pangea
