// Split files: llama.cpp, tools/gguf-split and llama_split_path.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "pipeline/checkpoint/gguf.h"
#include "pipeline/checkpoint/hash.h"
#include "pipeline/checkpoint/mapped_file.h"
#include "pipeline/checkpoint/sampling.h"
#include "pipeline/checkpoint/tensor_names.h"

namespace pangea {
namespace {

constexpr char kNo[] = "split.no", kCount[] = "split.count", kTensors[] = "split.tensors.count";
constexpr uint64_t kMostParts = 4096;
constexpr size_t kMostNamed = 8;  // faults, before the rest is only counted

struct SplitPart {
  std::string path;
  MappedFile file;
  GgufContent content;
};

absl::Status In(const std::string& path, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
}

absl::StatusOr<SplitPart> ReadPart(const std::string& path) {
  auto file = MappedFile::Open(path);
  if (!file.ok()) return file.status();
  auto content = ParseGguf(file->bytes());
  if (!content.ok()) return In(path, content.status());
  return SplitPart{path, *std::move(file), *std::move(content)};
}

std::optional<uint64_t> Number(const GgufContent& content, const char* key) {
  const auto it = content.metadata.find(key);
  if (it == content.metadata.end()) return std::nullopt;
  if (const auto* number = std::get_if<uint64_t>(&it->second.value)) return *number;
  const auto* number = std::get_if<int64_t>(&it->second.value);
  return number != nullptr && *number >= 0 ? std::optional(static_cast<uint64_t>(*number)) : std::nullopt;
}

std::string FileName(const std::string& path) { return std::filesystem::path(path).filename().string(); }

std::string Shown(const std::optional<uint64_t>& number) { return number ? absl::StrCat(*number) : "missing"; }

std::string Ending(uint64_t no, uint64_t count) {
  char text[64];
  std::snprintf(text, sizeof text, "-%05d-of-%05d.gguf", static_cast<int>(no) + 1, static_cast<int>(count));
  return text;
}

// The paths of all parts, from that of one.
absl::StatusOr<std::vector<std::string>> Paths(const SplitPart& part, uint64_t count) {
  const auto fault = [&](auto&&... what) { return absl::InvalidArgumentError(absl::StrCat(part.path, ": ", what...)); };
  if (count > kMostParts) return fault(kCount, ": is ", count, ", at most ", kMostParts, " are read");
  const auto no = Number(part.content, kNo);
  if (!no || *no >= count)
    return fault(kNo, ": is ", Shown(no), ", must be a whole number below ", kCount, ", which is ", count);
  const std::string ending = Ending(*no, count);
  if (!part.path.ends_with(ending)) {
    return fault("is part ", *no + 1, " of ", count, " (", kNo, ", ", kCount, "), but its name does not end in ",
                 ending, ", by which the other parts are found");
  }
  std::vector<std::string> paths;
  const std::string stem = part.path.substr(0, part.path.size() - ending.size());
  for (uint64_t i = 0; i < count; ++i) paths.push_back(stem + Ending(i, count));
  return paths;
}

// What a part says of the whole against what the given one said.
void CheckPart(const SplitPart& part, uint64_t no, uint64_t count, std::vector<std::string>* faults) {
  for (const auto& [key, want] : {std::pair{kNo, no}, {kCount, count}}) {
    const auto number = Number(part.content, key);
    if (number != want)
      faults->push_back(absl::StrCat(FileName(part.path), ": ", key, ": is ", Shown(number), ", not ", want));
  }
}

absl::StatusOr<std::vector<SplitPart>> ReadParts(const std::string& path) {
  auto given = ReadPart(path);
  if (!given.ok()) return given.status();
  std::vector<SplitPart> parts;
  const uint64_t count = Number(given->content, kCount).value_or(1);
  if (count <= 1) {
    parts.push_back(*std::move(given));
    return parts;
  }
  const auto paths = Paths(*given, count);
  if (!paths.ok()) return paths.status();
  const auto tensors = Number(given->content, kTensors);
  std::vector<std::string> faults;
  uint64_t found = 0;
  for (uint64_t i = 0; i < count; ++i) {
    auto part = (*paths)[i] == path ? std::move(given) : ReadPart((*paths)[i]);
    if (absl::IsNotFound(part.status())) {
      faults.push_back(absl::StrCat(FileName((*paths)[i]), ": no such file: it is part ", i + 1, " of ", count));
    } else if (!part.ok()) {
      faults.emplace_back(part.status().message());
    } else {
      CheckPart(*part, i, count, &faults);
      found += part->content.tensors.size();
      parts.push_back(*std::move(part));
    }
  }
  if (faults.empty() && tensors && found != *tensors)
    faults.push_back(absl::StrCat(kTensors, ": is ", *tensors, ", but the parts hold ", found));
  if (faults.empty()) return parts;
  if (faults.size() > kMostNamed) {
    const size_t more = faults.size() - kMostNamed;
    faults.resize(kMostNamed);
    faults.push_back(absl::StrCat("… and ", more, " faults more of other parts"));
  }
  for (std::string& fault : faults) {
    if (!fault.starts_with(path)) fault = absl::StrCat(path, ": ", fault);
  }
  return absl::InvalidArgumentError(absl::StrJoin(faults, "\n"));
}

// The tensors of all parts become those of the first.
absl::Status Join(std::vector<SplitPart>* parts) {
  GgufContent& whole = parts->front().content;
  for (size_t i = 1; i < parts->size(); ++i) {
    for (auto& [name, info] : (*parts)[i].content.tensors) {
      info.file = static_cast<int>(i);
      const auto [it, fresh] = whole.tensors.emplace(name, std::move(info));
      if (!fresh) {
        return absl::InvalidArgumentError(
            absl::StrCat((*parts)[i].path, ": tensor ", name, ": is already in ", (*parts)[it->second.file].path));
      }
    }
    for (const auto& [type, more] : (*parts)[i].content.unsupported) {
      auto& sum = whole.unsupported[type];
      if (sum.tensors == 0) sum.first = more.first;
      sum.tensors += more.tensors;
    }
  }
  return absl::OkStatus();
}

void WarnOfSurplus(CheckpointHeader* header) {
  std::vector<std::string> names;
  for (const auto& [name, info] : header->tensors) {
    if (IsGgufSurplus(name)) names.push_back(name);
  }
  if (names.empty()) return;
  const size_t count = names.size();
  if (count > kMostNamed) names.resize(kMostNamed);
  header->warnings.push_back(
      absl::StrCat(header->path, ": ", count, " tensors that the model (", header->config.architecture_name,
                   ") does not use are passed over: ", absl::StrJoin(names, ", "), count > kMostNamed ? ", …" : ""));
}

}  // namespace

absl::StatusOr<CheckpointHeader> ReadGgufMetadata(const std::string& path) {
  auto parts = ReadParts(path);
  if (!parts.ok()) return parts.status();
  CheckpointHeader header;
  header.format = CheckpointFormat::kGguf;
  header.path = path;
  header.metadata = std::move(parts->front().content.metadata);
  return header;
}

absl::StatusOr<CheckpointHeader> ReadGgufHeader(const std::string& path) {
  auto parts = ReadParts(path);
  if (!parts.ok()) return parts.status();
  if (absl::Status joined = Join(&*parts); !joined.ok()) return In(path, joined);
  CheckpointHeader header;
  header.format = CheckpointFormat::kGguf;
  header.path = path;
  Sha256 hash;
  hash.Add("gguf");
  for (const SplitPart& part : *parts) {
    const auto bytes = part.file.bytes();
    header.files.push_back(part.path);
    header.file_bytes.push_back(bytes.size());
    hash.Add(bytes.size()).Add(bytes.first(part.content.header_bytes));
  }
  GgufContent& content = parts->front().content;
  std::span<const std::byte> rope_freqs;
  if (const auto it = content.tensors.find("rope_freqs.weight"); it != content.tensors.end()) {
    rope_freqs = (*parts)[it->second.file].file.bytes().subspan(it->second.offset, it->second.bytes);
  }
  auto config = ConfigFromGguf(path, content, rope_freqs, &header.warnings);
  if (!config.ok()) return config.status();
  header.config = *std::move(config);
  header.tensors = std::move(content.tensors);
  header.metadata = std::move(content.metadata);
  // The factors are data, but they shape the plan's model as metadata do.
  for (const float factor : header.config.rope.factors) hash.AddRaw(&factor, sizeof factor);
  header.hash = hash.Hex();
  WarnOfSurplus(&header);
  ReadGgufSampling(&header);
  return header;
}

}  // namespace pangea
