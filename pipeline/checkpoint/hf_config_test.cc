#include "pipeline/checkpoint/hf_config.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace pangea {
namespace {

using nlohmann::json;

json Llama() {
  return json::parse(
      R"({"model_type":"llama","num_hidden_layers":4,"hidden_size":64,"num_attention_heads":8,"num_key_value_heads":4,
    "intermediate_size":160,"vocab_size":512,"max_position_embeddings":256,"rms_norm_eps":1e-5,"bos_token_id":1,"eos_token_id":2})");
}
json Gpt2() {
  return json::parse(R"({"model_type":"gpt2","n_layer":2,"n_embd":64,"n_head":4,"n_positions":128,"vocab_size":512})");
}
json Pangu() {
  return json::parse(
      R"({"model_type":"gpt_pangu","num_layers":3,"hidden_size":60,"num_heads":3,"vocab_size":100,"max_position_embeddings":64,
    "intermediate_size":null,"activation_function":"gelu","layer_norm_epsilon":1e-5})");
}

absl::StatusOr<ModelConfig> Read(const json& config, const std::string& generation = "") {
  return ConfigFromJson(config.dump(), generation);
}
ModelConfig Good(const json& config, const std::string& generation = "") {
  const auto read = Read(config, generation);
  EXPECT_TRUE(read.ok()) << read.status();
  return read.ok() ? *read : ModelConfig{};
}
json With(json config, const std::string& key, const json& value) {
  config[key] = value;
  return config;
}
void ExpectFault(const json& config, const std::string& named) {
  const auto read = Read(config);
  ASSERT_FALSE(read.ok()) << config;
  EXPECT_EQ(read.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(std::string(read.status().message()).find(named), std::string::npos)
      << named << " is not in: " << read.status();
}

TEST(HfConfig, LlamaAndItsDefaults) {
  const ModelConfig c = Good(Llama());
  EXPECT_EQ(std::tuple(c.layers, c.hidden, c.heads, c.kv_heads, c.head_dim, c.ffn, c.vocab),
            std::tuple(4, 64, 8, 4, 8, 160, 512));
  EXPECT_EQ(c.rope.base, 10000);
  EXPECT_EQ(c.rope.rot, 8);
  EXPECT_EQ(c.rope.pairs, RopePairs::kHalves);
  EXPECT_FALSE(c.tied || c.qkv_bias || c.o_bias || c.mlp_bias || c.qk_norm);
  EXPECT_EQ(c.window, std::vector<int>(4, 0));
  json no_kv = Llama();
  no_kv.erase("num_key_value_heads");
  EXPECT_EQ(Good(no_kv).kv_heads, 8);
  EXPECT_EQ(Good(With(Llama(), "head_dim", 24)).head_dim, 24);
  const ModelConfig biased = Good(With(With(Llama(), "attention_bias", true), "mlp_bias", true));
  EXPECT_TRUE(biased.qkv_bias && biased.o_bias && biased.mlp_bias);
  EXPECT_EQ(Good(With(Llama(), "hidden_act", "gelu_pytorch_tanh")).activation, Gate::kGeluTanh);
  EXPECT_EQ(Good(With(Llama(), "hidden_act", "gelu")).activation, Gate::kGeluErf);
}

TEST(HfConfig, EndIds) {
  EXPECT_EQ(Good(Llama()).eos, std::vector<int>{2});
  EXPECT_EQ(Good(With(Llama(), "eos_token_id", {7, 8, 7})).eos, (std::vector<int>{7, 8}));
  EXPECT_EQ(Good(Llama(), R"({"eos_token_id":[2,5]})").eos, (std::vector<int>{2, 5}));
  EXPECT_TRUE(Good(With(Llama(), "eos_token_id", nullptr)).eos.empty());
  ExpectFault(With(Llama(), "eos_token_id", {2, "x"}), "eos_token_id");
  ExpectFault(With(Llama(), "bos_token_id", 1.5), "bos_token_id");
  EXPECT_FALSE(Read(Llama(), R"({"eos_token_id":"x"})").ok());
  EXPECT_FALSE(Read(Llama(), "[").ok());
}

// Transformers serves such models: nothing ever gives or produces the id.
TEST(HfConfig, SpecialIdsThatTheVocabularyLacksAreLeftOutWithAWarning) {
  struct Case {
    const char* key;
    json value;
    const char* generation;
    std::vector<int> eos;
    std::string warning;
  };
  const Case cases[] = {
      {"eos_token_id", 512, "", {}, "config.json: eos_token_id: 512 is left out: the vocabulary has 512 ids, from 0"},
      {"eos_token_id", -1, "", {}, "config.json: eos_token_id: -1 is left out: the vocabulary has 512 ids, from 0"},
      {"eos_token_id",
       {2, 50256, 3},
       "",
       {2, 3},
       "config.json: eos_token_id: 50256 is left out: the vocabulary has 512 ids, from 0"},
      {"bos_token_id", -1, "", {2}, "config.json: bos_token_id: -1 is left out: the vocabulary has 512 ids, from 0"},
      {"bos_token_id",
       1,
       R"({"bos_token_id":50256,"eos_token_id":50256})",
       {2},
       "generation_config.json: eos_token_id: 50256 is left out: the vocabulary has 512 ids, from 0"},
      {"pad_token_id", 512, "", {2}, "config.json: pad_token_id: 512 is left out: the vocabulary has 512 ids, from 0"},
  };
  for (const Case& c : cases) {
    std::vector<std::string> warnings;
    const auto read = ConfigFromJson(With(Llama(), c.key, c.value).dump(), c.generation, &warnings);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->eos, c.eos);
    EXPECT_EQ(warnings, std::vector<std::string>{c.warning});
  }
  json gpt2 = With(With(Gpt2(), "bos_token_id", 50256), "eos_token_id", 50256);  // as GPT2Config writes by default
  EXPECT_TRUE(Good(gpt2).eos.empty());
  std::vector<std::string> none;
  ASSERT_TRUE(ConfigFromJson(With(Llama(), "pad_token_id", -1).dump(), "", &none).ok());
  EXPECT_TRUE(none.empty()) << "-1 says that there is no padding";
}

// A model that reads images and writes text: its language model is served as any other.
TEST(HfConfig, TheTextHalfOfALargerModel) {
  json text = Llama();
  text.erase("bos_token_id");
  text.erase("eos_token_id");
  for (const char* key : {"text_config", "llm_config", "language_config"}) {
    const json whole = {{"model_type", "llava"},
                        {key, text},
                        {"vision_config", {{"hidden_size", 9}}},
                        {"eos_token_id", 5},
                        {"tie_word_embeddings", true}};
    const ModelConfig c = Good(whole);
    EXPECT_EQ(c.wrapper, "llava");
    EXPECT_EQ(c.architecture_name, "llama");
    EXPECT_EQ(std::tuple(c.layers, c.hidden, c.ffn, c.vocab), std::tuple(4, 64, 160, 512));
    EXPECT_EQ(c.eos, std::vector<int>{5}) << "of the whole, where the half names none";
    EXPECT_TRUE(c.tied) << "of the whole, where the half says nothing";
  }
  EXPECT_EQ(Good(Llama()).wrapper, "");
  const json unknown = {{"model_type", "paligemma"}, {"text_config", {{"model_type", "gemma"}}}};
  ExpectFault(unknown, "config.json: text_config: model_type: \"gemma\" is not known; supported: llama");
  ExpectFault({{"model_type", "llava"}, {"text_config", text}, {"quantization_config", json::object()}},
              "quantization_config");
  text["hidden_size"] = "x";
  ExpectFault({{"model_type", "llava"}, {"text_config", text}}, "config.json: text_config: hidden_size");
}

// LLaVA's and Mistral 3's own files leave out what is the class's default; the sizes are those of Transformers'
// LlamaConfig, MistralConfig, Qwen2Config and Qwen3Config.
TEST(HfConfig, ATextHalfHasItsClassesDefaults) {
  const auto half = [](const char* model_type) {
    return Good({{"model_type", "llava"}, {"text_config", {{"model_type", model_type}}}});
  };
  const auto sizes = [](const ModelConfig& c) {
    return std::tuple(c.layers, c.hidden, c.heads, c.kv_heads, c.head_dim, c.ffn, c.vocab, c.max_positions);
  };
  EXPECT_EQ(sizes(half("llama")), std::tuple(32, 4096, 32, 32, 128, 11008, 32000, 2048));
  EXPECT_EQ(sizes(half("mistral")), std::tuple(32, 4096, 32, 8, 128, 14336, 32000, 131072));
  EXPECT_EQ(sizes(half("qwen2")), std::tuple(32, 4096, 32, 32, 128, 22016, 151936, 32768));
  EXPECT_EQ(sizes(half("qwen3")), std::tuple(32, 4096, 32, 32, 128, 22016, 151936, 32768));
  EXPECT_EQ(half("mistral").window, std::vector<int>(32, 4096));
  const json none = {{"model_type", "mistral3"},
                     {"text_config", {{"model_type", "mistral"}, {"sliding_window", nullptr}}}};
  EXPECT_EQ(Good(none).window, std::vector<int>(32, 0));
}

// Positions of text are alike in the three axes of Qwen's models that see.
TEST(HfConfig, TheTextHalfOfQwenVl) {
  json flat = With(Llama(), "model_type", "qwen2_5_vl");
  flat["rope_scaling"] = {{"type", "mrope"}, {"mrope_section", {1, 1, 2}}};
  EXPECT_EQ(Good(flat).wrapper, "qwen2_5_vl");
  EXPECT_TRUE(Good(flat).qkv_bias);
  EXPECT_EQ(Good(flat).rope.scaling, RopeScaling::kNone);
  json text = With(flat, "model_type", "qwen3_vl_text");
  text["rope_scaling"] = {{"rope_type", "default"}, {"mrope_interleaved", true}, {"mrope_section", {1, 1, 2}}};
  const ModelConfig three = Good({{"model_type", "qwen3_vl"}, {"text_config", text}});
  EXPECT_EQ(three.wrapper, "qwen3_vl");
  EXPECT_TRUE(three.qk_norm);
}

// Python's json writes these names and reads them back.
TEST(HfConfig, NanAndInfinityAreRead) {
  const std::string text = Llama().dump();
  const auto with = [&](const std::string& member) { return text.substr(0, text.size() - 1) + "," + member + "}"; };
  for (const char* idle : {R"("initializer_range":NaN)", R"("x":[1,-Infinity,Infinity])", R"("y":{"z": NaN})",
                           R"("s":"NaN \" Infinity","t":NaN)"}) {
    const auto read = ConfigFromJson(with(idle), "");
    EXPECT_TRUE(read.ok()) << idle << ": " << read.status();
  }
  const std::string fault(ConfigFromJson(with(R"("rope_theta":Infinity)"), "").status().message());
  EXPECT_NE(fault.find("config.json: rope_theta: is \"Infinity\", must be a number above 0"), fault.npos) << fault;
  EXPECT_TRUE(ConfigFromJson(text, R"({"temperature":NaN})").ok());
  EXPECT_FALSE(ConfigFromJson(with(R"("a":Nan)"), "").ok());
}

TEST(HfConfig, RopeInBothSpellings) {
  const json llama3 = {
      {"factor", 8.0}, {"low_freq_factor", 1.0}, {"high_freq_factor", 4.0}, {"original_max_position_embeddings", 64}};
  for (const char* type : {"rope_type", "type"}) {
    for (const char* place : {"rope_scaling", "rope_parameters"}) {
      json scaling = llama3, config = Llama();
      scaling[type] = "llama3";
      if (std::string(place) == "rope_parameters") {
        scaling["rope_theta"] = 500000.0;
      } else {
        config["rope_theta"] = 500000.0;
      }
      const ModelConfig c = Good(With(config, place, scaling));
      EXPECT_EQ(c.rope.scaling, RopeScaling::kLlama3);
      EXPECT_EQ(c.rope.base, 500000);
      EXPECT_EQ(std::tuple(c.rope.factor, c.rope.low_freq_factor, c.rope.high_freq_factor, c.rope.original_positions),
                std::tuple(8, 1, 4, 64));
      EXPECT_EQ(c.max_positions, 256) << "already declared";
    }
  }
  EXPECT_EQ(Good(With(Llama(), "rope_parameters", {{"rope_type", "default"}, {"rope_theta", 1e6}})).rope.base, 1e6);
  EXPECT_EQ(Good(With(Llama(), "rope_scaling", nullptr)).rope.scaling, RopeScaling::kNone);
}

TEST(HfConfig, RopeScalings) {
  ModelConfig c = Good(With(Llama(), "rope_scaling", {{"type", "linear"}, {"factor", 2}}));
  EXPECT_EQ(c.rope.scaling, RopeScaling::kLinear);
  EXPECT_EQ(c.max_positions, 256);
  c = Good(With(Llama(), "rope_scaling", {{"type", "dynamic"}, {"factor", 4}}));
  EXPECT_EQ(c.rope.original_positions, 256);
  EXPECT_EQ(c.max_positions, 1024);
  c = Good(With(Llama(), "rope_scaling",
                {{"rope_type", "yarn"},
                 {"factor", 4},
                 {"original_max_position_embeddings", 256},
                 {"attention_factor", 1.2},
                 {"beta_fast", 16},
                 {"truncate", false},
                 {"mscale", 0.7}}));
  EXPECT_EQ(c.max_positions, 1024);
  EXPECT_EQ(c.rope.beta_fast, 16);
  EXPECT_FALSE(c.rope.truncate);
  EXPECT_EQ(c.rope.attention_factor, 1.2);
  EXPECT_EQ(c.rope.mscale, 0.7);
  EXPECT_FALSE(c.rope.mscale_all_dim.has_value());
  c = Good(With(Llama(), "rope_scaling", {{"rope_type", "yarn"}, {"original_max_position_embeddings", 64}}));
  EXPECT_EQ(c.rope.factor, 4) << "what the declared context is of the original";
  ExpectFault(With(Llama(), "rope_scaling", {{"type", "longrope"}}),
              "supported: default, linear, dynamic, yarn, llama3");
  ExpectFault(With(Llama(), "rope_scaling", {{"type", "linear"}}), "factor: is missing");
  ExpectFault(With(Llama(), "rope_scaling", {{"factor", 2}}), "rope_type: is missing beside a factor");
  ExpectFault(With(Llama(), "rope_scaling", {{"type", "linear"}, {"factor", 0.5}}), "factor");
  ExpectFault(With(Llama(), "rope_scaling", {{"type", "llama3"}, {"factor", 8}}), "low_freq_factor: is missing");
  ExpectFault(With(Llama(), "rope_scaling", {{"type", "yarn"}, {"factor", "4"}}), "factor");
  ExpectFault(With(Llama(), "rope_scaling", 5), "rope_scaling");
  ExpectFault(With(Llama(), "rope_parameters", {{"full_attention", {{"rope_theta", 1}}}}), "layer type");
  ExpectFault(With(Llama(), "partial_rotary_factor", 0.5), "partial_rotary_factor");
  ExpectFault(With(Llama(), "rope_theta", 0), "rope_theta");
  ExpectFault(With(Llama(), "rope_theta", "big"), "rope_theta");
}

TEST(HfConfig, Windows) {
  json mistral = With(Llama(), "model_type", "mistral");
  EXPECT_EQ(Good(With(mistral, "sliding_window", 17)).window, std::vector<int>(4, 17));
  EXPECT_EQ(Good(With(mistral, "sliding_window", nullptr)).window, std::vector<int>(4, 0));
  ExpectFault(With(mistral, "sliding_window", 0), "sliding_window");
  json qwen = With(With(Llama(), "model_type", "qwen2"), "sliding_window", 32);
  EXPECT_EQ(Good(qwen).window, std::vector<int>(4, 0)) << "off unless told";
  qwen["use_sliding_window"] = true;
  qwen["max_window_layers"] = 3;
  EXPECT_EQ(Good(qwen).window, (std::vector<int>{0, 0, 0, 32}));
  qwen["layer_types"] = {"sliding_attention", "full_attention", "sliding_attention", "full_attention"};
  EXPECT_EQ(Good(qwen).window, (std::vector<int>{32, 0, 32, 0}));
  ExpectFault(With(qwen, "use_sliding_window", false), "layer_types");
  ExpectFault(With(qwen, "layer_types", {"full_attention"}), "layer_types");
  ExpectFault(With(qwen, "layer_types", {"full_attention", "x", "full_attention", "full_attention"}), "layer_types");
}

TEST(HfConfig, Qwen2AndQwen3) {
  const ModelConfig two = Good(With(Llama(), "model_type", "qwen2"));
  EXPECT_TRUE(two.qkv_bias && !two.o_bias && !two.qk_norm);
  const ModelConfig three = Good(With(Llama(), "model_type", "qwen3"));
  EXPECT_TRUE(!three.qkv_bias && three.qk_norm);
  EXPECT_EQ(three.head_dim, 128) << "Qwen3's own default";
}

TEST(HfConfig, Gpt2AndPangu) {
  const ModelConfig gpt2 = Good(Gpt2());
  EXPECT_EQ(std::tuple(gpt2.ffn, gpt2.kv_heads, gpt2.rope.rot), std::tuple(256, 4, 0));
  EXPECT_TRUE(gpt2.tied && gpt2.learned_positions && !gpt2.gated && gpt2.qkv_bias && gpt2.o_bias && gpt2.mlp_bias);
  EXPECT_EQ(gpt2.activation, Gate::kGeluTanh);
  EXPECT_EQ(gpt2.norm, NormKind::kLayer);
  ExpectFault(With(Gpt2(), "scale_attn_by_inverse_layer_idx", true), "scale_attn_by_inverse_layer_idx");
  ExpectFault(With(Gpt2(), "n_head", 5), "n_head");
  ExpectFault(With(Gpt2(), "n_inner", 0), "n_inner");
  const ModelConfig pangu = Good(Pangu());
  EXPECT_TRUE(pangu.query_layer && pangu.final_norm_before_query && pangu.tied);
  EXPECT_EQ(std::tuple(pangu.layers, pangu.ffn, pangu.head_dim), std::tuple(3, 240, 20));
  EXPECT_EQ(pangu.activation, Gate::kGeluErf);
  EXPECT_EQ(Good(With(Pangu(), "activation_function", "gelu_new")).activation, Gate::kGeluTanh);
  EXPECT_EQ(Good(With(Pangu(), "activation_function", "fast_gelu")).activation, Gate::kGeluQuick);
  EXPECT_FALSE(Good(With(Pangu(), "final_norm_position", "after_query")).final_norm_before_query);
  EXPECT_TRUE(Good(With(Pangu(), "model_type", "pangu")).query_layer);
  ExpectFault(With(Pangu(), "final_norm_position", "middle"), "supported: before_query, after_query");
  ExpectFault(With(Pangu(), "num_heads", 4), "must be even");
}

TEST(HfConfig, EveryFieldOfTheWrongKind) {
  const json wrong[] = {"x", -1, 0, 1.5, json::array(), json::object(), true, 1e300, int64_t{1} << 40};
  for (const char* key : {"num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads",
                          "intermediate_size", "vocab_size", "max_position_embeddings", "head_dim"}) {
    for (const json& value : wrong) ExpectFault(With(Llama(), key, value), key);
    if (std::string(key) == "num_key_value_heads" || std::string(key) == "head_dim") continue;
    json without = Llama();
    without.erase(key);
    ExpectFault(without, key);
  }
  for (const json& value : {json("x"), json(-1), json(0), json(2), json::array(), json(true)})
    ExpectFault(With(Llama(), "rms_norm_eps", value), "rms_norm_eps");
  for (const json& value : {json("x"), json(1), json::array()})
    ExpectFault(With(Llama(), "tie_word_embeddings", value), "tie_word_embeddings");
  ExpectFault(With(Llama(), "hidden_act", "mish"), "supported: fast_gelu");
  ExpectFault(With(Llama(), "num_key_value_heads", 3), "not a multiple");
  ExpectFault(With(Llama(), "num_key_value_heads", 16), "larger");
  const json group = {{"weights", {{"num_bits", 8}, {"type", "float"}, {"strategy", "channel"}}},
                      {"targets", {"Linear"}}};
  const json compressed = {
      {"quant_method", "compressed-tensors"}, {"format", "float-quantized"}, {"config_groups", {{"group_0", group}}}};
  const json deep_seek = {{"quant_method", "fp8"}, {"fmt", "e4m3"}, {"weight_block_size", {128, 128}}};
  const json model_opt = {{"quant_method", "modelopt"}, {"quant_algo", "FP8"}};
  for (const json& known :
       {compressed, deep_seek, model_opt, json{{"quant_method", "fp8"}, {"activation_scheme", "static"}},
        json{{"quant_method", "fbgemm_fp8"}}})
    EXPECT_TRUE(Read(With(Llama(), "quantization_config", known)).ok()) << known;
  json four_bits = compressed, integers = compressed, no_groups = compressed;
  four_bits["config_groups"]["group_0"]["weights"]["num_bits"] = 4;
  integers["config_groups"]["group_0"]["weights"]["type"] = "int";
  no_groups.erase("config_groups");
  for (const json& unknown :
       {json::object(), json(5), json{{"quant_method", "gptq"}, {"bits", 4}}, With(deep_seek, "fmt", "e5m2"),
        With(deep_seek, "weight_block_size", {64, 64}), With(model_opt, "quant_algo", "NVFP4"), four_bits, integers,
        no_groups, With(compressed, "config_groups", {{"group_0", nullptr}}),
        With(compressed, "format", "pack-quantized")})
    ExpectFault(With(Llama(), "quantization_config", unknown), "quantization_config");
}

TEST(HfConfig, UnknownArchitectures) {
  constexpr char kSupported[] = "supported: llama, mistral, qwen2, qwen3, gpt2, gpt_pangu, pangu";
  ExpectFault(With(Llama(), "model_type", "mamba"), kSupported);
  ExpectFault(With(Llama(), "model_type", 5), kSupported);
  json without = Llama();
  without.erase("model_type");
  ExpectFault(without, kSupported);
  EXPECT_FALSE(ConfigFromJson("[]", "").ok());
  EXPECT_FALSE(ConfigFromJson("", "").ok());
  EXPECT_FALSE(ConfigFromJson(std::string(100000, '['), "").ok());
}

TEST(HfConfig, TheTypeThatIsDeclared) {
  EXPECT_EQ(DeclaredTypesOf("{}")->type, DType::kF32);
  EXPECT_EQ(DeclaredTypesOf(R"({"torch_dtype": "float16"})")->type, DType::kF16);
  EXPECT_EQ(DeclaredTypesOf(R"({"dtype": "bfloat16"})")->type, DType::kBF16);
  for (const char* whole :
       {R"({"model_type": "llava", "torch_dtype": "bfloat16", "text_config": {"model_type": "llama"}})",
        R"({"model_type": "llava", "text_config": {"model_type": "llama", "dtype": "bfloat16"}})"})
    EXPECT_EQ(DeclaredTypesOf(whole)->type, DType::kBF16);
  for (const char* wrong : {R"({"torch_dtype": "int4"})", R"({"torch_dtype": 16})", "[]", "", "{"})
    EXPECT_FALSE(DeclaredTypesOf(wrong).ok()) << wrong;
}

TEST(HfConfig, AllFaultsAtOnce) {
  const auto read = Read(With(With(Llama(), "hidden_size", "x"), "vocab_size", -5));
  const std::string text(read.status().message());
  EXPECT_NE(text.find("hidden_size"), std::string::npos);
  EXPECT_NE(text.find("vocab_size"), std::string::npos);
}

}  // namespace
}  // namespace pangea
