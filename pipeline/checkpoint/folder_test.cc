// Folders in the Hugging Face layout as they are found: by whose class saved, in what larger model, with what left
// over.
#include "pipeline/checkpoint/folder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "pipeline/checkpoint/checkpoint_test_util.h"
#include "pipeline/checkpoint/tensor_table.h"

namespace pangea {
namespace {

using nlohmann::json;

json LlamaConfig() {
  return {{"model_type", "llama"},        {"num_hidden_layers", 1}, {"hidden_size", 8},
          {"num_attention_heads", 2},     {"intermediate_size", 6}, {"vocab_size", 4},
          {"max_position_embeddings", 16}};
}
json Gpt2Config() {
  return {{"model_type", "gpt2"}, {"n_layer", 1}, {"n_embd", 8}, {"n_head", 2}, {"n_positions", 16}, {"vocab_size", 4}};
}

using Shapes = std::map<std::string, std::vector<int>>;

Shapes LlamaTensors(const std::string& prefix, const std::string& head) {
  Shapes t = {{prefix + "embed_tokens.weight", {4, 8}}, {prefix + "norm.weight", {8}}};
  const std::string at = prefix + "layers.0.";
  for (const char* norm : {"input_layernorm", "post_attention_layernorm"}) t[at + norm + ".weight"] = {8};
  for (const char* part : {"q_proj", "k_proj", "v_proj", "o_proj"}) t[at + "self_attn." + part + ".weight"] = {8, 8};
  for (const char* part : {"gate_proj", "up_proj"}) t[at + "mlp." + part + ".weight"] = {6, 8};
  t[at + "mlp.down_proj.weight"] = {8, 6};
  if (!head.empty()) t[head] = {4, 8};
  return t;
}
Shapes Gpt2Tensors(const std::string& prefix) {
  Shapes t = {{prefix + "wte.weight", {4, 8}}, {prefix + "wpe.weight", {16, 8}}};
  for (const char* norm : {"h.0.ln_1", "h.0.ln_2", "ln_f"}) {
    for (const char* part : {".weight", ".bias"}) t[prefix + norm + part] = {8};
  }
  const std::map<std::string, std::pair<int, int>> linears = {
      {"attn.c_attn", {8, 24}}, {"attn.c_proj", {8, 8}}, {"mlp.c_fc", {8, 32}}, {"mlp.c_proj", {32, 8}}};
  for (const auto& [name, shape] : linears) {
    t[prefix + "h.0." + name + ".weight"] = {shape.first, shape.second};
    t[prefix + "h.0." + name + ".bias"] = {shape.second};
  }
  return t;
}

// F32 tensors one after another; `types` gives some of them another type of that many bytes an element. Each element
// is the first byte of its tensor's fill.
std::string File(const Shapes& shapes, const std::map<std::string, std::pair<std::string, int>>& types = {},
                 const std::map<std::string, char>& fills = {}) {
  json header = json::object();
  std::string data;
  for (const auto& [name, shape] : shapes) {
    const auto type = types.contains(name) ? types.at(name) : std::pair<std::string, int>("F32", 4);
    size_t bytes = type.second;
    for (const int n : shape) bytes *= n;
    header[name] = {{"dtype", type.first}, {"shape", shape}, {"data_offsets", {data.size(), data.size() + bytes}}};
    data.append(bytes, fills.contains(name) ? fills.at(name) : 'x');
  }
  return SafetensorsBytes(header.dump(), data);
}

absl::StatusOr<CheckpointHeader> Read(const json& config, const std::string& file) {
  const TempFolder folder;
  folder.Write("config.json", config.dump());
  folder.Write("model.safetensors", file);
  return ReadCheckpointHeader(folder.path());
}

// The faults of the tensors, or of the folder.
std::vector<std::string> Faults(const json& config, const std::string& file,
                                std::vector<std::string>* warnings = nullptr) {
  const auto header = Read(config, file);
  if (!header.ok()) return {std::string(header.status().message())};
  if (warnings != nullptr) *warnings = header->warnings;
  return CheckTensors(*header, TensorTable(*header));
}

const std::vector<std::string> kNone;

TEST(Folder, BaseModelsHaveNoPrefix) {
  const json tied = [] {
    json config = LlamaConfig();
    config["tie_word_embeddings"] = true;
    return config;
  }();
  EXPECT_EQ(Faults(LlamaConfig(), File(LlamaTensors("model.", "lm_head.weight"))), kNone);
  EXPECT_EQ(Faults(tied, File(LlamaTensors("model.", ""))), kNone);
  EXPECT_EQ(Faults(tied, File(LlamaTensors("", ""))), kNone);
  EXPECT_EQ(Faults(LlamaConfig(), File(LlamaTensors("", "lm_head.weight"))), kNone);
  EXPECT_EQ(Faults(Gpt2Config(), File(Gpt2Tensors(""))), kNone);
  EXPECT_EQ(Faults(Gpt2Config(), File(Gpt2Tensors("transformer."))), kNone);
  // A head of its own that is not there can not be made up.
  EXPECT_EQ(Faults(LlamaConfig(), File(LlamaTensors("", ""))),
            std::vector<std::string>{"tensor lm_head.weight: is missing"});
}

TEST(Folder, ALanguageModelWithinALargerModel) {
  const json whole = {{"model_type", "llava"}, {"text_config", LlamaConfig()}, {"vision_config", json::object()}};
  for (const auto& [prefix, head] :
       std::vector<std::pair<std::string, std::string>>{{"language_model.model.", "language_model.lm_head.weight"},
                                                        {"model.language_model.", "lm_head.weight"},
                                                        {"model.text_model.", "lm_head.weight"},
                                                        {"language_model.", "language_model.lm_head.weight"}}) {
    Shapes shapes = LlamaTensors(prefix, head);
    shapes["vision_tower.layers.0.weight"] = {3};
    shapes["vision_tower.layers.1.weight"] = {3};
    shapes["model.multi_modal_projector.linear_1.bias"] = {2};
    std::vector<std::string> warnings;
    EXPECT_EQ(Faults(whole, File(shapes), &warnings), kNone) << prefix;
    EXPECT_EQ(
        warnings,
        (std::vector<std::string>{
            "config.json: model_type: of llava only the language model (llama) is served: it reads and writes text",
            "3 tensors are left out: parts of llava beside its language model "
            "(model.multi_modal_projector.linear_1.bias, vision_tower.layers.0.weight, "
            "vision_tower.layers.1.weight)"}))
        << prefix;
    // Within the language model nothing unknown is passed over.
    shapes[prefix + "layers.0.cross_attn.q_proj.weight"] = {8, 8};
    EXPECT_EQ(Faults(whole, File(shapes)),
              std::vector<std::string>{"tensor " + prefix +
                                       "layers.0.cross_attn.q_proj.weight: is surplus: the model (llama) has no such "
                                       "tensor"});
  }
}

// torch.compile and DistributedDataParallel put names of their own before all others.
TEST(Folder, PrefixesOfTrainers) {
  for (const std::string wrapped : {"_orig_mod.", "module."}) {
    EXPECT_EQ(Faults(LlamaConfig(), File(LlamaTensors(wrapped + "model.", wrapped + "lm_head.weight"))), kNone);
    Shapes gpt2;
    for (const auto& [name, shape] : Gpt2Tensors("transformer.")) gpt2[wrapped + name] = shape;
    EXPECT_EQ(Faults(Gpt2Config(), File(gpt2)), kNone);
  }
}

TEST(Folder, KnownSurplusIsLeftOutWithAWarning) {
  const Shapes own = LlamaTensors("model.", "lm_head.weight");
  const std::vector<std::pair<std::string, std::string>> kinds = {
      {"v_head.summary.weight", "1 tensor is left out: a head for values, rewards or classes (v_head.summary.weight)"},
      {"model.mtp_layers.0.norm.weight",
       "1 tensor is left out: draft layers for several tokens at once (model.mtp_layers.0.norm.weight)"},
      {"score.weight", "1 tensor is left out: a head for values, rewards or classes (score.weight)"},
      {"model.layers.0.self_attn.k_scale",
       "1 tensor is left out: scales of a quantised cache (model.layers.0.self_attn.k_scale)"},
      {"model.layers.0.self_attn.attn.v_scale",
       "1 tensor is left out: scales of a quantised cache (model.layers.0.self_attn.attn.v_scale)"},
      {"model.layers.0.self_attn.q_proj.lora_A.weight",
       "1 tensor is left out: adapter (LoRA) weights, which are not applied "
       "(model.layers.0.self_attn.q_proj.lora_A.weight)"}};
  for (const auto& [name, warning] : kinds) {
    for (const auto& type : {std::pair<std::string, int>("F32", 4), {"F64", 8}, {"F8_E5M2", 1}}) {
      Shapes shapes = own;
      shapes[name] = {2};
      std::vector<std::string> warnings;
      EXPECT_EQ(Faults(LlamaConfig(), File(shapes, {{name, type}}), &warnings), kNone) << name;
      EXPECT_EQ(warnings, std::vector<std::string>{warning});
    }
  }
  // Buffers that older exporters stored mean nothing.
  for (const char* name :
       {"model.layers.0.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq", "model.embeddings.position_ids"}) {
    Shapes shapes = own;
    shapes[name] = {2};
    std::vector<std::string> warnings;
    EXPECT_EQ(Faults(LlamaConfig(), File(shapes), &warnings), kNone) << name;
    EXPECT_EQ(warnings, kNone);
  }
}

TEST(Folder, UnknownSurplusIsRefusedByName) {
  for (const char* name : {"model.layers.0.mlp.experts.0.weight", "model.layers.1.input_layernorm.weight",
                           "vision_tower.weight", "mystery"}) {
    Shapes shapes = LlamaTensors("model.", "lm_head.weight");
    shapes[name] = {2};
    EXPECT_EQ(
        Faults(LlamaConfig(), File(shapes)),
        std::vector<std::string>{absl::StrCat("tensor ", name, ": is surplus: the model (llama) has no such tensor")});
    EXPECT_EQ(Faults(LlamaConfig(), File(shapes, {{name, {"U16", 2}}})),
              std::vector<std::string>{
                  absl::StrCat("tensor ", name, ": is surplus, of dtype U16: the model (llama) has no such tensor")});
  }
}

TEST(Folder, WeightsOfATypeThatIsNotRead) {
  const std::string q = "model.layers.0.self_attn.q_proj.weight";
  const std::string file = File(LlamaTensors("model.", "lm_head.weight"), {{q, {"F8_E5M2", 1}}});
  EXPECT_EQ(Faults(LlamaConfig(), file),
            std::vector<std::string>{
                "tensor " + q + ": dtype F8_E5M2 is not supported; supported for weights: F32, F16, BF16, F8_E4M3"});
}

// As DeepSeek, Qwen, vLLM's llm-compressor, FBGEMM and ModelOpt write them.
TEST(Folder, WeightsOfF8HaveScalesInOneOfThreeShapes) {
  const std::string down = "model.layers.0.mlp.down_proj.weight";
  json config = LlamaConfig();
  config["hidden_size"] = 256, config["intermediate_size"] = 200, config["head_dim"] = 4;
  Shapes own = LlamaTensors("model.", "lm_head.weight");
  for (auto& [name, shape] : own) {
    for (int& n : shape) n = name.find("mlp") != std::string::npos && n == 6 ? 200 : n == 8 ? 256 : n;
  }
  for (const char* part : {"q_proj", "k_proj", "v_proj"})
    own["model.layers.0.self_attn." + std::string(part) + ".weight"] = {8, 256};
  own["model.layers.0.self_attn.o_proj.weight"] = {256, 8};
  const auto faults = [&](const Shapes& more, std::map<std::string, std::pair<std::string, int>> types = {},
                          std::vector<std::string>* warnings = nullptr) {
    Shapes shapes = own;
    shapes.insert(more.begin(), more.end());
    types.insert({down, {"F8_E4M3", 1}});
    return Faults(config, File(shapes, types), warnings);
  };
  for (const std::vector<int>& shape : std::vector<std::vector<int>>{{}, {1}, {1, 1}, {256}, {256, 1}, {2, 2}}) {
    EXPECT_EQ(faults({{down + "_scale", shape}}), kNone);
    EXPECT_EQ(faults({{down + "_scale_inv", shape}}, {{down + "_scale_inv", {"BF16", 2}}}), kNone);
  }
  EXPECT_EQ(faults({}),
            std::vector<std::string>{"tensor " + down + "_scale: is missing: weights of F8_E4M3 need their scales"});
  for (const std::vector<int>& shape :
       std::vector<std::vector<int>>{{200}, {1, 200}, {2, 1}, {2}, {256, 2}, {1, 1, 2}}) {
    const auto found = faults({{down + "_scale", shape}});
    ASSERT_EQ(found.size(), 1u);
    EXPECT_NE(found[0].find("a weight of [256, 200] has one scale, one a row, or one for each 128 x 128"),
              std::string::npos);
  }
  EXPECT_EQ(
      faults({{down + "_scale", {1}}}, {{down + "_scale", {"I32", 4}}}),
      std::vector<std::string>{"tensor " + down + "_scale: type i32 is not supported here; supported: f32, f16, bf16"});
  // Scales of what is no weight of F8_E4M3 mean something that is not known.
  EXPECT_EQ(
      faults({{down + "_scale", {1}}, {"model.layers.0.mlp.up_proj.weight_scale", {1}}}),
      std::vector<std::string>{"tensor model.layers.0.mlp.up_proj.weight_scale: is surplus: the model (llama) has "
                               "no such tensor"});
  // Only products take it.
  for (const char* name : {"model.embed_tokens.weight", "model.norm.weight"}) {
    const auto found = faults({{down + "_scale", {1}}}, {{name, {"F8_E4M3", 1}}});
    ASSERT_EQ(found.size(), 1u) << name;
    EXPECT_NE(found[0].find("type f8_e4m3 is not supported here"), std::string::npos) << found[0];
  }
  EXPECT_EQ(faults({{down + "_scale_inv", {2, 2}}}, {{down + "_scale_inv", {"F8_E8M0", 1}}}),
            std::vector<std::string>{
                "tensor " + down + "_scale_inv: dtype F8_E8M0 is not supported; supported for scales: F32, F16, BF16"});
  // A head may be of it, with a larger model around it, too; beside a tied one it is not used.
  const auto with_head = [](bool tied, const std::string& before) {
    json whole = {{"model_type", "llava"}, {"text_config", LlamaConfig()}};
    if (tied) whole["tie_word_embeddings"] = true;
    Shapes shapes = LlamaTensors(before + "model.", before + "lm_head.weight");
    shapes[before + "lm_head.weight_scale"] = {4, 1};
    return Faults(before.empty() ? [&] {
      json config = LlamaConfig();
      if (tied) config["tie_word_embeddings"] = true;
      return config;
    }() : whole, File(shapes, {{before + "lm_head.weight", {"F8_E4M3", 1}}}));
  };
  for (const bool tied : {false, true}) {
    for (const char* before : {"", "language_model."}) EXPECT_EQ(with_head(tied, before), kNone) << tied << before;
  }
  std::vector<std::string> warnings;
  EXPECT_EQ(faults({{down + "_scale", {1}}, {"model.layers.0.mlp.down_proj.input_scale", {1}}}, {}, &warnings), kNone);
  EXPECT_EQ(warnings,
            std::vector<std::string>{"1 tensor is left out: scales of activations, which are not rounded to 8 "
                                     "bits (model.layers.0.mlp.down_proj.input_scale)"});
}

TEST(Folder, WeightsOfF8AreDeclaredWhereNoneAreThere) {
  json config = LlamaConfig();
  config["torch_dtype"] = "bfloat16";
  config["quantization_config"] = {{"quant_method", "fp8"}, {"modules_to_not_convert", {"model.layers.0.mlp.up_proj"}}};
  const auto describe = [&] {
    const TempFolder folder;
    folder.Write("config.json", config.dump());
    return DescribeCheckpoint(folder.path());
  };
  const auto header = describe();
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(CheckTensors(*header, TensorTable(*header)), kNone);
  for (const auto& [name, type] :
       std::map<std::string, DType>{{"model.layers.0.self_attn.q_proj.weight", DType::kF8E4M3},
                                    {"model.layers.0.mlp.up_proj.weight", DType::kBF16},
                                    {"model.embed_tokens.weight", DType::kBF16},
                                    {"lm_head.weight", DType::kBF16}})
    EXPECT_EQ(header->tensors.at(name).dtype, type) << name;
  for (const char* entry :
       {"model.layers.0.mlp", "model.language_model.layers.0.mlp.up_proj", "*up_proj", "layers.0.m*"}) {
    config["quantization_config"]["modules_to_not_convert"] = {entry};
    EXPECT_EQ(describe()->tensors.at("model.layers.0.mlp.up_proj.weight").dtype, DType::kBF16) << entry;
  }
  config["quantization_config"]["modules_to_not_convert"] = {"model.layers.0.mlp.up"};
  EXPECT_EQ(describe()->tensors.at("model.layers.0.mlp.up_proj.weight").dtype, DType::kF8E4M3);
  config["quantization_config"]["modules_to_not_convert"] = {"re:.*mlp.*"};
  EXPECT_NE(
      std::string(describe().status().message()).find("quantization_config: modules_to_not_convert: has patterns"),
      std::string::npos);
}

TEST(Folder, TensorsOfAnotherModelAreToldInOneLine) {
  const auto faults = Faults(LlamaConfig(), File(Gpt2Tensors("transformer.")));
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_EQ(faults[0],
            "none of the 12 tensors of the model (llama) is there: the first is model.embed_tokens.weight, the files "
            "have transformer.h.0.attn.c_attn.bias and 15 others");
}

// Transformers 4 and vLLM use the embedding, too.
TEST(Folder, AHeadThatDiffersFromTheEmbeddingItIsTiedTo) {
  json tied = LlamaConfig();
  tied["tie_word_embeddings"] = true;
  const std::string differs =
      "config.json: tie_word_embeddings: is true, but lm_head.weight is stored and differs from "
      "model.embed_tokens.weight, which is used in its place; set it to false if the head was trained";
  const Shapes shapes = LlamaTensors("model.", "lm_head.weight");
  std::vector<std::string> warnings;
  EXPECT_EQ(Faults(tied, File(shapes), &warnings), kNone);
  EXPECT_EQ(warnings, kNone) << "equal";
  EXPECT_EQ(Faults(tied, File(shapes, {}, {{"lm_head.weight", 'y'}}), &warnings), kNone);
  EXPECT_EQ(warnings, std::vector<std::string>{differs});
  EXPECT_EQ(Faults(LlamaConfig(), File(shapes, {}, {{"lm_head.weight", 'y'}}), &warnings), kNone);
  EXPECT_EQ(warnings, kNone) << "not tied";
  const auto header = Read(tied, File(shapes, {}, {{"lm_head.weight", 'y'}}));
  ASSERT_TRUE(header.ok());
  EXPECT_EQ(TensorTable(*header).back().name, "model.embed_tokens.weight");
}

// The faults without the folder's path, which every line must begin with and name once.
std::string Refusal(const TempFolder& folder) {
  const auto header = ReadCheckpointHeader(folder.path());
  EXPECT_FALSE(header.ok());
  std::istringstream lines{std::string(header.status().message())};
  std::string out;
  for (std::string line; std::getline(lines, line);) {
    EXPECT_EQ(line.find(folder.path()), 0u) << line;
    EXPECT_EQ(line.rfind(folder.path()), 0u) << line;
    out += (out.empty() ? "" : "\n") + line.substr(std::min(line.size(), folder.path().size()));
  }
  return out;
}

TEST(Folder, WhatIsMissingIsNamed) {
  const TempFolder folder;
  EXPECT_EQ(ReadCheckpointHeader(folder.path() + "/none").status().message(),
            "model: " + folder.path() + "/none: no such file or folder");
  EXPECT_EQ(ReadCheckpointHeader(folder.path() + "/none").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Refusal(folder), ": has no config.json");
  folder.Write("config.json", Gpt2Config().dump());
  EXPECT_EQ(Refusal(folder), ": has neither model.safetensors nor model.safetensors.index.json");
  EXPECT_EQ(ReadCheckpointHeader("/dev/null").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(ReadCheckpointHeader(folder.Write("empty.gguf", "")).ok());
}

TEST(Folder, OtherWeightsAreNamedWithWhatToDo) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"pytorch_model.bin", "pytorch_model.bin, weights in PyTorch's own format, which are not read: save them as"},
      {"consolidated.00.pth", "consolidated.00.pth, weights in PyTorch's own format"},
      {"SmolLM2-Q8_0.gguf", "SmolLM2-Q8_0.gguf: to serve a GGUF file give the file's path"},
      {"adapter_model.safetensors", "a LoRA adapter: merge it into its base model first"},
      {"consolidated.safetensors", "consolidated.safetensors, which is not a name of the Hugging Face layout"},
      {"tf_model.h5", "tf_model.h5, a format that is not read"}};
  for (const auto& [name, sentence] : cases) {
    const TempFolder folder;
    folder.Write(name, "x");
    EXPECT_NE(Refusal(folder).find(sentence), std::string::npos) << Refusal(folder);
    folder.Write("config.json", LlamaConfig().dump());
    EXPECT_NE(Refusal(folder).find(sentence), std::string::npos) << Refusal(folder);
  }
}

TEST(Folder, EveryFaultAtOnceTheArchitectureFirst) {
  const TempFolder folder;
  folder.Write("config.json", R"({"model_type":"mamba"})");
  folder.Write("model.safetensors", "rubbish");
  const std::string text = Refusal(folder);
  EXPECT_EQ(text.find(": config.json: model_type: \"mamba\" is not known"), 0u) << text;
  EXPECT_NE(text.find("\n: model.safetensors: has 7 bytes"), std::string::npos) << text;
  json config = LlamaConfig();
  config["vocab_size"] = -5;
  folder.Write("config.json", config.dump());
  EXPECT_EQ(Refusal(folder).find(": config.json: vocab_size: is -5"), 0u);
  folder.Write("generation_config.json", "[");
  EXPECT_NE(Refusal(folder).find(": generation_config.json: not valid JSON"), std::string::npos);
}

}  // namespace
}  // namespace pangea
