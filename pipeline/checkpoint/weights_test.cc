#include "pipeline/checkpoint/weights.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>

#include "pipeline/checkpoint/checkpoint_test_util.h"

namespace pangea {
namespace {

const std::string kCases = PANGEA_SOURCE_DIR "/integration_tests/golden/cases/";
const std::string kGguf = PANGEA_SOURCE_DIR "/integration_tests/golden/gguf/";

struct Opened {
  CheckpointHeader header;
  Weights weights;
};
Opened Open(const std::string& path) {
  auto header = ReadCheckpointHeader(path);
  EXPECT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(CheckTensors(*header, TensorTable(*header)), std::vector<std::string>{});
  auto weights = Weights::Map(*header);
  EXPECT_TRUE(weights.ok()) << weights.status();
  return {*std::move(header), *std::move(weights)};
}

// The bytes of a tensor read without the mapping.
std::vector<float> Stored(const CheckpointHeader& header, const std::string& name) {
  const TensorInfo& info = header.tensors.at(name);
  EXPECT_EQ(info.dtype, DType::kF32);
  std::ifstream in(header.files[info.file], std::ios::binary);
  in.seekg(static_cast<std::streamoff>(info.offset));
  std::vector<float> values(info.bytes / 4);
  in.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(info.bytes));
  return values;
}

float At(const WeightRows& rows, int64_t column, int64_t k) {
  float value;
  std::memcpy(&value,
              rows.transposed ? rows.data + k * rows.pitch + column * 4 : rows.data + column * rows.pitch + k * 4, 4);
  return value;
}

TEST(Weights, FusedAndTransposedColumnsOfGpt2) {
  const Opened o = Open(kCases + "gpt2");
  const int64_t d = o.header.config.hidden;
  const auto fused = Stored(o.header, "transformer.h.1.attn.c_attn.weight");  // [d][3d]
  const auto bias = Stored(o.header, "transformer.h.1.attn.c_attn.bias");
  const Role weights[] = {Role::kQ, Role::kK, Role::kV}, biases[] = {Role::kQBias, Role::kKBias, Role::kVBias};
  for (int part = 0; part < 3; ++part) {
    const TensorView view = o.weights.Find(weights[part], 1);
    ASSERT_TRUE(view.present() && view.transposed);
    EXPECT_EQ(std::pair(view.n, view.k), std::pair(d, d));
    const WeightRows run = view.Run(12, 24, 5);
    EXPECT_EQ(run.n, 12);
    for (int64_t j = 0; j < 12; ++j) {
      for (int64_t k = 0; k < 4; ++k) EXPECT_EQ(At(run, j, k), fused[(5 + k) * 3 * d + part * d + 12 + j]);
    }
    const auto some = o.weights.Vector(biases[part], 1, 3, 9);
    ASSERT_EQ(some.size(), 6u);
    for (int i = 0; i < 6; ++i) EXPECT_EQ(some[i], bias[part * d + 3 + i]);
  }
  EXPECT_TRUE(o.weights.Vector(Role::kQNorm, 1, 0, 4).empty());
  EXPECT_FALSE(o.weights.Find(Role::kGate, 0).present());
  EXPECT_EQ(o.weights.Find(Role::kHead).data, o.weights.Find(Role::kTokenEmbedding).data) << "tied";
}

TEST(Weights, GgufStoresGpt2sFusedRowsPlain) {
  const Opened hf = Open(kCases + "gpt2"), gguf = Open(kGguf + "gpt2-f32.gguf");
  for (const Role role : {Role::kQ, Role::kK, Role::kV, Role::kO, Role::kUp, Role::kDown}) {
    const TensorView a = hf.weights.Find(role, 2), b = gguf.weights.Find(role, 2);
    ASSERT_FALSE(b.transposed);
    ASSERT_EQ(std::pair(a.n, a.k), std::pair(b.n, b.k));
    const WeightRows x = a.Run(1, a.n, 2), y = b.Run(1, b.n, 2);
    for (int64_t j = 0; j < x.n; j += 5) EXPECT_EQ(At(x, j, 3), At(y, j, 3));
  }
  EXPECT_EQ(hf.weights.Vector(Role::kKBias, 0, 0, 72), gguf.weights.Vector(Role::kKBias, 0, 0, 72));
}

// Two-byte floats by arithmetic: sign, exponent and mantissa as IEEE 754 and bfloat16 lay them out.
float Half(uint16_t bits, int exponent_bits) {
  const int mantissa_bits = 15 - exponent_bits, bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = (bits >> mantissa_bits) & ((1 << exponent_bits) - 1),
            mantissa = bits & ((1 << mantissa_bits) - 1);
  const double whole = exponent == 0 ? 0 : 1;
  const double value = std::ldexp(whole + std::ldexp(mantissa, -mantissa_bits), std::max(exponent, 1) - bias);
  return static_cast<float>((bits & 0x8000) != 0 ? -value : value);
}

TEST(Weights, VectorsOfEveryPlainTypeAndRelease) {
  const Opened f16 = Open(kCases + "llama2"), bf16 = Open(kCases + "qwen3");
  for (const Opened* o : {&f16, &bf16}) {
    const auto norm = o->weights.Vector(Role::kAttnNorm, 0, 0, o->header.config.hidden);
    ASSERT_EQ(norm.size(), static_cast<size_t>(o->header.config.hidden));
    const TensorInfo& info = o->header.tensors.at("model.layers.0.input_layernorm.weight");
    ASSERT_EQ(info.dtype, o == &f16 ? DType::kF16 : DType::kBF16);
    std::ifstream in(o->header.files[info.file], std::ios::binary);
    in.seekg(static_cast<std::streamoff>(info.offset));
    std::vector<uint16_t> stored(norm.size());
    in.read(reinterpret_cast<char*>(stored.data()), static_cast<std::streamsize>(2 * stored.size()));
    for (size_t i = 0; i < norm.size(); ++i) EXPECT_EQ(norm[i], Half(stored[i], o == &f16 ? 5 : 8)) << i;
    o->weights.Release();
    EXPECT_EQ(o->weights.Vector(Role::kAttnNorm, 0, 0, o->header.config.hidden), norm) << "the pages come back";
  }
  EXPECT_EQ(bf16.weights.Vector(Role::kQNorm, 2, 0, 24).size(), 24u);
}

TEST(Weights, RunsOfQuantisedRowsStartAtBlocks) {
  const Opened o = Open(kGguf + "qwen2-q4_1.gguf");
  const TensorView down = o.weights.Find(Role::kDown, 3);
  EXPECT_EQ(down.pitch, 160 / 32 * 20);
  const WeightRows run = down.Run(2, 7, 64);
  EXPECT_EQ(run.data, down.data + 2 * down.pitch + 2 * 20);
}

// A matrix [200][300] of F8_E4M3 whose scales say where they are: 2 x 3 squares, one a row, one for all.
TEST(Weights, RunsOfF8FindTheirScales) {
  const std::string name = "model.layers.0.mlp.down_proj.weight";
  for (const std::vector<int64_t>& shape : std::vector<std::vector<int64_t>>{{2, 3}, {200, 1}, {1}}) {
    const TempFolder folder;
    folder.Write("config.json",
                 R"({"model_type": "llama", "num_hidden_layers": 1, "hidden_size": 200, "num_attention_heads": 1,
                     "intermediate_size": 300, "vocab_size": 4, "max_position_embeddings": 16})");
    std::string header, data;
    const auto add = [&](const std::string& tensor, const char* type, const std::string& dims,
                         const std::string& bytes) {
      header += (header.empty() ? "{\"" : ",\"") + tensor + "\":{\"dtype\":\"" + type + "\",\"shape\":[" + dims +
                "],\"data_offsets\":[" + std::to_string(data.size()) + "," +
                std::to_string(data.size() + bytes.size()) + "]}";
      data += bytes;
    };
    const auto zeros = [&](const std::string& tensor, int64_t n, int64_t k) {
      add(tensor, "F32", std::to_string(n) + (k > 0 ? "," + std::to_string(k) : ""),
          std::string(4 * n * std::max<int64_t>(k, 1), '\0'));
    };
    const std::string at = "model.layers.0.";
    for (const char* norm : {"input_layernorm", "post_attention_layernorm"}) zeros(at + norm + ".weight", 200, 0);
    for (const char* part : {"q_proj", "k_proj", "v_proj", "o_proj"})
      zeros(at + "self_attn." + part + ".weight", 200, 200);
    for (const char* part : {"gate_proj", "up_proj"}) zeros(at + "mlp." + part + ".weight", 300, 200);
    zeros("model.embed_tokens.weight", 4, 200);
    zeros("lm_head.weight", 4, 200);
    zeros("model.norm.weight", 200, 0);
    std::string numbers, scales, dims;
    for (int i = 0; i < 200 * 300; ++i) numbers.push_back(static_cast<char>(i % 97));
    add(name, "F8_E4M3", "200,300", numbers);
    const int64_t count = shape[0] * (shape.size() > 1 ? shape[1] : 1);
    for (int64_t i = 0; i < count; ++i) scales += Raw(static_cast<float>(i));
    for (const int64_t n : shape) dims += (dims.empty() ? "" : ",") + std::to_string(n);
    add(name + "_scale_inv", "F32", dims, scales);
    folder.Write("model.safetensors", SafetensorsBytes(header + "}", data));
    const Opened o = Open(folder.path());
    const WeightRows run = o.weights.Find(Role::kDown, 0).Run(130, 200, 128);
    ASSERT_EQ(std::pair(run.dtype, run.n), std::pair(DType::kF8E4M3, int64_t{70}));
    for (const int64_t j : {0, 69}) {
      for (const int64_t k : {0, 127, 128, 171}) {
        EXPECT_EQ(std::to_integer<int>(run.data[j * run.pitch + k]), ((130 + j) * 300 + 128 + k) % 97);
        const WeightScales& s = run.scales;
        float scale;
        std::memcpy(&scale, s.data + 4 * ((s.first + j) / s.columns * s.pitch + k / kScaleRun * s.step), 4);
        EXPECT_EQ(scale, shape[0] == 2 ? 3 + (128 + k) / 128 : shape[0] == 1 ? 0 : 130 + j) << j << ' ' << k;
      }
    }
  }
}

TEST(Weights, AllGoldenCasesHaveTheirTensors) {
  for (const char* name : {"llama2", "llama3", "llama-linear-bias", "mistral-window", "qwen2-tied", "qwen2-yarn",
                           "qwen3", "gpt2", "pangu-erf", "pangu-quick", "pangu-tanh-after"}) {
    const Opened o = Open(kCases + name);
    for (const TensorRow& row : TensorTable(o.header)) {
      const TensorView view = o.weights.Find(row.role, row.layer);
      ASSERT_TRUE(view.present()) << name << " " << row.name;
      EXPECT_EQ(std::pair(view.n, view.k), std::pair(row.n, row.k)) << name << " " << row.name;
      if (row.first != 0) continue;  // a later part of a fused tensor; GPT-2's test looks at those
      // The first bytes are those that lie in the file where its header says.
      const TensorInfo& info = o.header.tensors.at(row.name);
      std::ifstream in(o.header.files[info.file], std::ios::binary);
      in.seekg(static_cast<std::streamoff>(info.offset));
      char stored[16];
      in.read(stored, sizeof(stored));
      EXPECT_EQ(std::memcmp(view.data, stored, sizeof(stored)), 0) << name << " " << row.name;
    }
  }
}

TEST(Weights, AFileThatChangedIsRefused) {
  const TempFolder folder;
  const std::string bytes = TinyLlama().Bytes(), path = folder.Write("tiny.gguf", bytes);
  const auto header = ReadCheckpointHeader(path);
  ASSERT_TRUE(header.ok());
  folder.Write("tiny.gguf", bytes.substr(0, bytes.size() - 8));
  EXPECT_FALSE(Weights::Map(*header).ok());
}

TEST(CheckTensors, SurplusAndMissingInSafetensors) {
  auto header = ReadCheckpointHeader(kCases + "llama2");
  ASSERT_TRUE(header.ok());
  const auto faults = [&] { return CheckTensors(*header, TensorTable(*header)); };
  TensorInfo extra = header->tensors.at("model.norm.weight");
  header->tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = extra;
  EXPECT_TRUE(faults().empty());
  header->tensors["model.layers.9.mlp.up_proj.weight"] = extra;
  ASSERT_EQ(faults().size(), 1u);
  EXPECT_NE(faults()[0].find("model.layers.9.mlp.up_proj.weight: is surplus"), std::string::npos);
  header->tensors.erase("model.layers.9.mlp.up_proj.weight");
  header->tensors["lm_head.weight"].dtype = DType::kI32;
  ASSERT_EQ(faults().size(), 1u);
  EXPECT_NE(faults()[0].find("supported: f32, f16, bf16"), std::string::npos);
  header->tensors.erase("lm_head.weight");
  EXPECT_EQ(faults(), std::vector<std::string>{"tensor lm_head.weight: is missing"});
  header->config.tied = true;
  EXPECT_TRUE(faults().empty());
  header->tensors["lm_head.weight"] = extra;
  EXPECT_EQ(faults().size(), 1u) << "a tied head of another shape is surplus";
}

}  // namespace
}  // namespace pangea
