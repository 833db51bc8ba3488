#include "pipeline/checkpoint/header.h"

#include <algorithm>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "pipeline/checkpoint/folder.h"
#include "pipeline/checkpoint/gguf.h"
#include "pipeline/checkpoint/hash.h"
#include "pipeline/checkpoint/mapped_file.h"
#include "pipeline/checkpoint/sampling.h"

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

absl::StatusOr<CheckpointHeader> ReadGguf(const std::string& path) {
  CheckpointHeader header;
  header.format = CheckpointFormat::kGguf;
  header.path = path;
  auto mapped = MappedFile::Open(path);
  if (!mapped.ok()) return mapped.status();
  const auto bytes = mapped->bytes();
  const auto length = ParseGguf(bytes, &header);
  if (!length.ok()) return length.status();
  header.files = {path};
  header.file_bytes = {bytes.size()};
  auto config = ConfigFromGguf(header, bytes);
  if (!config.ok()) return config.status();
  header.config = *std::move(config);
  ReadGgufSampling(&header);
  Sha256 hash;
  hash.Add("gguf").Add(bytes.size()).Add(bytes.first(*length));
  // The factors are data, but they shape the plan's model as metadata do.
  for (const float factor : header.config.rope.factors) hash.AddRaw(&factor, sizeof factor);
  header.hash = hash.Hex();
  return header;
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
  auto header = folder ? ReadFolderHeader(path, weights_needed || HasWeights(path)) : ReadGguf(path);
  if (!header.ok()) return WithPath(path, header.status());
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
