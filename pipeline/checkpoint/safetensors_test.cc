#include "pipeline/checkpoint/safetensors.h"

#include <gtest/gtest.h>

#include "pipeline/checkpoint/checkpoint_test_util.h"
#include "pipeline/checkpoint/fields.h"

namespace pangea {
namespace {

absl::Status Parse(const std::string& bytes, CheckpointHeader* header) {
  header->files = {"m.safetensors"};
  return ParseSafetensors(std::as_bytes(std::span(bytes)), bytes.size(), 0, "m.safetensors", header);
}

std::string Entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
}

TEST(Safetensors, HeaderIsRead) {
  CheckpointHeader header;
  const std::string text = "{\"__metadata__\":{\"format\":\"pt\"}," + Entry("a", "F32", "[2,3]", "[0,24]") + "," +
                           Entry("b", "BF16", "[2]", "[24,28]") + "," + Entry("empty", "F16", "[0,7]", "[24,24]") +
                           "," + Entry("scalar", "I64", "[]", "[28,36]") + "}  ";
  ASSERT_EQ(Parse(SafetensorsBytes(text, std::string(36, 'x')), &header), absl::OkStatus());
  ASSERT_EQ(header.tensors.size(), 4u);
  EXPECT_EQ(header.tensors.at("a").shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(header.tensors.at("b").offset, 8 + text.size() + 24);
  EXPECT_EQ(header.tensors.at("scalar").bytes, 8u);
}

TEST(Safetensors, TruncationAtEveryByte) {
  const std::string whole = SafetensorsBytes("{" + Entry("a", "F32", "[4]", "[0,16]") + "}", std::string(16, 'x'));
  for (size_t size = 0; size < whole.size(); ++size) {
    CheckpointHeader header;
    EXPECT_FALSE(Parse(whole.substr(0, size), &header).ok()) << size;
  }
  CheckpointHeader header;
  EXPECT_TRUE(Parse(whole, &header).ok());
}

TEST(Safetensors, ADamagedHeaderIsRefusedByName) {
  const std::string data(64, 'x');
  const auto one = [&](const std::string& entries) { return SafetensorsBytes("{" + entries + "}", data); };
  std::string deep;
  for (int i = 0; i < 100000; ++i) deep += "[";
  const std::vector<std::pair<std::string, std::string>> attacks = {
      {"header length", Raw<uint64_t>(UINT64_MAX) + "{}"},
      {"header length", Raw<uint64_t>(100'000'001) + std::string(100, ' ')},
      {"header length", Raw<uint64_t>(3) + "{}"},
      {"not valid JSON", SafetensorsBytes("{\"a\":", data)},
      {"not valid JSON", SafetensorsBytes("", data)},
      {"must be an object", SafetensorsBytes("[]", data)},
      {"deep", SafetensorsBytes(deep, data)},
      {"occurs twice", one(Entry("a", "F32", "[2]", "[0,8]") + "," + Entry("a", "F32", "[2]", "[8,16]"))},
      {"tensor a: must be an object", one("\"a\":5")},
      {"dtype", one("\"a\":{\"shape\":[],\"data_offsets\":[0,4]}")},
      {"shape is missing", one("\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}")},
      {"data_offsets is missing", one("\"a\":{\"dtype\":\"F32\",\"shape\":[]}")},
      {"outside the file", one(Entry("a", "F8_E5M2", "[65]", "[0,65]"))},
      {"shape must be a list", one(Entry("a", "F32", "[-1]", "[0,4]"))},
      {"shape must be a list", one(Entry("a", "F32", "[1.5]", "[0,4]"))},
      {"shape must be a list", one(Entry("a", "F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"))},
      {"shape must be a list", one(Entry("a", "F32", "[18446744073709551615]", "[0,4]"))},
      {"shape overflows", one(Entry("a", "F32", "[4294967296,4294967296]", "[0,4]"))},
      {"outside the file", one(Entry("a", "F32", "[17]", "[0,68]"))},
      {"outside the file", one(Entry("a", "F32", "[1]", "[8,4]"))},
      {"two whole numbers", one(Entry("a", "F32", "[1]", "[0]"))},
      {"two whole numbers", one(Entry("a", "F32", "[1]", "[0,-4]"))},
      {"span 8 bytes, dtype and shape need 4", one(Entry("a", "F32", "[1]", "[0,8]"))},
      {"overlap", one(Entry("a", "F32", "[4]", "[0,16]") + "," + Entry("b", "F32", "[4]", "[12,28]"))},
      {"overlap", one(Entry("a", "F32", "[4]", "[0,16]") + "," + Entry("b", "F32", "[1]", "[4,8]"))},
  };
  for (const auto& [named, bytes] : attacks) {
    CheckpointHeader header;
    const absl::Status status = Parse(bytes, &header);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << named;
    EXPECT_NE(std::string(status.message()).find(named), std::string::npos) << named << " is not in: " << status;
  }
}

TEST(Safetensors, TensorsOfUnknownTypesAreSetApart) {
  CheckpointHeader header;
  const std::string text = "{" + Entry("a", "F8_E5M2", "[8]", "[0,8]") + "," + Entry("b", "F32", "[2]", "[8,16]") + "}";
  ASSERT_EQ(Parse(SafetensorsBytes(text, std::string(16, 'x')), &header), absl::OkStatus());
  EXPECT_EQ(header.odd_types, (std::map<std::string, std::string>{{"a", "F8_E5M2"}}));
  EXPECT_EQ(header.tensors.size(), 1u);
}

TEST(Safetensors, BuffersOfUnknownTypesAreSkipped) {
  CheckpointHeader header;
  const std::string text = "{" + Entry("h.0.attn.bias", "U16", "[2]", "[0,4]") + "}";
  EXPECT_TRUE(Parse(SafetensorsBytes(text, "xxxx"), &header).ok());
  EXPECT_TRUE(header.tensors.empty());
}

// Shards.
class Sharded : public testing::Test {
 protected:
  void Shard(const std::string& file, const std::string& tensor) {
    folder_.Write(file, SafetensorsBytes("{" + Entry(tensor, "F32", "[1]", "[0,4]") + "}", "xxxx"));
  }
  absl::Status Read(const std::string& index) {
    folder_.Write("model.safetensors.index.json", index);
    header_ = {};
    Sha256 hash;
    return ReadSafetensorsFolder(folder_.path(), &header_, &hash);
  }
  TempFolder folder_;
  CheckpointHeader header_;
};

TEST_F(Sharded, TensorsComeFromTheirShards) {
  Shard("m-1.safetensors", "a");
  Shard("m-2.safetensors", "b");
  ASSERT_EQ(Read(R"({"metadata":{},"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}})"), absl::OkStatus());
  EXPECT_EQ(header_.files.size(), 2u);
  EXPECT_NE(header_.tensors.at("a").file, header_.tensors.at("b").file);
}

TEST_F(Sharded, BadIndexesAreNamed) {
  Shard("m-1.safetensors", "a");
  Shard("m-2.safetensors", "b");
  Shard("m-3.safetensors", "a");
  for (const auto& [named, index] : std::vector<std::pair<std::string, std::string>>{
           {"weight_map", R"({})"},
           {"weight_map", R"({"weight_map":[]})"},
           {"weight_map", R"({"weight_map":{}})"},
           {"weight_map", R"([])"},
           {"not valid JSON", R"({"weight_map")"},
           {"same folder", R"({"weight_map":{"a":"../m-1.safetensors"}})"},
           {"same folder", R"({"weight_map":{"a":"/etc/passwd"}})"},
           {"same folder", R"({"weight_map":{"a":"x/m-1.safetensors"}})"},
           {"same folder", R"({"weight_map":{"a":"..safetensors"}})"},
           {"same folder", R"({"weight_map":{"a":5}})"},
           {"same folder", R"({"weight_map":{"a":"m-1.bin"}})"},
           {"is not in m-2.safetensors", R"({"weight_map":{"a":"m-2.safetensors"}})"},
           {"is already in", R"({"weight_map":{"a":"m-1.safetensors","c":"m-3.safetensors"}})"}}) {
    const absl::Status status = Read(index);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << index;
    EXPECT_NE(std::string(status.message()).find(named), std::string::npos) << named << " is not in: " << status;
  }
  const absl::Status absent = Read(R"({"weight_map":{"a":"m-8.safetensors","b":"m-9.safetensors"}})");
  EXPECT_EQ(absent.code(), absl::StatusCode::kNotFound);
  for (const char* name : {"m-8.safetensors", "m-9.safetensors"}) {
    EXPECT_NE(absent.message().find(name), std::string::npos) << absent;
  }
}

TEST(ParseJson, DepthAndRepeatedNames) {
  EXPECT_TRUE(ParseJson(R"({"a":{"b":1},"c":{"b":"{[\"{"}})", "x", 3).ok());
  EXPECT_FALSE(ParseJson(R"({"a":{"b":{"c":[]}}})", "x", 3).ok());
  EXPECT_FALSE(ParseJson(R"({"a":{"b":1,"b":2}})", "x", 8).ok());
  EXPECT_FALSE(ParseJson("{} {}", "x", 8).ok());
}

TEST(Sha256, StandardVectors) {
  EXPECT_EQ(Sha256().Hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Sha256().AddRaw("abc", 3).Hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  const std::string million(1000000, 'a');
  EXPECT_EQ(Sha256().AddRaw(million.data(), 999).AddRaw(million.data(), million.size() - 999).Hex(),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  EXPECT_NE(Sha256().Add("ab").Add("c").Hex(), Sha256().Add("a").Add("bc").Hex());
}

}  // namespace
}  // namespace pangea
