#include "pipeline/checkpoint/folder.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "configs/read_file.h"
#include "pipeline/checkpoint/f8_scales.h"
#include "pipeline/checkpoint/hash.h"
#include "pipeline/checkpoint/hf_config.h"
#include "pipeline/checkpoint/mapped_file.h"
#include "pipeline/checkpoint/safetensors.h"
#include "pipeline/checkpoint/sampling.h"
#include "pipeline/checkpoint/tensor_table.h"

namespace pangea {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxConfigBytes = 16 << 20;

// Tensors as the model needs them, all of the type that config.json declares.
absl::Status DeclareTensors(std::string_view config_text, CheckpointHeader* header) {
  const auto declared = DeclaredTypesOf(config_text);
  if (!declared.ok()) return declared.status();
  for (const TensorRow& row : TensorTable(*header)) {
    TensorInfo& info = header->tensors[row.name];  // parts of a fused tensor come one after another
    info.name = row.name;
    const bool whole = row.matrix() && row.first == 0 && !row.transposed;
    const bool head = row.role == Role::kHead && declared->f8_head && !header->config.tied;
    const bool f8 = declared->f8 && whole && (row.layer >= 0 ? !declared->LeavesOut(row.name) : head);
    const DType type = info.dtype = f8 ? DType::kF8E4M3 : declared->type;
    const int64_t n = row.first + row.n;
    info.shape = row.k == 0 ? std::vector{n} : row.transposed ? std::vector{row.k, n} : std::vector{n, row.k};
    info.bytes = std::max<int64_t>(row.k, 1) * RowBytes(type, n);
    if (!f8) continue;
    TensorInfo& scales = header->tensors[row.name + "_scale"];
    scales = {
        .name = row.name + "_scale", .dtype = DType::kF32, .shape = {n, 1}, .bytes = 4 * static_cast<uint64_t>(n)};
  }
  return absl::OkStatus();
}

// What a tensor beside the model's own is known to be; empty: unknown. Trainers, quantisers and wrappers leave these.
std::string SurplusKind(const std::string& name, const std::string& prefix, const ModelConfig& config) {
  static const std::set<std::string> heads = {
      "v_head",          "value_head",  "score",   "classifier",  "reward_head",         "rm_head",
      "regression_head", "critic_head", "summary", "classifiers", "classification_head", "multiple_choice_head"};
  static constexpr const char* scales[] = {
      ".k_scale", ".v_scale", ".q_scale", ".kv_scale", ".prob_scale", ".k_proj.output_scale", ".v_proj.output_scale"};
  if (name.find("lora_") != std::string::npos) return "adapter (LoRA) weights, which are not applied";
  if (name.ends_with(".input_scale") || name.ends_with(".input_scale_ub") || name.ends_with(".activation_scale"))
    return "scales of activations, which are not rounded to 8 bits";
  if (std::any_of(std::begin(scales), std::end(scales), [&](const char* s) { return name.ends_with(s); }))
    return "scales of a quantised cache";
  if (name.starts_with(prefix + (config.learned_positions ? "h." : "layers."))) return "";
  const std::vector<std::string> parts = absl::StrSplit(name, '.');
  if (std::any_of(parts.begin(), parts.end(), [&](const std::string& part) { return heads.contains(part); }))
    return "a head for values, rewards or classes";
  if (std::any_of(parts.begin(), parts.end(), [](const std::string& part) { return part.starts_with("mtp"); }))
    return "draft layers for several tokens at once";
  return config.wrapper.empty() ? "" : absl::StrCat("parts of ", config.wrapper, " beside its language model");
}

// Takes known surplus tensors out of the header, one warning a kind; what else is surplus stays, to be refused by name.
void DropKnownSurplus(CheckpointHeader* header) {
  std::set<std::string> wanted;
  for (const TensorRow& row : TensorTable(*header)) wanted.insert({row.name, ScalesName(*header, row.name)});
  const std::string prefix = DecoderPrefix(*header), head = HeadName(*header, prefix);
  std::map<std::string, std::vector<std::string>> kinds;
  const auto drop = [&](const auto& entry) {
    if (wanted.contains(entry.first) || entry.first == head) return false;
    const std::string kind = SurplusKind(entry.first, prefix, header->config);
    if (!kind.empty()) kinds[kind].push_back(entry.first);
    return !kind.empty();
  };
  std::erase_if(header->tensors, drop);
  std::erase_if(header->odd_types, drop);
  for (auto& [kind, names] : kinds) {
    const size_t count = names.size();
    names.resize(std::min<size_t>(count, 3));
    header->warnings.push_back(absl::StrCat(count, count == 1 ? " tensor is" : " tensors are", " left out: ", kind,
                                            " (", absl::StrJoin(names, ", "), count > 3 ? ", …)" : ")"));
  }
}

// Compares pages at 64 places of two tensors of equal type and shape: training moves nearly every number.
absl::StatusOr<bool> SameData(const CheckpointHeader& header, const TensorInfo& a, const TensorInfo& b) {
  constexpr uint64_t kPage = 4096, kPlaces = 64;
  const auto file_a = MappedFile::Open(header.files[a.file]), file_b = MappedFile::Open(header.files[b.file]);
  if (!file_a.ok()) return file_a.status();
  if (!file_b.ok()) return file_b.status();
  const uint64_t size = std::min(kPage, a.bytes), last = a.bytes - size;
  for (uint64_t place = 0; place < kPlaces; ++place) {
    const uint64_t at = last / (kPlaces - 1) * place + (place == kPlaces - 1 ? last % (kPlaces - 1) : 0);
    if (std::memcmp(file_a->bytes().data() + a.offset + at, file_b->bytes().data() + b.offset + at, size) != 0)
      return false;
  }
  return true;
}

// A head stored beside tied embeddings: the embedding is used, as in Transformers 4 and vLLM.
absl::Status WarnOfAnotherHead(CheckpointHeader* header) {
  if (!header->config.tied) return absl::OkStatus();
  const std::string prefix = DecoderPrefix(*header);
  const std::string embedding = prefix + (header->config.learned_positions ? "wte.weight" : "embed_tokens.weight");
  const auto head = header->tensors.find(HeadName(*header, prefix)), table = header->tensors.find(embedding);
  if (head == header->tensors.end() || table == header->tensors.end()) return absl::OkStatus();
  if (head->second.shape != table->second.shape || head->second.dtype != table->second.dtype) return absl::OkStatus();
  const auto same = SameData(*header, head->second, table->second);
  if (!same.ok()) return same.status();
  if (!*same) {
    header->warnings.push_back(absl::StrCat("config.json: tie_word_embeddings: is true, but ", head->first,
                                            " is stored and differs from ", embedding,
                                            ", which is used in its place; set it to false if the head was trained"));
  }
  return absl::OkStatus();
}

}  // namespace

std::string OtherWeights(const std::string& folder) {
  std::set<std::string> gguf, torch, safetensors, others;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string(), ending = entry.path().extension().string();
    if (ending == ".gguf") gguf.insert(name);
    if (ending == ".bin" || ending == ".pt" || ending == ".pth") torch.insert(name);
    if (ending == ".safetensors") safetensors.insert(name);
    if (ending == ".h5" || ending == ".msgpack" || ending == ".onnx" || ending == ".ckpt") others.insert(name);
    if (name == "snapshots")
      return absl::StrCat("; this is a folder of Hugging Face's cache: the model is in ", name, "/…");
  }
  if (!gguf.empty())
    return absl::StrCat("; it has ", *gguf.begin(), ": to serve a GGUF file give the file's path, not the folder's");
  if (safetensors.contains("adapter_model.safetensors"))
    return "; it has adapter_model.safetensors, a LoRA adapter: merge it into its base model first";
  if (!safetensors.empty())
    return absl::StrCat("; it has ", *safetensors.begin(),
                        ", which is not a name of the Hugging Face layout: rename it, or convert the model to that");
  if (!torch.empty())
    return absl::StrCat("; it has ", *torch.begin(),
                        ", weights in PyTorch's own format, which are not read: save them as safetensors "
                        "(save_pretrained(…, safe_serialization=True) in Transformers)");
  if (!others.empty()) return absl::StrCat("; it has ", *others.begin(), ", a format that is not read");
  return "";
}

absl::StatusOr<CheckpointHeader> ReadFolderHeader(const std::string& path, bool weights) {
  CheckpointHeader header;
  header.format = CheckpointFormat::kSafetensors;
  header.path = path;
  const fs::path folder(path);
  const auto config_text = ReadFile((folder / "config.json").string(), kMaxConfigBytes);
  if (absl::IsNotFound(config_text.status()))
    return absl::NotFoundError(absl::StrCat(path, ": has no config.json", OtherWeights(path)));
  if (!config_text.ok()) return config_text.status();
  const auto generation = ReadFile((folder / "generation_config.json").string(), kMaxConfigBytes);
  if (!generation.ok() && !absl::IsNotFound(generation.status())) return generation.status();
  const std::string generation_text = generation.ok() ? *generation : "";
  auto config = ConfigFromJson(*config_text, generation_text, &header.warnings);
  Sha256 hash;
  hash.Add("safetensors").Add(*config_text).Add(generation_text);
  absl::Status files;
  if (config.ok()) header.config = *std::move(config);
  if (weights) {
    files = ReadSafetensorsFolder(path, &header, &hash);
  } else if (config.ok()) {
    files = DeclareTensors(*config_text, &header);
  }
  if (!config.ok() && !files.ok())
    return absl::InvalidArgumentError(absl::StrCat(config.status().message(), "\n", files.message()));
  if (!config.ok()) return config.status();
  if (!files.ok()) return files;
  if (generation.ok()) {
    if (absl::Status status = ReadGenerationConfig(generation_text, &header); !status.ok()) return status;
  }
  if (!header.config.wrapper.empty()) {
    header.warnings.push_back(absl::StrCat("config.json: model_type: of ", header.config.wrapper,
                                           " only the language model (", header.config.architecture_name,
                                           ") is served: it reads and writes text"));
  }
  if (weights) {
    DropKnownSurplus(&header);
    if (absl::Status status = WarnOfAnotherHead(&header); !status.ok()) return status;
  }
  header.hash = hash.Hex();
  return header;
}

}  // namespace pangea
