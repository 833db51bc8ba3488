// A hash that tells fine-tunes of one layout apart: of samples of every tensor's bytes. Not a proof of equality of
// whole files: three pages a tensor are read, so that it costs milliseconds for a model of any size.
#pragma once
#include <string>

#include "pipeline/checkpoint/header.h"

namespace pangea {

// Hex, of the header's hash and of the first, middle and last page of each tensor.
absl::StatusOr<std::string> ContentHash(const CheckpointHeader& header);

}  // namespace pangea
