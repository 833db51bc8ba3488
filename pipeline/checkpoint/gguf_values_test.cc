// Every value of GGUF files against those that another implementation takes from them (the PyPI package gguf,
// integration_tests/golden/make_gguf_values.py): files of each quantised type, and a real one that mixes five.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "kernels/ops.h"
#include "kernels/threads.h"
#include "pipeline/checkpoint/gguf.h"
#include "pipeline/checkpoint/hash.h"
#include "pipeline/checkpoint/mapped_file.h"

namespace pangea {
namespace {

using nlohmann::json;

const std::string kRoot = PANGEA_SOURCE_DIR;

// "TYPE SHA-256" of a tensor's values, as the files of expected values have it.
std::string Values(const TensorInfo& info, std::span<const std::byte> file) {
  const int64_t width = info.shape.back();
  WeightRows table;
  table.dtype = info.dtype;
  table.data = file.data() + info.offset;
  table.pitch = RowBytes(info.dtype, width);
  table.n = std::accumulate(info.shape.begin(), info.shape.end() - 1, int64_t{1}, std::multiplies<>());
  Sha256 hash;
  std::vector<float> row(static_cast<size_t>(width));
  for (int32_t i = 0; i < table.n; ++i) {
    ReadRows(table, width, std::span(&i, 1), row.data());
    hash.AddRaw(row.data(), row.size() * sizeof(float));
  }
  return absl::StrCat(absl::AsciiStrToUpper(std::string(Info(info.dtype).name)), " ", hash.Hex());
}

// Compares all tensors of a file; returns the types that were met.
std::set<std::string> ExpectValues(const std::string& path, const json& expected) {
  std::set<std::string> types;
  const auto file = MappedFile::Open(path);
  EXPECT_TRUE(file.ok()) << file.status();
  const auto content = ParseGguf(file->bytes());
  EXPECT_TRUE(content.ok()) << content.status();
  if (!content.ok()) return types;
  EXPECT_EQ(content->tensors.size(), expected.size());
  EXPECT_TRUE(content->unsupported.empty());
  for (const auto& [name, info] : content->tensors) {
    const std::string values = Values(info, file->bytes());
    EXPECT_EQ(values, expected.value(name, "")) << path << ": " << name;
    types.insert(values.substr(0, values.find(' ')));
  }
  return types;
}

TEST(GgufValues, OfEveryQuantisedTypeAreThoseOfThePyPiPackage) {
  SetComputeFloatMode();
  const std::string folder = kRoot + "/integration_tests/golden/gguf/";
  const json files = json::parse(std::ifstream(folder + "values.json"));
  std::set<std::string> met;
  for (const auto& [name, expected] : files.items()) met.merge(ExpectValues(folder + name, expected));
  for (const QuantFormat& format : kQuantFormats)
    EXPECT_TRUE(met.contains(absl::AsciiStrToUpper(std::string(format.name)))) << format.name << ": no file has it";
}

// Gemma 3 270M as Q4_K_M: its widths of 640 and 2048 mix Q4_K, Q5_0, Q6_K, Q8_0 and F32.
TEST(GgufValues, OfARealFileAreThoseOfThePyPiPackage) {
  SetComputeFloatMode();
  const std::string name = "gemma-3-270m-q4_k_m.gguf", path = kRoot + "/models/" + name;
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not there; tools/get_model.sh --tests fetches it";
  const json expected = json::parse(std::ifstream(kRoot + "/integration_tests/data/gemma3_values.json"));
  EXPECT_EQ(ExpectValues(path, expected.at(name)), (std::set<std::string>{"F32", "Q4_K", "Q5_0", "Q6_K", "Q8_0"}));
}

// One bit of a scale, of a weight or of a type's name must show.
TEST(GgufValues, OneWrongBitIsSeen) {
  SetComputeFloatMode();
  const std::string folder = kRoot + "/integration_tests/golden/gguf/", name = "llama-q5_k.gguf";
  const json expected = json::parse(std::ifstream(folder + "values.json")).at(name);
  const auto file = MappedFile::Open(folder + name);
  ASSERT_TRUE(file.ok()) << file.status();
  const TensorInfo info = ParseGguf(file->bytes())->tensors.at("blk.1.attn_k.weight");
  const auto bytes = file->bytes().subspan(info.offset, info.bytes);
  for (const size_t at : {2u, 4u, 15u, 16u, 47u, 48u, 175u}) {
    std::vector<std::byte> copy(bytes.begin(), bytes.end());
    TensorInfo moved = info;
    moved.offset = 0;
    EXPECT_EQ(Values(moved, copy), expected.at(info.name));
    copy[at] ^= std::byte{0x10};
    EXPECT_NE(Values(moved, copy), expected.at(info.name)) << at;
  }
}

}  // namespace
}  // namespace pangea
