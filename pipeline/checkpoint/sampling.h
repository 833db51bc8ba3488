// How a model's own files ask to be sampled: generation_config.json, or the keys general.sampling.* of a GGUF file
// (which llama.cpp's server takes for its defaults, as vLLM does the first).
#pragma once
#include <string_view>

#include "absl/status/status.h"
#include "pipeline/checkpoint/header.h"

namespace pangea {

// Fills header->sampling, and header->warnings with what cannot be served and is left out, each by its file and name.
// `do_sample` is not looked at, as in vLLM. InvalidArgument: no JSON object.
absl::Status ReadGenerationConfig(std::string_view text, CheckpointHeader* header);
void ReadGgufSampling(CheckpointHeader* header);  // from its metadata

}  // namespace pangea
