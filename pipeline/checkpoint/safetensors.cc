#include "pipeline/checkpoint/safetensors.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "configs/read_file.h"
#include "pipeline/checkpoint/fields.h"
#include "pipeline/checkpoint/folder.h"
#include "pipeline/checkpoint/mapped_file.h"
#include "pipeline/checkpoint/tensor_names.h"

namespace pangea {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxHeader = 100'000'000;  // the format's own limit
constexpr size_t kMostTensors = 1 << 20, kMostShards = 4096, kMostDims = 8;
constexpr char kFile[] = "model.safetensors", kIndex[] = "model.safetensors.index.json";

std::optional<DType> DTypeOf(const std::string& name) {
  static const std::map<std::string, DType> known = {
      {"F32", DType::kF32},   {"F16", DType::kF16},       {"BF16", DType::kBF16}, {"F64", DType::kF64},
      {"I64", DType::kI64},   {"I32", DType::kI32},       {"I8", DType::kI8},     {"U8", DType::kU8},
      {"BOOL", DType::kBool}, {"F8_E4M3", DType::kF8E4M3}};
  const auto it = known.find(name);
  return it == known.end() ? std::nullopt : std::optional(it->second);
}

std::string Shown(const std::string& name) { return name.size() > 200 ? absl::StrCat(name.substr(0, 200), "…") : name; }

// A list of whole numbers below 2^63, or nothing.
std::optional<std::vector<uint64_t>> Numbers(const json& value, size_t most) {
  if (!value.is_array() || value.size() > most) return std::nullopt;
  std::vector<uint64_t> numbers;
  for (const json& item : value) {
    if (!item.is_number_unsigned() || item.get<uint64_t>() > INT64_MAX) return std::nullopt;
    numbers.push_back(item.get<uint64_t>());
  }
  return numbers;
}

// odd_type: the type, where it is none that is known.
absl::Status ParseEntry(const std::string& name, const json& entry, uint64_t data_size, TensorInfo* info,
                        std::string* odd_type) {
  const auto fault = [&](auto&&... what) {
    return absl::InvalidArgumentError(absl::StrCat("tensor ", Shown(name), ": ", what...));
  };
  if (!entry.is_object()) return fault("must be an object");
  const auto dtype = entry.find("dtype"), shape = entry.find("shape"), offsets = entry.find("data_offsets");
  if (dtype == entry.end() || !dtype->is_string()) return fault("dtype is missing or not a string");
  if (shape == entry.end()) return fault("shape is missing");
  if (offsets == entry.end()) return fault("data_offsets is missing");
  const auto known = DTypeOf(dtype->get<std::string>());
  const auto dims = Numbers(*shape, kMostDims);
  if (!dims) return fault("shape must be a list of at most ", kMostDims, " whole numbers");
  const auto range = Numbers(*offsets, 2);
  if (!range || range->size() != 2) return fault("data_offsets must be two whole numbers");
  uint64_t bytes = known ? Info(*known).bytes : 0;
  for (const uint64_t dim : *dims) {
    if (__builtin_mul_overflow(bytes, dim, &bytes)) return fault("shape overflows");
    info->shape.push_back(static_cast<int64_t>(dim));
  }
  const auto [begin, end] = std::pair((*range)[0], (*range)[1]);
  if (begin > end || end > data_size)
    return fault("data_offsets [", begin, ", ", end, ") lie outside the file's ", data_size, " bytes of data");
  info->name = name;
  if (!known) {
    *odd_type = Shown(dtype->get<std::string>());
    return absl::OkStatus();
  }
  if (end - begin != bytes) return fault("data_offsets span ", end - begin, " bytes, dtype and shape need ", bytes);
  info->dtype = *known;
  info->offset = begin;
  info->bytes = bytes;
  return absl::OkStatus();
}

absl::Status InFile(const std::string& file, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(file, ": ", status.message()));
}

// The shard names of an index, in order; `holder` maps each tensor to its shard.
absl::StatusOr<std::vector<std::string>> Shards(const std::string& text, std::map<std::string, std::string>* holder) {
  auto index = ParseJson(text, kIndex, 8);
  if (!index.ok()) return index.status();
  const auto map = index->is_object() ? index->find("weight_map") : index->end();
  if (!index->is_object() || map == index->end() || !map->is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(kIndex, ": weight_map: is missing or not an object"));
  }
  if (map->empty() || map->size() > kMostTensors) {
    return absl::InvalidArgumentError(
        absl::StrCat(kIndex, ": weight_map: has ", map->size(), " tensors, from 1 to ", kMostTensors, " are read"));
  }
  std::set<std::string> names;
  for (const auto& [tensor, value] : map->items()) {
    const std::string file = value.is_string() ? value.get<std::string>() : "";
    // A plain name only: an index from elsewhere must not reach outside its folder.
    const bool plain = absl::EndsWith(file, ".safetensors") && file.find('/') == std::string::npos &&
                       file.find('\0') == std::string::npos && file[0] != '.' && file.size() < 256;
    if (!plain)
      return absl::InvalidArgumentError(
          absl::StrCat(kIndex, ": weight_map: ", Shown(tensor), ": must name a .safetensors file of the same folder"));
    names.insert(file);
    holder->emplace(tensor, file);
  }
  if (names.size() > kMostShards)
    return absl::InvalidArgumentError(
        absl::StrCat(kIndex, ": weight_map: names ", names.size(), " files, at most ", kMostShards));
  return std::vector<std::string>(names.begin(), names.end());
}

}  // namespace

absl::Status ParseSafetensors(std::span<const std::byte> bytes, uint64_t size, int file, const std::string& name,
                              CheckpointHeader* header) {
  const auto fault = [&](auto&&... what) { return absl::InvalidArgumentError(absl::StrCat(name, ": ", what...)); };
  if (size < 8 || bytes.size() < 8) return fault("has ", size, " bytes, a safetensors file has at least 8");
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  if (length > kMaxHeader) return fault("header length is ", length, ", at most ", kMaxHeader);
  if (length > size - 8 || length > bytes.size() - 8)
    return fault("header length is ", length, ", but ", size - 8, " bytes follow");
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + 8, length);
  auto parsed = ParseJson(text, absl::StrCat(name, ": header"), 8);
  if (!parsed.ok()) return parsed.status();
  if (!parsed->is_object()) return fault("header: must be an object");
  if (parsed->size() > kMostTensors) return fault("header: has ", parsed->size(), " tensors, at most ", kMostTensors);
  const uint64_t data = 8 + length;
  std::vector<const TensorInfo*> placed;
  for (const auto& [key, entry] : parsed->items()) {
    if (key == "__metadata__") continue;
    TensorInfo info;
    std::string odd_type;
    if (absl::Status status = ParseEntry(key, entry, size - data, &info, &odd_type); !status.ok())
      return InFile(name, status);
    if (!odd_type.empty()) {
      if (!IsBuffer(key)) header->odd_types.emplace(key, odd_type);
      continue;
    }
    info.file = file;
    info.offset += data;
    const auto [it, fresh] = header->tensors.emplace(key, std::move(info));
    if (!fresh) return fault("tensor ", Shown(key), ": is already in ", header->files[it->second.file]);
    placed.push_back(&it->second);
  }
  std::sort(placed.begin(), placed.end(),
            [](auto* a, auto* b) { return std::pair(a->offset, a->bytes) < std::pair(b->offset, b->bytes); });
  for (size_t i = 1; i < placed.size(); ++i) {
    if (placed[i]->offset < placed[i - 1]->offset + placed[i - 1]->bytes) {
      return fault("tensors ", Shown(placed[i - 1]->name), " and ", Shown(placed[i]->name), " overlap");
    }
  }
  return absl::OkStatus();
}

absl::Status ReadSafetensorsFolder(const std::string& folder, CheckpointHeader* header, Sha256* hash) {
  const std::filesystem::path root(folder);
  std::error_code ignored;
  std::vector<std::string> names = {kFile};
  std::map<std::string, std::string> holder;
  if (!std::filesystem::exists(root / kFile, ignored)) {
    const auto text = ReadFile((root / kIndex).string(), kMaxHeader);
    if (absl::IsNotFound(text.status())) {
      return absl::NotFoundError(absl::StrCat(folder, ": has neither ", kFile, " nor ", kIndex, OtherWeights(folder)));
    }
    if (!text.ok()) return text.status();
    auto shards = Shards(*text, &holder);
    if (!shards.ok()) return shards.status();
    names = *std::move(shards);
  }
  std::vector<std::string> faults;
  absl::StatusCode code = absl::StatusCode::kInvalidArgument;
  for (const std::string& name : names) {
    auto mapped = MappedFile::Open((root / name).string());
    if (!mapped.ok()) {
      code = mapped.status().code();
      faults.emplace_back(mapped.status().message());
      continue;
    }
    const auto bytes = mapped->bytes();
    header->files.push_back((root / name).string());
    header->file_bytes.push_back(bytes.size());
    absl::Status status =
        ParseSafetensors(bytes, bytes.size(), static_cast<int>(header->files.size()) - 1, name, header);
    if (!status.ok()) {
      faults.emplace_back(status.message());
      continue;
    }
    uint64_t length = 0;
    std::memcpy(&length, bytes.data(), 8);
    hash->Add(name).Add(bytes.size()).Add(bytes.first(8 + length));
  }
  if (!faults.empty()) return absl::Status(code, absl::StrJoin(faults, "\n"));
  for (const auto& [tensor, file] : holder) {
    const auto it = header->tensors.find(tensor);
    if (header->odd_types.contains(tensor)) continue;
    if (it == header->tensors.end() ? !IsBuffer(tensor) : header->files[it->second.file] != (root / file).string()) {
      return absl::InvalidArgumentError(absl::StrCat(kIndex, ": weight_map: ", Shown(tensor), ": is not in ", file));
    }
  }
  return absl::OkStatus();
}

}  // namespace pangea
