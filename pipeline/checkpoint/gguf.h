// GGUF headers, versions 2 and 3 (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): metadata and tensor
// directory.
#pragma once
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pipeline/checkpoint/header.h"

namespace pangea {

// What one file says. Tensors of types that we do not have stand among the others as kU8 of no bytes.
struct GgufContent {
  std::map<std::string, GgufValue> metadata;
  std::map<std::string, TensorInfo> tensors;  // offsets within the file, shapes row-major, `file` 0
  struct Unsupported {
    int64_t tensors = 0;
    std::string first;  // a tensor's name
  };
  std::map<std::string, Unsupported> unsupported;  // by the type's name
  uint64_t header_bytes = 0;                       // to where the tensor data begin
};

// Parses the whole of `bytes` (a mapped file). Nothing is allocated by a count that the bytes left cannot hold.
absl::StatusOr<GgufContent> ParseGguf(std::span<const std::byte> bytes);

// A GGUF file, with its other parts when it says that it is one of several: they lie beside it and are told apart by
// the ending -00001-of-00003.gguf of their names, and any of them may be given. Every part that is missing or does not
// fit the others is named.
absl::StatusOr<CheckpointHeader> ReadGgufHeader(const std::string& path);

// Metadata and tensors (of all parts) -> ModelConfig. Every fault at once, each after `where`: the architecture, then
// tensor types, then keys. rope_freqs: the bytes of rope_freqs.weight, when there is one.
absl::StatusOr<ModelConfig> ConfigFromGguf(const std::string& where, const GgufContent& content,
                                           std::span<const std::byte> rope_freqs, std::vector<std::string>* warnings);

}  // namespace pangea
