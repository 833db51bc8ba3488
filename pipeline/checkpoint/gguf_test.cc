#include "pipeline/checkpoint/gguf.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "absl/strings/str_cat.h"
#include "pipeline/checkpoint/checkpoint_test_util.h"
#include "pipeline/checkpoint/tensor_table.h"
#include "pipeline/checkpoint/weights.h"

namespace pangea {
namespace {

absl::StatusOr<CheckpointHeader> Read(const std::string& bytes) {
  const TempFolder folder;
  return ReadCheckpointHeader(folder.Write("tiny.gguf", bytes));
}

TEST(Gguf, TinyFileIsRead) {
  const auto header = Read(TinyLlama().Bytes());
  ASSERT_TRUE(header.ok()) << header.status();
  const ModelConfig& c = header->config;
  EXPECT_EQ(c.architecture, Architecture::kLlama);
  EXPECT_EQ(std::tuple(c.layers, c.hidden, c.heads, c.kv_heads, c.head_dim, c.ffn, c.vocab, c.max_positions),
            std::tuple(1, 8, 2, 1, 4, 6, 4, 32));
  EXPECT_EQ(c.rope.pairs, RopePairs::kAdjacent);
  EXPECT_TRUE(c.tied);
  EXPECT_EQ(c.eos, std::vector<int>{2});
  EXPECT_EQ(header->tensors.at("blk.0.ffn_down.weight").shape, (std::vector<int64_t>{8, 6})) << "row-major";
  EXPECT_TRUE(CheckTensors(*header, TensorTable(*header)).empty());
  EXPECT_EQ(std::get<std::vector<std::string>>(header->metadata.at("tokenizer.ggml.tokens").value)[3], "d");
}

TEST(Gguf, HashFollowsHeaderAndSize) {
  GgufFile one = TinyLlama(), two = TinyLlama();
  two.F32("llama.rope.freq_base", 500000);
  EXPECT_EQ(Read(one.Bytes())->hash, Read(one.Bytes())->hash);
  EXPECT_NE(Read(one.Bytes())->hash, Read(two.Bytes())->hash);
  EXPECT_NE(Read(one.Bytes())->hash, Read(one.Bytes() + "x")->hash);
}

// Without a file: metadata, tensors and configuration.
absl::StatusOr<CheckpointHeader> ReadInMemory(std::string_view bytes) {
  auto content = ParseGguf(std::as_bytes(std::span(bytes)));
  if (!content.ok()) return content.status();
  CheckpointHeader header;
  header.format = CheckpointFormat::kGguf;
  auto config = ConfigFromGguf("tiny.gguf", *content, {}, &header.warnings);
  if (!config.ok()) return config.status();
  header.config = *std::move(config);
  header.tensors = std::move(content->tensors);
  return header;
}

TEST(Gguf, TruncationAtEveryByte) {
  const std::string whole = TinyLlama().Bytes();
  ASSERT_TRUE(ReadInMemory(whole).ok());
  for (size_t size = 0; size < whole.size(); ++size) {
    const absl::Status status = ReadInMemory(std::string_view(whole).substr(0, size)).status();
    ASSERT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << "at byte " << size;
    ASSERT_FALSE(status.message().empty());
    if (size % 101 == 0) {
      ASSERT_FALSE(Read(whole.substr(0, size)).ok());
    }
  }
}

// Every byte of the header changed, one at a time: an answer of either kind, never a crash (run under the sanitizers).
TEST(Gguf, EveryByteOfTheHeaderChanged) {
  const GgufFile file = TinyLlama();
  const std::string whole = file.Bytes();
  const size_t length = file.Header().size();
  for (size_t i = 0; i < length; ++i) {
    for (const char change : {'\x01', '\x80', '\xff'}) {
      std::string bytes = whole;
      bytes[i] = static_cast<char>(bytes[i] ^ change);
      if (const auto header = ReadInMemory(bytes); header.ok()) (void)CheckTensors(*header, TensorTable(*header));
    }
  }
}

struct Attack {
  const char* named;  // stands in the message
  std::function<std::string()> bytes;
};

std::string With(const std::function<void(GgufFile&)>& change) {
  GgufFile f = TinyLlama();
  change(f);
  return f.Bytes();
}
std::string Patched(size_t at, const std::string& patch) {
  std::string bytes = TinyLlama().Bytes();
  bytes.replace(at, patch.size(), patch);
  return bytes;
}

void RunAttacks(const std::vector<Attack>& attacks) {
  for (const Attack& attack : attacks) {
    const auto header = Read(attack.bytes());
    ASSERT_FALSE(header.ok()) << attack.named;
    EXPECT_EQ(header.status().code(), absl::StatusCode::kInvalidArgument) << header.status();
    EXPECT_NE(std::string(header.status().message()).find(attack.named), std::string::npos)
        << attack.named << " is not in: " << header.status();
  }
}

TEST(Gguf, ADamagedStructureIsRefusedByName) {
  constexpr uint64_t kHuge = uint64_t{1} << 63;
  const auto key = [](const std::string& typed) { return With([=](GgufFile& f) { f.Set("x", typed); }); };
  const auto array = [=](uint32_t type, uint64_t count, const std::string& items) {
    return key(Raw<uint32_t>(9) + Raw(type) + Raw(count) + items);
  };
  RunAttacks({
      {"magic", [] { return Patched(0, "GGML"); }},
      {"version: is 0", [] { return Patched(4, Raw<uint32_t>(0)); }},
      {"version: is 1", [] { return Patched(4, Raw<uint32_t>(1)); }},
      {"version: is 99", [] { return Patched(4, Raw<uint32_t>(99)); }},
      {"big-endian", [] { return Patched(4, Raw<uint32_t>(3u << 24)); }},
      {"tensor_count", [=] { return Patched(8, Raw(kHuge)); }},
      {"tensor", [] { return Patched(8, Raw<uint64_t>(1000)); }},
      {"metadata_kv_count", [=] { return Patched(16, Raw(kHuge)); }},
      {"key 0", [=] { return Patched(24, Raw(kHuge)); }},
      {"x", [=] { return key(Raw<uint32_t>(8) + Raw(kHuge)); }},
      {"value type 13", [=] { return key(Raw<uint32_t>(13) + Raw<uint32_t>(0)); }},
      {"value type 4294967295", [=] { return key(Raw<uint32_t>(UINT32_MAX)); }},
      {"boolean is 2", [=] { return key(Raw<uint32_t>(7) + "\2"); }},
      {"arrays of arrays", [=] { return array(9, 1, ""); }},
      {"element type 255", [=] { return array(255, 1, ""); }},
      {"at most", [=] { return array(4, kHuge, ""); }},
      {"bytes follow", [=] { return array(4, 1 << 20, ""); }},
      {"x", [=] { return array(8, 1, Raw(kHuge)); }},
      {"2^63 - 1", [=] { return array(10, 1, Raw(UINT64_MAX)); }},
      {"occurs twice", [] { return With([](GgufFile& f) { f.keys.push_back(f.keys[1]); }); }},
      {"general.alignment: is 0", [] { return With([](GgufFile& f) { f.U32("general.alignment", 0); }); }},
      {"general.alignment: is 3", [] { return With([](GgufFile& f) { f.U32("general.alignment", 3); }); }},
      {"general.alignment: is 2147483648",
       [] { return With([](GgufFile& f) { f.U32("general.alignment", 1u << 31); }); }},
      {"general.alignment", [] { return With([](GgufFile& f) { f.String("general.alignment", "32"); }); }},
  });
}

TEST(Gguf, WrongTensorsAreRefusedByName) {
  constexpr uint64_t kHuge = uint64_t{1} << 63;
  const auto tensor = [](const std::function<void(GgufFile::Tensor&)>& change) {
    return With([&](GgufFile& f) { change(f.tensors[2]); });
  };
  RunAttacks({
      {"n_dims is 0", [=] { return tensor([](auto& t) { t.ne = {}; }); }},
      {"n_dims is 9", [=] { return tensor([](auto& t) { t.ne = std::vector<uint64_t>(9, 1); }); }},
      {"overflows", [=] { return tensor([](auto& t) { t.ne = {uint64_t{1} << 32, uint64_t{1} << 32}; }); }},
      {"overflows", [=] { return tensor([=](auto& t) { t.ne = {kHuge}; }); }},
      {"overflows", [=] { return tensor([](auto& t) { t.ne = {uint64_t{1} << 62}; }); }},
      {"zero", [=] { return tensor([](auto& t) { t.ne = {8, 0}; }); }},
      {"tensors of type 255: not supported; there is 1, blk.0.attn_q.weight first; supported: F32",
       [=] { return tensor([](auto& t) { t.type = 255; }); }},
      {"tensors of type Q2_K (10): not supported; there is 1, blk.0.attn_q.weight first",
       [=] { return tensor([](auto& t) { t.type = 10; }); }},
      {"tensor blk.0.attn_q.weight: rows of 8 elements are no multiple of q4_k's block of 256",
       [=] { return tensor([](auto& t) { t.type = 12; }); }},
      {"no multiple of q8_0's block of 32", [=] { return tensor([](auto& t) { t.type = 8; }); }},
      {"alignment", [=] { return tensor([](auto& t) { t.offset += 4; }); }},
      {"beyond the end", [=] { return tensor([](auto& t) { t.offset = 1 << 20; }); }},
      {"beyond the end", [=] { return tensor([](auto& t) { t.offset = UINT64_MAX - 31; }); }},
      {"beyond the end", [=] { return tensor([](auto& t) { t.ne = {8, 1 << 20}; }); }},
      {"overlap", [=] { return tensor([](auto& t) { t.offset = 0; }); }},
      {"occurs twice", [=] { return tensor([](auto& t) { t.name = "blk.0.attn_k.weight"; }); }},
      {"at most 255", [=] { return tensor([](auto& t) { t.name = std::string(300, 'x'); }); }},
  });
}

TEST(Gguf, WrongHyperparametersAreRefusedByName) {
  const auto u32 = [](const char* key, uint32_t value) {
    return [=] { return With([=](GgufFile& f) { f.Set(key, Raw<uint32_t>(4) + Raw(value)); }); };
  };
  const auto f32 = [](const char* key, float value) {
    return [=] { return With([=](GgufFile& f) { f.Set(key, Raw<uint32_t>(6) + Raw(value)); }); };
  };
  const auto text = [](const char* key, const std::string& value) {
    return [=] { return With([=](GgufFile& f) { f.Set(key, Raw<uint32_t>(8) + GgufFile::Text(value)); }); };
  };
  const auto without = [](size_t key) {
    return [=] { return With([=](GgufFile& f) { f.keys.erase(f.keys.begin() + key); }); };
  };
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();
  RunAttacks({
      {"supported: llama", text("general.architecture", "mamba")},
      {"general.architecture", u32("general.architecture", 5)},
      {"general.architecture: is missing", without(0)},
      {"llama.block_count: is missing", without(1)},
      {"llama.block_count: is 0", u32("llama.block_count", 0)},
      {"llama.block_count: is 1000000000", u32("llama.block_count", 1000000000)},
      {"llama.context_length", u32("llama.context_length", 1u << 31)},
      {"llama.embedding_length", u32("llama.embedding_length", 0)},
      {"llama.attention.head_count: is 0", u32("llama.attention.head_count", 0)},
      {"llama.attention.head_count: 3 does not divide", u32("llama.attention.head_count", 3)},
      {"llama.attention.head_count_kv: is 0", u32("llama.attention.head_count_kv", 0)},
      {"larger than that of heads", u32("llama.attention.head_count_kv", 4)},
      {"llama.attention.key_length", u32("llama.attention.key_length", 1u << 30)},
      {"must be even", u32("llama.attention.key_length", 3)},
      {"llama.attention.value_length", u32("llama.attention.value_length", 8)},
      {"llama.rope.dimension_count", u32("llama.rope.dimension_count", 3)},
      {"llama.rope.freq_base: is 0", f32("llama.rope.freq_base", 0)},
      {"llama.rope.freq_base", f32("llama.rope.freq_base", kNan)},
      {"llama.rope.freq_base", f32("llama.rope.freq_base", kInf)},
      {"llama.attention.layer_norm_rms_epsilon", f32("llama.attention.layer_norm_rms_epsilon", 0)},
      {"llama.attention.layer_norm_rms_epsilon", f32("llama.attention.layer_norm_rms_epsilon", -1)},
      {"llama.attention.layer_norm_rms_epsilon", text("llama.attention.layer_norm_rms_epsilon", "1e-5")},
      {"tokenizer.ggml.tokens",
       [] {
         return With([](GgufFile& f) {
           f.Set("tokenizer.ggml.tokens", Raw<uint32_t>(9) + Raw<uint32_t>(8) + Raw<uint64_t>(0));
         });
       }},
      {"llama.expert_count", u32("llama.expert_count", 8)},
      {"supported: none, linear, yarn",
       [] {
         return With([](GgufFile& f) {
           f.String("llama.rope.scaling.type", "longrope");
           f.F32("llama.rope.scaling.factor", 2);
         });
       }},
      {"rope_freqs.weight", [] { return With([](GgufFile& f) { f.Add("rope_freqs.weight", {3}); }); }},
  });
}

TEST(Gguf, Version2HasTheLayoutOfVersion3) {
  GgufFile f = TinyLlama();
  const auto three = Read(f.Bytes());
  f.version = 2;
  const auto two = Read(f.Bytes());
  ASSERT_TRUE(two.ok()) << two.status();
  EXPECT_EQ(two->tensors.at("output_norm.weight").offset, three->tensors.at("output_norm.weight").offset);
  EXPECT_EQ(two->config.hidden, 8);
}

// What llama.cpp warns of and serves: ids that are not there, a vocab_size that is not that of the embedding.
TEST(Gguf, WrongNumbersThatNothingNeedsAreWarnings) {
  for (const uint32_t id : {UINT32_MAX, 4u, 1u << 31}) {
    for (const char* name : {"bos", "eos", "eot", "eom", "unknown", "padding", "seperator", "mask", "fim_pad"}) {
      GgufFile f = TinyLlama();
      const std::string key = std::string("tokenizer.ggml.") + name + "_token_id";
      f.Set(key, Raw<uint32_t>(4) + Raw(id));
      const auto header = Read(f.Bytes());
      ASSERT_TRUE(header.ok()) << header.status();
      ASSERT_EQ(header->warnings.size(), 1u) << key;
      EXPECT_NE(header->warnings[0].find("tiny.gguf: " + key + ": is " + std::to_string(id)), std::string::npos)
          << header->warnings[0];
      EXPECT_EQ(header->config.eos, name == std::string("eos") ? std::vector<int>{} : std::vector<int>{2});
    }
  }
  GgufFile f = TinyLlama();
  f.Set("tokenizer.ggml.padding_token_id", Raw<uint32_t>(5) + Raw<int32_t>(-1));
  f.U32("llama.vocab_size", 5);
  const auto header = Read(f.Bytes());
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->config.vocab, 4);
  ASSERT_EQ(header->warnings.size(), 2u);
  EXPECT_NE(header->warnings[0].find("llama.vocab_size: is 5, but token_embd.weight has 4 rows"), std::string::npos);
  EXPECT_NE(header->warnings[1].find("padding_token_id: is -1"), std::string::npos);
  EXPECT_TRUE(Read(TinyLlama().Bytes())->warnings.empty());
}

TEST(Gguf, EveryFaultAtOnce) {
  GgufFile f = TinyLlama();
  f.tensors[2].type = 10;
  f.tensors[3].type = 10;
  f.tensors[4].type = 23;
  f.U32("llama.expert_count", 8);
  f.Set("llama.block_count", Raw<uint32_t>(4) + Raw<uint32_t>(0));
  const auto lines = [](const std::string& bytes) {
    std::vector<std::string> out = {""};
    for (const char c : std::string(Read(bytes).status().message())) {
      if (c == '\n') {
        out.emplace_back();
      } else {
        out.back().push_back(c);
      }
    }
    for (std::string& line : out) line = line.substr(std::min(line.find("tiny.gguf: "), line.size()));
    return out;
  };
  EXPECT_EQ(lines(f.Bytes()),
            (std::vector<std::string>{
                "tiny.gguf: tensors of type IQ4_XS (23): not supported; there is 1, blk.0.attn_v.weight first; "
                "supported: F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K",
                "tiny.gguf: tensors of type Q2_K (10): not supported; there are 2, blk.0.attn_q.weight first; "
                "supported: F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K",
                "tiny.gguf: llama.block_count: is 0, must be a whole number from 1 to 4096",
                "tiny.gguf: llama.expert_count: mixtures of experts are not supported"}));
  f.Set("general.architecture", Raw<uint32_t>(8) + GgufFile::Text("gemma3"));
  const auto foreign = lines(f.Bytes());
  ASSERT_EQ(foreign.size(), 3u) << "an unknown architecture's keys mean nothing";
  EXPECT_EQ(foreign[0],
            "tiny.gguf: general.architecture: \"gemma3\" is not known; supported: llama (Mistral too), qwen2, qwen3, "
            "gpt2");
  EXPECT_NE(foreign[2].find("of type Q2_K"), std::string::npos);
}

TEST(Gguf, ScalingsWithoutAFactorScaleNothing) {
  for (const char* type : {"linear", "yarn"}) {
    GgufFile f = TinyLlama();
    f.String("llama.rope.scaling.type", type);
    const auto header = Read(f.Bytes());
    ASSERT_TRUE(header.ok()) << header.status();
    EXPECT_EQ(header->config.rope.factor, 1);
    EXPECT_EQ(header->config.max_positions, 32);
  }
}

TEST(Gguf, AFactorWithoutATypeScalesLinearly) {
  struct Case {
    const char* type;   // empty: no such key
    float factor, old;  // rope.scaling.factor, rope.scale_linear; 0: no such key
    RopeScaling scaling;
    double wanted;
  };
  const Case cases[] = {{"", 4, 0, RopeScaling::kLinear, 4},       {"", 0, 2, RopeScaling::kLinear, 2},
                        {"", 4, 2, RopeScaling::kLinear, 4},       {"linear", 0, 2, RopeScaling::kLinear, 2},
                        {"linear", 4, 2, RopeScaling::kLinear, 4}, {"none", 4, 2, RopeScaling::kNone, 1}};
  for (const Case& c : cases) {
    GgufFile f = TinyLlama();
    if (c.type[0] != 0) f.String("llama.rope.scaling.type", c.type);
    if (c.factor > 0) f.F32("llama.rope.scaling.factor", c.factor);
    if (c.old > 0) f.F32("llama.rope.scale_linear", c.old);
    const auto header = Read(f.Bytes());
    ASSERT_TRUE(header.ok()) << header.status();
    EXPECT_EQ(header->config.rope.scaling, c.scaling) << c.type << " " << c.factor << " " << c.old;
    EXPECT_EQ(header->config.rope.factor, c.wanted) << c.type << " " << c.factor << " " << c.old;
  }
}

TEST(Gguf, AVectorMayBeAMatrixOfOneRow) {
  GgufFile f = TinyLlama();
  f.tensors[1].ne = {8, 1};
  f.tensors[10].ne = {8, 1, 1};
  const auto header = Read(f.Bytes());
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(CheckTensors(*header, TensorTable(*header)), std::vector<std::string>{});
  std::string bytes = f.Bytes();
  const std::vector<float> norm = {1, 2, 3, 4, 5, 6, 7, 8};
  std::memcpy(bytes.data() + header->tensors.at("output_norm.weight").offset, norm.data(), 8 * sizeof(float));
  const TempFolder folder;
  const auto weights = Weights::Map(*ReadCheckpointHeader(folder.Write("tiny.gguf", bytes)));
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ(weights->Vector(Role::kFinalNorm, -1, 0, 8), norm);
  f.tensors[1].ne = {1, 8};
  const auto column = Read(f.Bytes());
  ASSERT_TRUE(column.ok()) << column.status();
  EXPECT_EQ(CheckTensors(*column, TensorTable(*column)).size(), 1u) << "ne[0] is the row's length";
}

TEST(Gguf, TensorsOfOtherUsesAreWarnedOf) {
  GgufFile f = TinyLlama();
  for (const char* name : {"cls.weight", "v.patch_embd.weight", "blk.0.attn_k.input_scale",
                           "blk.1.nextn.eh_proj.weight", "blk.0.attn_rot_embd.weight", "blk.0.ffn_up.weight.lora_a"}) {
    f.Add(name, {8});
  }
  auto header = Read(f.Bytes());
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(CheckTensors(*header, TensorTable(*header)), std::vector<std::string>{});
  ASSERT_EQ(header->warnings.size(), 1u);
  EXPECT_NE(header->warnings[0].find(
                "6 tensors that the model (llama) does not use are passed over: blk.0.attn_k.input_scale"),
            std::string::npos)
      << header->warnings[0];
  f.Add("blk.1.attn_q.weight", {8, 8});
  header = Read(f.Bytes());
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(CheckTensors(*header, TensorTable(*header)).size(), 1u) << "a layer too many is a fault";
}

// llama.cpp multiplies the product by it, whatever the weight's type.
TEST(Gguf, AScaleOfAWeightIsRefused) {
  for (const char* name :
       {"blk.0.attn_q.scale", "blk.0.ffn_down.scale", "output.scale", "blk.0.ffn_gate.weight_scale"}) {
    GgufFile f = TinyLlama();
    f.Add(name, {1});
    const auto header = Read(f.Bytes());
    ASSERT_TRUE(header.ok()) << header.status();
    EXPECT_EQ(
        CheckTensors(*header, TensorTable(*header)),
        std::vector<std::string>{absl::StrCat("tensor ", name, ": is surplus: the model (llama) has no such tensor")});
    EXPECT_TRUE(header->warnings.empty());
  }
}

TEST(Gguf, TensorsThatAreMissingOrMisshapenAreNamed) {
  GgufFile f = TinyLlama();
  f.tensors[2].name = "blk.0.attn_x.weight";
  f.tensors[7].ne = {6, 8};
  const auto header = Read(f.Bytes());
  ASSERT_TRUE(header.ok()) << header.status();
  const auto faults = CheckTensors(*header, TensorTable(*header));
  ASSERT_EQ(faults.size(), 3u);
  EXPECT_EQ(faults[0], "tensor blk.0.attn_q.weight: is missing");
  EXPECT_EQ(faults[1], "tensor blk.0.ffn_gate.weight: shape is [8, 6], the model needs [6, 8]");
  EXPECT_EQ(faults[2], "tensor blk.0.attn_x.weight: is surplus: the model (llama) has no such tensor");
}

TEST(Gguf, RopeFactorsAndScalings) {
  GgufFile f = TinyLlama();
  f.String("llama.rope.scaling.type", "yarn");
  f.F32("llama.rope.scaling.factor", 4);
  f.U32("llama.rope.scaling.original_context_length", 16);
  auto header = Read(f.Bytes());
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->config.rope.scaling, RopeScaling::kYarn);
  EXPECT_EQ(header->config.rope.factor, 4);
  EXPECT_EQ(header->config.max_positions, 64);
  f = TinyLlama();
  f.Add("rope_freqs.weight", {2});
  std::string bytes = f.Bytes();
  const float factors[2] = {1, 8};
  std::memcpy(bytes.data() + bytes.size() - 8, factors, 8);
  header = Read(bytes);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->config.rope.factors, (std::vector<float>{1, 8}));
  EXPECT_TRUE(CheckTensors(*header, TensorTable(*header)).empty());
  std::memset(bytes.data() + bytes.size() - 4, 0, 4);
  EXPECT_FALSE(Read(bytes).ok()) << "a factor of 0 divides";
}

TEST(Gguf, FilesOfThePyPiPackage) {
  const std::string folder = PANGEA_SOURCE_DIR "/integration_tests/golden/gguf/";
  for (const auto& [name, dtype] : {std::pair{"qwen2-f32", DType::kF32},
                                    {"qwen2-f16", DType::kF16},
                                    {"qwen2-bf16", DType::kBF16},
                                    {"qwen2-q8_0", DType::kQ8_0},
                                    {"qwen2-q4_0", DType::kQ4_0},
                                    {"qwen2-q4_1", DType::kQ4_1},
                                    {"qwen2-q5_0", DType::kQ5_0},
                                    {"qwen2-q5_1", DType::kQ5_1},
                                    {"llama-q4_k", DType::kQ4_K},
                                    {"llama-q5_k", DType::kQ5_K},
                                    {"llama-q6_k", DType::kQ6_K},
                                    {"llama3-q8_0", DType::kQ8_0},
                                    {"qwen3-f16", DType::kF16},
                                    {"gpt2-f32", DType::kF32}}) {
    const auto header = ReadCheckpointHeader(folder + name + ".gguf");
    ASSERT_TRUE(header.ok()) << header.status();
    EXPECT_EQ(header->config.dtype, dtype) << name;
    EXPECT_EQ(CheckTensors(*header, TensorTable(*header)), std::vector<std::string>{}) << name;
  }
}

}  // namespace
}  // namespace pangea
