// config.json of the Hugging Face layout -> ModelConfig. Keys and defaults: Transformers'
// configuration_{llama,mistral,qwen2,qwen3, gpt2}.py and the published PanGu-alpha port.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "pipeline/model_config.h"

namespace pangea {

// generation: text of generation_config.json, whose end ids are added; may be empty. Every fault is named, all at once.
// A model that wraps a language model (LLaVA, Mistral 3, …) is read as that one: what its text_config says. warnings
// (may be null): ids that the vocabulary lacks, which are left out.
absl::StatusOr<ModelConfig> ConfigFromJson(std::string_view config, std::string_view generation,
                                           std::vector<std::string>* warnings = nullptr);

// What config.json says of its weights' element types.
struct DeclaredTypes {
  DType type = DType::kF32;  // torch_dtype or dtype; float32 when it says nothing, as in Transformers
  bool f8 = false;           // but of layers' matrices, which are F8_E4M3 (quantization_config), unless left out
  bool f8_head = false;      // and of the head
  std::vector<std::string> left_out;  // modules: names, beginnings of names, or patterns with *
  bool LeavesOut(std::string_view weight) const;
};
absl::StatusOr<DeclaredTypes> DeclaredTypesOf(std::string_view config);

// The rules that hold whatever the file format: divisibility, limits, even RoPE. Appends faults that start with
// `where`.
void CheckConfig(const ModelConfig& config, const std::string& where, std::vector<std::string>* faults);

// Limits of sizes read from outside; generous, and small enough that products of two fit 64 bits.
inline constexpr int64_t kMaxLayers = 4096, kMaxHidden = 1 << 20, kMaxHeads = 1 << 16, kMaxHeadDim = 1 << 12,
                         kMaxFfn = 1 << 24, kMaxVocab = 1 << 24, kMaxPositions = 1 << 26;
inline constexpr double kHuge = 1e12;  // bound of bases and factors: larger is a typing error

}  // namespace pangea
