// GGUF v3 headers (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): metadata and tensor directory.
#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pipeline/checkpoint/header.h"

namespace pangea {

// Parses the whole of `bytes` (a mapped file). Fills metadata and tensors (offsets within the file, shapes row-major).
// Answers the length of the header, where the tensor data begin. Nothing is allocated by a count that the bytes left
// cannot hold.
absl::StatusOr<uint64_t> ParseGguf(std::span<const std::byte> bytes, CheckpointHeader* header);

// The metadata and tensors -> ModelConfig. bytes: the file, for rope_freqs.weight.
absl::StatusOr<ModelConfig> ConfigFromGguf(const CheckpointHeader& header, std::span<const std::byte> bytes);

}  // namespace pangea
