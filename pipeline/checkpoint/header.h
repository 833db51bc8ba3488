// A checkpoint's headers and metadata, without its weights: all that the planner and the master may see.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/types.h"
#include "pipeline/model_config.h"

namespace pangea {

enum class CheckpointFormat : uint8_t { kSafetensors, kGguf };

struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;      // row-major, outermost first (GGUF's order is turned round)
  int file = 0;                    // index into CheckpointHeader::files
  uint64_t offset = 0, bytes = 0;  // within the file
};

// One GGUF metadata value. Arrays are homogeneous; nested arrays are refused.
struct GgufValue {
  std::variant<bool, int64_t, uint64_t, double, std::string, std::vector<int64_t>, std::vector<double>,
               std::vector<std::string>, std::vector<bool>>
      value;
};

struct CheckpointHeader {
  CheckpointFormat format = CheckpointFormat::kSafetensors;
  std::string path;                // as given: a folder or a GGUF file (any part of a split one)
  std::vector<std::string> files;  // weight files
  std::vector<uint64_t> file_bytes;
  std::map<std::string, TensorInfo> tensors;
  std::map<std::string, std::string> odd_types;  // tensors of a type that nothing here reads -> the type; safetensors
  std::map<std::string, GgufValue> metadata;     // GGUF only; of a split one: the first part's
  ModelConfig config;
  std::map<std::string, double> sampling;  // what the model's own files ask for, by a request's names for it
  std::vector<std::string> warnings;       // what is odd and stops nothing; each names file and field
  std::string hash;  // hex, of headers and sizes: equal hashes mean the same checkpoint for planning and joining
};

// Opens a folder in the Hugging Face layout or a GGUF file (version 2 or 3, all parts of a split one; known by its
// content, not its name); reads headers only; refuses, naming the field, what it does not know. Every size and count is
// checked against the file before anything is allocated.
absl::StatusOr<CheckpointHeader> ReadCheckpointHeader(const std::string& path);

// The same, but a folder with a config.json and no weight file is taken for one whose tensors have the types that
// config.json declares: enough to plan and to simulate, not to serve. `files` is then empty.
absl::StatusOr<CheckpointHeader> DescribeCheckpoint(const std::string& path);

// Format, path and metadata of a GGUF file, even of one whose tensors or keys are refused above: what its text needs.
absl::StatusOr<CheckpointHeader> ReadGgufMetadata(const std::string& path);

}  // namespace pangea
