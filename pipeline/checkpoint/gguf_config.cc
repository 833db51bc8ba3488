// Keys: the "Standardized key-value pairs" of GGUF's document, and those that llama.cpp's converters write beside them.
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "pipeline/checkpoint/fields.h"
#include "pipeline/checkpoint/gguf.h"
#include "pipeline/checkpoint/hf_config.h"

namespace pangea {
namespace {

using nlohmann::json;

constexpr char kArchitectures[] = "llama (Mistral too), qwen2, qwen3, gpt2";

// The scalars as a JSON object, so that one set of checks serves both formats; arrays stand as empty arrays: the wrong
// type wherever a scalar is wanted.
json Scalars(const GgufContent& content) {
  json object = json::object();
  for (const auto& [key, value] : content.metadata) {
    std::visit(
        [&](const auto& item) {
          using T = std::decay_t<decltype(item)>;
          if constexpr (std::is_arithmetic_v<T> || std::is_same_v<T, std::string>) {
            object[key] = item;
          } else {
            object[key] = json::array();
          }
        },
        value.value);
  }
  return object;
}

// Fields with the architecture's prefix before every name.
class Keys {
 public:
  Keys(Fields& fields, std::string prefix) : fields_(fields), prefix_(std::move(prefix)) {}
  std::string Name(const char* key) const { return absl::StrCat(prefix_, ".", key); }
  bool Has(const char* key) const { return fields_.Has({Name(key).c_str()}); }
  int Int(const char* key, int64_t high, std::optional<int64_t> fallback = std::nullopt) {
    return static_cast<int>(fields_.Int({Name(key).c_str()}, 1, high, fallback));
  }
  double Real(const char* key, double above, double most, std::optional<double> fallback = std::nullopt) {
    return fields_.Real({Name(key).c_str()}, above, most, fallback);
  }
  std::string String(const char* key, const std::string& fallback) {
    return fields_.String({Name(key).c_str()}, fallback);
  }
  void Fault(const char* key, const std::string& what) { fields_.Fault(Name(key), what); }

 private:
  Fields& fields_;
  std::string prefix_;
};

std::optional<Architecture> GgufArchitecture(const std::string& name) {
  if (name == "llama") return Architecture::kLlama;
  if (name == "qwen2") return Architecture::kQwen2;
  if (name == "qwen3") return Architecture::kQwen3;
  if (name == "gpt2") return Architecture::kGpt2;
  return std::nullopt;
}

void ReadRope(Keys& keys, ModelConfig* config) {
  RopeConfig& rope = config->rope;
  rope.rot = keys.Int("rope.dimension_count", kMaxHeadDim, config->head_dim);
  if (rope.rot != config->head_dim)
    keys.Fault("rope.dimension_count",
               absl::StrCat("is ", rope.rot, "; only whole heads (", config->head_dim, ") are supported"));
  rope.base = keys.Real("rope.freq_base", 0, kHuge, 10000.0);
  // llama.cpp stores Llama's query and key rows permuted for adjacent pairs; the other architectures stay as Hugging
  // Face has them.
  rope.pairs = config->architecture == Architecture::kLlama ? RopePairs::kAdjacent : RopePairs::kHalves;
  // As llama.cpp: a factor without a type is linear's, and rope.scale_linear is the factor's old name.
  const char* factor = keys.Has("rope.scaling.factor") ? "rope.scaling.factor" : "rope.scale_linear";
  const std::string type = keys.String("rope.scaling.type", keys.Has(factor) ? "linear" : "none");
  if (type == "none") return;
  rope.factor = keys.Real(factor, 0, kHuge, 1.0);
  if (rope.factor < 1) keys.Fault(factor, absl::StrCat("is ", rope.factor, ", must be at least 1"));
  if (type == "linear") {
    rope.scaling = RopeScaling::kLinear;
    return;
  }
  if (type != "yarn")
    return keys.Fault("rope.scaling.type",
                      absl::StrCat("is \"", type.substr(0, 80), "\"; supported: none, linear, yarn"));
  rope.scaling = RopeScaling::kYarn;
  rope.original_positions = keys.Real("rope.scaling.original_context_length", 0, kMaxPositions, config->max_positions);
  rope.beta_fast = keys.Real("rope.scaling.yarn_beta_fast", 0, kHuge, 32.0);
  rope.beta_slow = keys.Real("rope.scaling.yarn_beta_slow", 0, kHuge, 1.0);
  if (rope.beta_fast < rope.beta_slow)
    keys.Fault("rope.scaling.yarn_beta_fast", "must not be smaller than yarn_beta_slow");
  if (rope.base <= 1) keys.Fault("rope.freq_base", "must be above 1 with yarn");
  if (keys.Has("rope.scaling.attn_factor")) {
    rope.attention_factor = keys.Real("rope.scaling.attn_factor", 0, kHuge) * (0.1 * std::log(rope.factor) + 1);
  }
  const double reach = std::min(rope.factor * rope.original_positions, static_cast<double>(kMaxPositions));
  config->max_positions = std::max(config->max_positions, static_cast<int>(reach));
}

// Llama 3's scaling comes as a tensor of divisors.
void ReadRopeFactors(const GgufContent& content, std::span<const std::byte> bytes, Fields& fields,
                     ModelConfig* config) {
  const auto it = content.tensors.find("rope_freqs.weight");
  if (it == content.tensors.end()) return;
  const TensorInfo& info = it->second;
  const size_t half = static_cast<size_t>(config->rope.rot) / 2;
  if (info.dtype != DType::kF32 || info.shape.size() != 1 || static_cast<size_t>(info.shape[0]) != half ||
      config->rope.rot == 0) {
    return fields.Fault("rope_freqs.weight", absl::StrCat("must be f32 of ", half, " elements"));
  }
  config->rope.factors.resize(half);
  std::memcpy(config->rope.factors.data(), bytes.data(), info.bytes);
  for (const float factor : config->rope.factors) {
    if (!std::isfinite(factor) || factor <= 0)
      return fields.Fault("rope_freqs.weight", "every factor must be finite and above 0");
  }
}

// The vocabulary is what the embedding has rows for.
void ReadVocabulary(const GgufContent& content, Fields& fields, ModelConfig* config) {
  const auto it = content.tensors.find("token_embd.weight");
  config->vocab = 1;
  if (it == content.tensors.end() || it->second.shape.size() != 2)
    return fields.Fault("token_embd.weight", "is missing or has not two dimensions");
  const int64_t rows = it->second.shape[0];
  if (rows > kMaxVocab)
    return fields.Fault("token_embd.weight",
                        absl::StrCat("has ", rows, " rows, at most ", kMaxVocab, " are supported"));
  config->vocab = static_cast<int>(rows);
  const auto tokens = content.metadata.find("tokenizer.ggml.tokens");
  if (tokens == content.metadata.end()) return;
  const auto* list = std::get_if<std::vector<std::string>>(&tokens->second.value);
  if (list == nullptr) return fields.Fault("tokenizer.ggml.tokens", "must be an array of strings");
  if (static_cast<int64_t>(list->size()) != rows) {
    fields.Fault("tokenizer.ggml.tokens",
                 absl::StrCat("has ", list->size(), " tokens, token_embd.weight has ", rows, " rows"));
  }
}

bool IsId(const json& value, int vocab) {
  return value.is_number_unsigned() ? value.get<uint64_t>() < static_cast<uint64_t>(vocab)
                                    : value.is_number_integer() && value >= 0 && value < vocab;
}

// What is written wrong often, and is no reason to refuse a model: nothing is computed from it.
void WarnOfIdleKeys(const json& scalars, const std::string& where, const ModelConfig& config,
                    std::vector<std::string>* warnings) {
  const auto warn = [&](const std::string& key, auto&&... what) {
    warnings->push_back(absl::StrCat(where, ": ", key, ": is ",
                                     scalars[key].dump(-1, ' ', false, json::error_handler_t::replace), ", ", what...));
  };
  const std::string size = config.architecture_name + ".vocab_size";
  if (scalars.contains(size) && scalars[size] != config.vocab) {
    warn(size, "but token_embd.weight has ", config.vocab, " rows, which count");
  }
  for (const auto& [key, value] : scalars.items()) {
    if (!key.starts_with("tokenizer.ggml.") || !key.ends_with("_token_id")) continue;
    if (!IsId(value, config.vocab)) warn(key, "not an id from 0 to ", config.vocab - 1, ": the key is passed over");
  }
}

}  // namespace

absl::StatusOr<ModelConfig> ConfigFromGguf(const std::string& where, const GgufContent& content,
                                           std::span<const std::byte> rope_freqs, std::vector<std::string>* warnings) {
  const json scalars = Scalars(content);
  std::vector<std::string> faults;
  Fields fields(scalars, where, &faults);
  ModelConfig config;
  config.architecture_name = fields.String({"general.architecture"});
  const std::string& name = config.architecture_name;
  const auto architecture = GgufArchitecture(name);
  if (!architecture && faults.empty()) {
    fields.Fault("general.architecture",
                 absl::StrCat("\"", name.substr(0, 80), "\" is not known; supported: ", kArchitectures));
  }
  for (const auto& [type, found] : content.unsupported) {
    fields.Fault(
        absl::StrCat("tensors of type ", type),
        absl::StrCat("not supported; there ", found.tensors == 1 ? "is 1" : absl::StrCat("are ", found.tensors), ", ",
                     found.first, " first; supported: ", absl::AsciiStrToUpper(WeightTypeNames(true))));
  }
  if (!architecture) return FaultsToStatus(faults);
  config.architecture = *architecture;
  const bool gpt2 = config.architecture == Architecture::kGpt2;
  Keys keys(fields, name);
  config.layers = keys.Int("block_count", kMaxLayers);
  config.max_positions = keys.Int("context_length", kMaxPositions);
  config.hidden = keys.Int("embedding_length", kMaxHidden);
  config.ffn = keys.Int("feed_forward_length", kMaxFfn);
  config.heads = keys.Int("attention.head_count", kMaxHeads);
  config.kv_heads = keys.Int("attention.head_count_kv", kMaxHeads, config.heads);
  if (keys.Has("attention.key_length")) {
    config.head_dim = keys.Int("attention.key_length", kMaxHeadDim);
  } else if (config.hidden % config.heads != 0) {
    keys.Fault("attention.head_count", absl::StrCat(config.heads, " does not divide embedding_length ", config.hidden,
                                                    " and there is no attention.key_length"));
    config.head_dim = 2;
  } else {
    config.head_dim = config.hidden / config.heads;
  }
  if (keys.Has("attention.value_length") && keys.Int("attention.value_length", kMaxHeadDim) != config.head_dim) {
    keys.Fault("attention.value_length", absl::StrCat("differs from the key length ", config.head_dim));
  }
  if (keys.Has("expert_count") && fields.Int({keys.Name("expert_count").c_str()}, 0, kMaxFfn) > 0)
    keys.Fault("expert_count", "mixtures of experts are not supported");
  config.norm = gpt2 ? NormKind::kLayer : NormKind::kRms;
  config.norm_eps =
      static_cast<float>(keys.Real(gpt2 ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon", 0, 1));
  config.activation = gpt2 ? Gate::kGeluTanh : Gate::kSilu;
  config.gated = !gpt2;
  config.tied = !content.tensors.contains("output.weight");
  config.learned_positions = gpt2;
  config.qk_norm = config.architecture == Architecture::kQwen3;
  config.qkv_bias = content.tensors.contains("blk.0.attn_q.bias") || gpt2;
  config.o_bias = content.tensors.contains("blk.0.attn_output.bias") || gpt2;
  config.mlp_bias = content.tensors.contains("blk.0.ffn_down.bias") || gpt2;
  const int window =
      keys.Has("attention.sliding_window")
          ? static_cast<int>(fields.Int({keys.Name("attention.sliding_window").c_str()}, 0, kMaxPositions))
          : 0;
  config.window.assign(config.layers, window);
  if (!gpt2) ReadRope(keys, &config);
  ReadRopeFactors(content, rope_freqs, fields, &config);
  ReadVocabulary(content, fields, &config);
  if (faults.empty()) CheckConfig(config, where, &faults);
  if (!faults.empty()) return FaultsToStatus(faults);
  const json* eos = fields.Find({"tokenizer.ggml.eos_token_id"});
  if (eos != nullptr && IsId(*eos, config.vocab)) config.eos.push_back(eos->get<int>());
  WarnOfIdleKeys(scalars, where, config, warnings);
  return config;
}

}  // namespace pangea
