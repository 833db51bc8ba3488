#include "pipeline/checkpoint/header.h"

#include <algorithm>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "pipeline/checkpoint/gguf.h"
#include "pipeline/checkpoint/hash.h"
#include "pipeline/checkpoint/hf_config.h"
#include "pipeline/checkpoint/mapped_file.h"
#include "pipeline/checkpoint/safetensors.h"
#include "pipeline/checkpoint/tensor_table.h"

namespace pangea {
namespace {

constexpr uint64_t kMaxConfigBytes = 16 << 20;

// The path before what is wrong in it.
absl::Status In(const std::string& name, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(name, ": ", status.message()));
}

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

// Tensors as the model needs them, all of the type that config.json declares.
absl::Status DeclareTensors(std::string_view config_text, CheckpointHeader* header) {
  const auto type = DeclaredType(config_text);
  if (!type.ok()) return type.status();
  for (const TensorRow& row : TensorTable(*header)) {
    TensorInfo& info = header->tensors[row.name];  // parts of a fused tensor come one after another
    info.name = row.name;
    info.dtype = *type;
    const int64_t n = row.first + row.n;
    info.shape = row.k == 0 ? std::vector{n} : row.transposed ? std::vector{row.k, n} : std::vector{n, row.k};
    info.bytes = std::max<int64_t>(row.k, 1) * RowBytes(*type, n);
  }
  return absl::OkStatus();
}

absl::StatusOr<CheckpointHeader> ReadFolder(const std::string& path, bool weights) {
  CheckpointHeader header;
  header.format = CheckpointFormat::kSafetensors;
  header.path = path;
  const std::filesystem::path folder(path);
  const auto config_text = ReadSmallFile((folder / "config.json").string(), kMaxConfigBytes);
  if (!config_text.ok()) return config_text.status();
  const auto generation = ReadSmallFile((folder / "generation_config.json").string(), kMaxConfigBytes);
  if (!generation.ok() && !absl::IsNotFound(generation.status())) return generation.status();
  const std::string generation_text = generation.ok() ? *generation : "";
  auto config = ConfigFromJson(*config_text, generation_text);
  if (!config.ok()) return In(path, config.status());
  header.config = *std::move(config);
  Sha256 hash;
  hash.Add("safetensors").Add(*config_text).Add(generation_text);
  const absl::Status status =
      weights ? ReadSafetensorsFolder(path, &header, &hash) : DeclareTensors(*config_text, &header);
  if (!status.ok()) return status;
  header.hash = hash.Hex();
  return header;
}

absl::StatusOr<CheckpointHeader> Read(const std::string& path, bool weights_needed) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status))
    return absl::NotFoundError(absl::StrCat("model: ", path, ": no such file or folder"));
  auto header = std::filesystem::is_directory(status) ? ReadFolder(path, weights_needed || HasWeights(path))
                                                      : ReadGgufHeader(path);
  if (header.ok()) header->config.dtype = MostBytes(*header);
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
