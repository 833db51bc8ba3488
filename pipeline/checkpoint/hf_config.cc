#include "pipeline/checkpoint/hf_config.h"

#include <fnmatch.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/str_cat.h"
#include "pipeline/checkpoint/fields.h"

namespace pangea {
namespace {

using nlohmann::json;

constexpr char kModelTypes[] = "llama, mistral, qwen2, qwen3, gpt2, gpt_pangu, pangu";
constexpr char kScalings[] = "default, linear, dynamic, yarn, llama3";

// Qwen's models that see have positions in three axes; those of text are the same in all three, so that their text half
// is the plain model.
std::optional<Architecture> FolderArchitecture(const std::string& model_type) {
  static const std::map<std::string, Architecture> known = {{"llama", Architecture::kLlama},
                                                            {"mistral", Architecture::kMistral},
                                                            {"qwen2", Architecture::kQwen2},
                                                            {"qwen3", Architecture::kQwen3},
                                                            {"gpt2", Architecture::kGpt2},
                                                            {"gpt_pangu", Architecture::kPangu},
                                                            {"pangu", Architecture::kPangu},
                                                            {"qwen2_vl", Architecture::kQwen2},
                                                            {"qwen2_5_vl", Architecture::kQwen2},
                                                            {"qwen2_vl_text", Architecture::kQwen2},
                                                            {"qwen2_5_vl_text", Architecture::kQwen2},
                                                            {"qwen3_vl_text", Architecture::kQwen3}};
  const auto it = known.find(model_type);
  return it == known.end() ? std::nullopt : std::optional(it->second);
}

Gate Activation(Fields& fields, Fields::Names names, const std::string& fallback) {
  static const std::map<std::string, Gate> known = {
      {"silu", Gate::kSilu},           {"swish", Gate::kSilu},         {"gelu", Gate::kGeluErf},
      {"gelu_python", Gate::kGeluErf}, {"gelu_new", Gate::kGeluTanh},  {"gelu_pytorch_tanh", Gate::kGeluTanh},
      {"gelu_fast", Gate::kGeluTanh},  {"gelu_tanh", Gate::kGeluTanh}, {"quick_gelu", Gate::kGeluQuick},
      {"fast_gelu", Gate::kGeluQuick}, {"relu", Gate::kRelu}};
  const std::string name = fields.String(names, fallback);
  const auto it = known.find(name);
  if (it != known.end()) return it->second;
  std::string all;
  for (const auto& [key, gate] : known) absl::StrAppend(&all, all.empty() ? "" : ", ", key);
  fields.Fault(*names.begin(), absl::StrCat("is \"", name, "\"; supported: ", all));
  return Gate::kSilu;
}

// What a nested text_config leaves out, as Transformers' configuration_*.py have it: it is written without what equals
// the class's own default.
json ClassDefaults(Architecture architecture) {
  json defaults = {{"hidden_size", 4096},        {"num_hidden_layers", 32}, {"num_attention_heads", 32},
                   {"intermediate_size", 11008}, {"vocab_size", 32000},     {"max_position_embeddings", 2048}};
  if (architecture == Architecture::kMistral) {
    defaults.update({{"intermediate_size", 14336},
                     {"num_key_value_heads", 8},
                     {"max_position_embeddings", 131072},
                     {"sliding_window", 4096}});
  } else if (architecture != Architecture::kLlama) {
    defaults.update({{"intermediate_size", 22016},
                     {"num_key_value_heads", 32},
                     {"vocab_size", 151936},
                     {"max_position_embeddings", 32768}});
  }
  return defaults;
}

// The language model that a config.json describes.
struct TextHalf {
  json config;
  std::string where;    // in the file
  std::string wrapper;  // model_type of the whole, when this is a part
};

std::string ModelType(const json& config) {
  const auto it = config.find("model_type");
  return it != config.end() && it->is_string() ? it->get<std::string>() : "";
}

TextHalf FindTextHalf(json config) {
  const std::string whole = ModelType(config);
  if (whole == "qwen2_vl" || whole == "qwen2_5_vl") {
    if (!config.contains("text_config")) return {std::move(config), "config.json", whole};
  } else if (FolderArchitecture(whole)) {
    return {std::move(config), "config.json", ""};
  }
  for (const char* key : {"text_config", "llm_config", "language_config"}) {
    const auto it = config.find(key);
    if (it == config.end() || !it->is_object()) continue;
    const auto architecture = FolderArchitecture(ModelType(*it));
    json half = architecture ? ClassDefaults(*architecture) : json::object();
    for (const char* shared : {"tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id",
                               "quantization_config", "torch_dtype", "dtype"}) {
      if (config.contains(shared)) half[shared] = config[shared];
    }
    half.update(*it);
    return {std::move(half), absl::StrCat("config.json: ", key), whole.empty() ? "a larger model" : whole};
  }
  return {std::move(config), "config.json", ""};
}

// Whether a quantization_config is one of those whose weights are F8_E4M3 with scales that f8_scales.h knows. What it
// says of activations and caches is not followed: they are kept in more bits.
bool IsF8(const json& quantisation) {
  const auto text = [](const json& object, const char* name) {
    const auto it = object.is_object() ? object.find(name) : object.end();
    return object.is_object() && it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
  };
  const std::string method = text(quantisation, "quant_method");
  if (method == "fbgemm_fp8") return true;
  if (method == "modelopt") {
    const std::string kind = text(quantisation, "quant_algo");
    return kind == "FP8" || kind == "FP8_PER_CHANNEL_PER_TOKEN";
  }
  if (method == "fp8") {
    const std::string format = text(quantisation, "fmt");
    const auto squares = quantisation.find("weight_block_size");
    return (format.empty() || format == "e4m3") &&
           (squares == quantisation.end() || squares->is_null() || *squares == json::array({kScaleRun, kScaleRun}));
  }
  if (method != "compressed-tensors" || text(quantisation, "format") != "float-quantized") return false;
  const auto groups = quantisation.find("config_groups");
  if (groups == quantisation.end() || !groups->is_object()) return false;
  return std::all_of(groups->begin(), groups->end(), [&](const json& group) {
    const auto weights = group.is_object() ? group.find("weights") : group.end();
    if (!group.is_object() || weights == group.end() || text(*weights, "type") != "float") return false;
    const auto bits = weights->find("num_bits");
    return bits != weights->end() && *bits == 8;
  });
}

// One id, a list of ids, or nothing. Ids that the vocabulary lacks can neither be given nor produced: they are left out
// with a warning (-1, or the ids of the vocabulary that a configuration was copied from).
std::vector<int> Ids(Fields& fields, const char* name, int vocab, std::vector<std::string>* warnings) {
  std::vector<int> ids;
  const json* value = fields.Find({name});
  if (value == nullptr) return ids;
  const json list = value->is_array() ? *value : json::array({*value});
  if (list.size() > 4096) {
    fields.Fault(name, absl::StrCat("has ", list.size(), " ids, at most 4096"));
    return ids;
  }
  for (const json& id : list) {
    if (!id.is_number_integer()) {
      fields.Fault(name, absl::StrCat("must be an id or a list of ids from 0 to ", vocab - 1));
      return {};
    }
    if (id.get<int64_t>() >= 0 && id.get<int64_t>() < vocab) {
      ids.push_back(id.get<int>());
    } else if (warnings != nullptr) {
      warnings->push_back(absl::StrCat(fields.where(), ": ", name, ": ", id.dump(), " is left out: the vocabulary has ",
                                       vocab, " ids, from 0"));
    }
  }
  return ids;
}

// Where the RoPE keys stand: rope_parameters (newer), rope_scaling (older), or the top level.
void ReadRope(Fields& top, ModelConfig* config, std::vector<std::string>* faults) {
  RopeConfig& rope = config->rope;
  rope.rot = config->head_dim;
  std::string name;
  const json* object = top.Find({"rope_parameters", "rope_scaling"}, &name);
  const json empty = json::object();
  if (object == nullptr) object = &empty;
  if (!object->is_object()) return top.Fault(name, "must be an object");
  Fields fields(*object, name.empty() ? top.where() : absl::StrCat(top.where(), ": ", name), faults);
  for (const auto& [key, value] : object->items()) {
    if (value.is_object())
      return top.Fault(name, absl::StrCat("has parameters per layer type (", key, "), which no supported model uses"));
  }
  rope.base =
      fields.Has({"rope_theta"}) ? fields.Real({"rope_theta"}, 0, kHuge) : top.Real({"rope_theta"}, 0, kHuge, 10000.0);
  for (Fields* holder : {&fields, &top}) {
    if (holder->Has({"partial_rotary_factor"}) && holder->Real({"partial_rotary_factor"}, 0, 1) != 1) {
      holder->Fault("partial_rotary_factor", "only 1 is supported");
    }
  }
  const std::string type = fields.String({"rope_type", "type"}, "default");
  if (fields.Has({"factor"}) && !fields.Has({"rope_type", "type"}))
    return fields.Fault("rope_type", absl::StrCat("is missing beside a factor; supported: ", kScalings));
  if (type == "default" || type == "mrope") return;
  static const std::map<std::string, RopeScaling> known = {{"linear", RopeScaling::kLinear},
                                                           {"dynamic", RopeScaling::kDynamic},
                                                           {"yarn", RopeScaling::kYarn},
                                                           {"llama3", RopeScaling::kLlama3}};
  const auto it = known.find(type);
  if (it == known.end()) return fields.Fault("rope_type", absl::StrCat("is \"", type, "\"; supported: ", kScalings));
  rope.scaling = it->second;
  const bool needs_original = rope.scaling == RopeScaling::kLlama3;
  const double declared = config->max_positions;
  rope.original_positions = fields.Real({"original_max_position_embeddings"}, 0, kMaxPositions,
                                        needs_original ? std::nullopt : std::optional(declared));
  const bool yarn = rope.scaling == RopeScaling::kYarn;
  rope.factor = fields.Real(
      {"factor"}, 0, kHuge,
      yarn && rope.original_positions < declared ? std::optional(declared / rope.original_positions) : std::nullopt);
  if (rope.factor < 1) fields.Fault("factor", absl::StrCat("is ", rope.factor, ", must be at least 1"));
  if (rope.scaling == RopeScaling::kLlama3) {
    rope.low_freq_factor = fields.Real({"low_freq_factor"}, 0, kHuge);
    rope.high_freq_factor = fields.Real({"high_freq_factor"}, 0, kHuge);
    if (rope.high_freq_factor <= rope.low_freq_factor)
      fields.Fault("high_freq_factor", "must be larger than low_freq_factor");
  }
  if (yarn) {
    rope.beta_fast = fields.Real({"beta_fast"}, 0, kHuge, 32.0);
    rope.beta_slow = fields.Real({"beta_slow"}, 0, kHuge, 1.0);
    if (rope.beta_fast < rope.beta_slow) fields.Fault("beta_fast", "must not be smaller than beta_slow");
    if (rope.base <= 1) fields.Fault("rope_theta", "must be above 1 with yarn");
    if (fields.Has({"attention_factor"})) rope.attention_factor = fields.Real({"attention_factor"}, 0, kHuge);
    if (fields.Has({"mscale"})) rope.mscale = fields.Real({"mscale"}, -kHuge, kHuge);
    if (fields.Has({"mscale_all_dim"})) rope.mscale_all_dim = fields.Real({"mscale_all_dim"}, -kHuge, kHuge);
    rope.truncate = fields.Bool({"truncate"}, true);
  }
  // What the scaling is for: linear checkpoints already declare the longer context, the others may declare the shorter
  // one.
  if (yarn || rope.scaling == RopeScaling::kDynamic) {
    const double reach = std::min(rope.factor * rope.original_positions, static_cast<double>(kMaxPositions));
    config->max_positions = std::max(config->max_positions, static_cast<int>(reach));
  }
}

void ReadWindows(Fields& fields, ModelConfig* config) {
  config->window.assign(config->layers, 0);
  const bool mistral = config->architecture == Architecture::kMistral;
  const bool qwen = config->architecture == Architecture::kQwen2 || config->architecture == Architecture::kQwen3;
  if (!mistral && !qwen) return;
  const bool use = mistral || fields.Bool({"use_sliding_window"}, false);
  const bool has_size = fields.Has({"sliding_window"});
  const int size = has_size ? static_cast<int>(fields.Int({"sliding_window"}, 1, kMaxPositions)) : 0;
  if (const json* types = fields.Find({"layer_types"})) {
    if (!types->is_array() || types->size() != static_cast<size_t>(config->layers)) {
      return fields.Fault("layer_types", absl::StrCat("must be a list of ", config->layers, " names, one a layer"));
    }
    for (int i = 0; i < config->layers; ++i) {
      const json& type = (*types)[i];
      if (type == "full_attention") continue;
      if (type != "sliding_attention")
        return fields.Fault("layer_types", "supported: full_attention, sliding_attention");
      if (!use || size == 0)
        return fields.Fault("layer_types", "names sliding_attention without a sliding_window in use");
      config->window[i] = size;
    }
    return;
  }
  if (!use || !has_size) return;
  const int first = mistral ? 0 : static_cast<int>(fields.Int({"max_window_layers"}, 0, kMaxPositions, 28));
  for (int i = first; i < config->layers; ++i) config->window[i] = size;
}

void ReadLlamaLike(Fields& fields, ModelConfig* config, std::vector<std::string>* faults) {
  config->layers = static_cast<int>(fields.Int({"num_hidden_layers"}, 1, kMaxLayers));
  config->hidden = static_cast<int>(fields.Int({"hidden_size"}, 1, kMaxHidden));
  config->heads = static_cast<int>(fields.Int({"num_attention_heads"}, 1, kMaxHeads));
  config->kv_heads = static_cast<int>(fields.Int({"num_key_value_heads"}, 1, kMaxHeads, config->heads));
  config->ffn = static_cast<int>(fields.Int({"intermediate_size"}, 1, kMaxFfn));
  config->max_positions = static_cast<int>(fields.Int({"max_position_embeddings"}, 1, kMaxPositions));
  if (fields.Has({"head_dim"})) {
    config->head_dim = static_cast<int>(fields.Int({"head_dim"}, 1, kMaxHeadDim));
  } else if (config->architecture == Architecture::kQwen3) {
    config->head_dim = 128;  // Qwen3Config's default
  } else if (config->hidden % config->heads != 0) {
    fields.Fault("num_attention_heads", absl::StrCat(config->heads, " does not divide hidden_size ", config->hidden,
                                                     " and there is no head_dim"));
    config->head_dim = 2;
  } else {
    config->head_dim = config->hidden / config->heads;
  }
  config->norm = NormKind::kRms;
  config->norm_eps = static_cast<float>(fields.Real({"rms_norm_eps"}, 0, 1, 1e-6));
  config->activation = Activation(fields, {"hidden_act"}, "silu");
  config->gated = true;
  config->tied = fields.Bool({"tie_word_embeddings"}, false);
  switch (config->architecture) {
    case Architecture::kLlama:
      config->qkv_bias = config->o_bias = fields.Bool({"attention_bias"}, false);
      config->mlp_bias = fields.Bool({"mlp_bias"}, false);
      break;
    case Architecture::kQwen2:
      config->qkv_bias = true;
      break;
    case Architecture::kQwen3:
      config->qkv_bias = config->o_bias = fields.Bool({"attention_bias"}, false);
      config->qk_norm = true;
      break;
    default:
      break;
  }
  ReadRope(fields, config, faults);
  ReadWindows(fields, config);
}

void ReadGptLike(Fields& fields, ModelConfig* config) {
  const bool pangu = config->architecture == Architecture::kPangu;
  config->layers =
      static_cast<int>(fields.Int({pangu ? "num_layers" : "n_layer", "num_hidden_layers"}, pangu ? 2 : 1, kMaxLayers));
  config->hidden = static_cast<int>(fields.Int({pangu ? "hidden_size" : "n_embd", "hidden_size"}, 1, kMaxHidden));
  config->heads = static_cast<int>(fields.Int({pangu ? "num_heads" : "n_head", "num_attention_heads"}, 1, kMaxHeads));
  config->kv_heads = config->heads;
  config->max_positions = static_cast<int>(fields.Int(
      {pangu ? "max_position_embeddings" : "n_positions", "max_position_embeddings", "n_ctx"}, 1, kMaxPositions));
  config->ffn =
      static_cast<int>(fields.Int({pangu ? "intermediate_size" : "n_inner"}, 1, kMaxFfn, int64_t{4} * config->hidden));
  if (config->hidden % config->heads != 0) {
    fields.Fault(pangu ? "num_heads" : "n_head",
                 absl::StrCat(config->heads, " does not divide the hidden size ", config->hidden));
    config->head_dim = 1;
  } else {
    config->head_dim = config->hidden / config->heads;
  }
  config->norm = NormKind::kLayer;
  config->norm_eps = static_cast<float>(fields.Real({"layer_norm_epsilon"}, 0, 1, 1e-5));
  config->activation = Activation(fields, {"activation_function"}, pangu ? "gelu" : "gelu_new");
  config->gated = false;
  config->qkv_bias = config->o_bias = config->mlp_bias = true;
  config->learned_positions = true;
  config->tied = fields.Bool({"tie_word_embeddings"}, true);
  if (!fields.Bool({"scale_attn_weights"}, true)) fields.Fault("scale_attn_weights", "only true is supported");
  if (fields.Bool({"scale_attn_by_inverse_layer_idx"}, false))
    fields.Fault("scale_attn_by_inverse_layer_idx", "only false is supported");
  if (fields.Bool({"add_cross_attention"}, false)) fields.Fault("add_cross_attention", "only false is supported");
  config->window.assign(config->layers, 0);
  if (!pangu) return;
  config->query_layer = true;
  const std::string place = fields.String({"final_norm_position"}, "before_query");
  config->final_norm_before_query = place != "after_query";
  if (place != "before_query" && place != "after_query") {
    fields.Fault("final_norm_position", absl::StrCat("is \"", place, "\"; supported: before_query, after_query"));
  }
}

// The ends of config.json, and those that generation_config.json adds. bos and pad are checked alone: a tokenizer's own
// files say what it uses.
absl::Status ReadSpecialIds(Fields& fields, std::string_view generation_text, ModelConfig* config,
                            std::vector<std::string>* faults, std::vector<std::string>* warnings) {
  Ids(fields, "bos_token_id", config->vocab, warnings);
  config->eos = Ids(fields, "eos_token_id", config->vocab, warnings);
  const json* pad = fields.Find({"pad_token_id"});
  if (pad != nullptr && *pad != -1)  // -1: none, as older Llama files write it
    Ids(fields, "pad_token_id", config->vocab, warnings);
  if (!generation_text.empty()) {
    auto generation = ParseJson(generation_text, "generation_config.json", 32);
    if (!generation.ok()) return generation.status();
    if (!generation->is_object()) return absl::InvalidArgumentError("generation_config.json: must be an object");
    Fields more(*generation, "generation_config.json", faults);
    for (const int id : Ids(more, "eos_token_id", config->vocab, warnings)) config->eos.push_back(id);
  }
  std::set<int> once;
  std::erase_if(config->eos, [&](int id) { return !once.insert(id).second; });
  return absl::OkStatus();
}

}  // namespace

void CheckConfig(const ModelConfig& config, const std::string& where, std::vector<std::string>* faults) {
  const auto fault = [&](auto&&... what) { faults->push_back(absl::StrCat(where, ": ", what...)); };
  if (config.kv_heads > config.heads) {
    fault("the number of KV heads, ", config.kv_heads, ", is larger than that of heads, ", config.heads);
  } else if (config.heads % config.kv_heads != 0) {
    fault("the number of heads, ", config.heads, ", is not a multiple of that of KV heads, ", config.kv_heads);
  }
  // Leaves of a tree begin at even k (SplitUnit), and RoPE turns pairs inside one head.
  if (config.head_dim % 2 != 0) fault("the size of a head is ", config.head_dim, ", must be even");
  if (config.rope.rot % 2 != 0) fault("RoPE needs an even number of elements a head, not ", config.rope.rot);
  if (config.rope.rot > config.head_dim)
    fault("RoPE rotates ", config.rope.rot, " elements of heads that have ", config.head_dim);
  if (int64_t{config.heads} * config.head_dim > int64_t{1} << 22) {
    fault("heads x head size is ", int64_t{config.heads} * config.head_dim, ", at most ", int64_t{1} << 22,
          " is supported");
  }
}

bool DeclaredTypes::LeavesOut(std::string_view weight) const {
  constexpr std::string_view kEnding = ".weight";
  if (weight.ends_with(kEnding)) weight.remove_suffix(kEnding.size());
  // From "layers." on, as a larger model has its own names in front.
  const auto from_layers = [](std::string_view name) {
    const size_t at = name.find("layers.");
    return std::string(at == name.npos ? name : name.substr(at));
  };
  const std::string name = from_layers(weight);
  return std::any_of(left_out.begin(), left_out.end(), [&](const std::string& entry) {
    const std::string pattern = from_layers(entry);
    return fnmatch(pattern.c_str(), name.c_str(), 0) == 0 || name.starts_with(pattern + ".");
  });
}

absl::StatusOr<DeclaredTypes> DeclaredTypesOf(std::string_view config) {
  static const std::map<std::string, DType> known = {
      {"float32", DType::kF32}, {"float16", DType::kF16}, {"bfloat16", DType::kBF16}};
  const auto parsed = ParseJson(config, "config.json", 32);
  if (!parsed.ok()) return parsed.status();
  if (!parsed->is_object()) return absl::InvalidArgumentError("config.json: must be an object");
  const TextHalf half = FindTextHalf(*parsed);
  std::vector<std::string> faults;
  Fields fields(half.config, half.where, &faults);
  const std::string name = fields.String({"torch_dtype", "dtype"}, "float32");
  const auto found = known.find(name);
  DeclaredTypes types;
  types.f8 = fields.Has({"quantization_config"});
  if (found != known.end()) types.type = found->second;
  if (types.f8) {
    const json& object = *fields.Find({"quantization_config"});
    if (!object.is_object()) return absl::InvalidArgumentError("config.json: quantization_config: must be an object");
    Fields quantisation(object, half.where + ": quantization_config", &faults);
    std::string name;
    const json* list = quantisation.Find({"ignore", "modules_to_not_convert", "ignored_layers"}, &name);
    for (const json& module : list != nullptr && list->is_array() ? *list : json::array()) {
      const std::string text = module.is_string() ? module.get<std::string>() : "";
      if (text.starts_with("re:"))
        quantisation.Fault(name, "has patterns, which need the weight files to be understood");
      types.left_out.push_back(text);
    }
    types.f8_head = quantisation.String({"quant_method"}, "") == "compressed-tensors" && !types.LeavesOut("lm_head");
  }
  if (found != known.end() && faults.empty()) return types;
  if (faults.empty())
    fields.Fault("torch_dtype", absl::StrCat("is \"", name.substr(0, 80), "\"; supported: float32, float16, bfloat16"));
  return FaultsToStatus(faults);
}

absl::StatusOr<ModelConfig> ConfigFromJson(std::string_view config_text, std::string_view generation_text,
                                           std::vector<std::string>* warnings) {
  auto parsed = ParseJson(config_text, "config.json", 32);
  if (!parsed.ok()) return parsed.status();
  if (!parsed->is_object()) return absl::InvalidArgumentError("config.json: must be an object");
  const TextHalf half = FindTextHalf(*std::move(parsed));
  std::vector<std::string> faults;
  Fields fields(half.config, half.where, &faults);
  ModelConfig config;
  config.architecture_name = fields.String({"model_type"});
  config.wrapper = half.wrapper;
  const auto architecture = FolderArchitecture(config.architecture_name);
  if (!architecture) {
    if (fields.Has({"model_type"}) && faults.empty()) {
      fields.Fault("model_type", absl::StrCat("\"", config.architecture_name.substr(0, 80),
                                              "\" is not known; supported: ", kModelTypes));
    } else if (faults.size() == 1) {
      faults[0] += absl::StrCat("; supported: ", kModelTypes);
    }
    return FaultsToStatus(faults);
  }
  config.architecture = *architecture;
  if (const json* quantisation = fields.Find({"quantization_config"}); quantisation && !IsF8(*quantisation)) {
    fields.Fault(
        "quantization_config",
        absl::StrCat(
            "of quantised safetensors those with weights of F8_E4M3 are supported, by quant_method fp8 "
            "(squares of 128 x 128, or none), fbgemm_fp8, modelopt (quant_algo FP8, FP8_PER_CHANNEL_PER_TOKEN) and "
            "compressed-tensors (float-quantized, 8 bits); else use ",
            WeightTypeNames(/*quantised=*/false), ", or a GGUF file (", WeightTypeNames(/*quantised=*/true), ")"));
  }
  config.vocab = static_cast<int>(fields.Int({"vocab_size"}, 1, kMaxVocab));
  if (config.architecture == Architecture::kGpt2 || config.architecture == Architecture::kPangu) {
    ReadGptLike(fields, &config);
  } else {
    ReadLlamaLike(fields, &config, &faults);
  }
  if (absl::Status status = ReadSpecialIds(fields, generation_text, &config, &faults, warnings); !status.ok())
    faults.emplace_back(status.message());
  if (faults.empty()) CheckConfig(config, half.where, &faults);
  if (!faults.empty()) return FaultsToStatus(faults);
  return config;
}

}  // namespace pangea
