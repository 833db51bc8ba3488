#include "pipeline/checkpoint/header.h"

#include <algorithm>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "pipeline/checkpoint/folder.h"
#include "pipeline/checkpoint/gguf.h"

namespace pangea {
namespace {

DType MostBytes(const CheckpointHeader& header) {
  std::map<DType, uint64_t> bytes;
  for (const auto& [name, info] : header.tensors) {
    if (IsWeightType(info.dtype)) bytes[info.dtype] += info.bytes;
  }
  DType most = DType::kF32;
  for (const auto& [dtype, sum] : bytes) {
    if (sum > bytes[most]) most = dtype;
  }
  return most;
}

bool HasWeights(const std::string& folder) {
  std::error_code ignored;
  return std::filesystem::exists(std::filesystem::path(folder) / "model.safetensors", ignored) ||
         std::filesystem::exists(std::filesystem::path(folder) / "model.safetensors.index.json", ignored);
}

// Every line of a fault begins with the checkpoint's path, once.
absl::Status WithPath(const std::string& path, const absl::Status& status) {
  const std::string bare(absl::StripSuffix(path, "/"));
  std::vector<std::string> lines = absl::StrSplit(status.message(), '\n');
  for (std::string& line : lines) {
    if (!line.starts_with(bare + ":") && !line.starts_with(bare + "/")) line = absl::StrCat(bare, ": ", line);
  }
  return absl::Status(status.code(), absl::StrJoin(lines, "\n"));
}

absl::StatusOr<CheckpointHeader> Read(const std::string& path, bool weights_needed) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status))
    return absl::NotFoundError(absl::StrCat("model: ", path, ": no such file or folder"));
  const bool folder = std::filesystem::is_directory(status);
  auto header = folder ? ReadFolderHeader(path, weights_needed || HasWeights(path)) : ReadGgufHeader(path);
  if (!header.ok()) return folder ? WithPath(path, header.status()) : header.status();
  header->config.dtype = MostBytes(*header);
  return header;
}

}  // namespace

absl::StatusOr<CheckpointHeader> ReadCheckpointHeader(const std::string& path) {
  return Read(path, /*weights_needed=*/true);
}

absl::StatusOr<CheckpointHeader> DescribeCheckpoint(const std::string& path) {
  return Read(path, /*weights_needed=*/false);
}

}  // namespace pangea
