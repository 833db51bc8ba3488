// GGUF files in several parts, as gguf-split writes them.
#include <gtest/gtest.h>

#include "pipeline/checkpoint/checkpoint_test_util.h"
#include "pipeline/checkpoint/content_hash.h"
#include "pipeline/checkpoint/gguf.h"
#include "pipeline/checkpoint/weights.h"

namespace pangea {
namespace {

std::string U16(uint16_t value) { return Raw<uint32_t>(2) + Raw(value); }

std::string Name(int part, int parts) {
  return "m-0000" + std::to_string(part + 1) + "-of-0000" + std::to_string(parts) + ".gguf";
}

// TinyLlama with an output matrix of its own, its tensors dealt out: `last` of them to the last part, the others
// evenly.
std::vector<GgufFile> Split(int parts, size_t last) {
  GgufFile whole = TinyLlama();
  whole.Add("output.weight", {8, 4});
  std::vector<GgufFile> out(parts);
  out[0].keys = whole.keys;
  const size_t first = whole.tensors.size() - last;
  for (size_t i = 0; i < whole.tensors.size(); ++i) {
    const size_t part = i >= first ? parts - 1 : i * (parts - 1) / first;
    out[part].Add(whole.tensors[i].name, whole.tensors[i].ne);
  }
  for (int i = 0; i < parts; ++i) {
    out[i].Set("split.no", U16(static_cast<uint16_t>(i)));
    out[i].Set("split.count", U16(static_cast<uint16_t>(parts)));
    out[i].Set("split.tensors.count", Raw<uint32_t>(5) + Raw(static_cast<int32_t>(whole.tensors.size())));
  }
  return out;
}

void Write(const TempFolder& folder, const std::vector<GgufFile>& parts) {
  const int count = static_cast<int>(parts.size());
  for (int i = 0; i < count; ++i) folder.Write(Name(i, count), parts[i].Bytes());
}

TEST(GgufSplit, AllPartsAreOneModelWhicheverIsGiven) {
  for (const int count : {2, 3}) {
    const TempFolder folder;
    const auto parts = Split(count, 1);
    Write(folder, parts);
    std::string hash;
    for (int given = 0; given < count; ++given) {
      const auto header = ReadCheckpointHeader(folder.path() + "/" + Name(given, count));
      ASSERT_TRUE(header.ok()) << header.status();
      ASSERT_EQ(header->files.size(), static_cast<size_t>(count));
      EXPECT_EQ(header->files.back(), folder.path() + "/" + Name(count - 1, count));
      EXPECT_FALSE(header->config.tied) << "the output matrix lies in the last part";
      EXPECT_EQ(header->config.hidden, 8) << "the keys are the first part's";
      EXPECT_EQ(header->tensors.size(), 12u);
      EXPECT_EQ(header->tensors.at("output.weight").file, count - 1);
      EXPECT_EQ(CheckTensors(*header, TensorTable(*header)), std::vector<std::string>{});
      if (given > 0) {
        EXPECT_EQ(header->hash, hash);
      }
      hash = header->hash;
    }
  }
}

TEST(GgufSplit, WeightsAndHashesComeFromEveryPart) {
  const TempFolder folder;
  const auto parts = Split(2, 1);
  Write(folder, parts);
  std::string bytes = parts[1].Bytes();
  const float value = 7.5f;
  std::memcpy(bytes.data() + bytes.size() - sizeof value, &value, sizeof value);
  const std::string given = folder.path() + "/" + Name(0, 2);
  const auto before = ReadCheckpointHeader(given);
  ASSERT_TRUE(before.ok()) << before.status();
  const auto content = ContentHash(*before);
  ASSERT_TRUE(content.ok()) << content.status();
  folder.Write(Name(1, 2), bytes);
  const auto header = ReadCheckpointHeader(given);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_NE(*ContentHash(*header), *content) << "one number of the second part differs";
  const auto weights = Weights::Map(*header);
  ASSERT_TRUE(weights.ok()) << weights.status();
  const TensorView head = weights->Find(Role::kHead);
  ASSERT_EQ(head.n, 4);
  float last = 0;
  std::memcpy(&last, head.data + 3 * head.pitch + 7 * sizeof last, sizeof last);
  EXPECT_EQ(last, value);
  auto longer = parts;
  longer[1].String("x", "y");
  Write(folder, longer);
  EXPECT_NE(ReadCheckpointHeader(given)->hash, header->hash) << "remote agents compare the headers of all parts";
}

TEST(GgufSplit, RopeFactorsOfALaterPart) {
  const TempFolder folder;
  auto parts = Split(2, 1);
  parts[1].Add("rope_freqs.weight", {2});
  for (GgufFile& part : parts) part.Set("split.tensors.count", Raw<uint32_t>(5) + Raw<int32_t>(13));
  Write(folder, parts);
  std::string bytes = parts[1].Bytes();
  const float factors[2] = {1, 8};
  std::memcpy(bytes.data() + bytes.size() - sizeof factors, factors, sizeof factors);
  folder.Write(Name(1, 2), bytes);
  const auto header = ReadCheckpointHeader(folder.path() + "/" + Name(0, 2));
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->config.rope.factors, (std::vector<float>{1, 8}));
}

TEST(GgufSplit, EveryPartThatDoesNotFitIsNamed) {
  const auto refusal = [](const std::vector<GgufFile>& parts, const std::vector<int>& missing, int given) {
    const TempFolder folder;
    const int count = static_cast<int>(parts.size());
    Write(folder, parts);
    for (const int part : missing) std::filesystem::remove(folder.path() + "/" + Name(part, count));
    const auto header = ReadCheckpointHeader(folder.path() + "/" + Name(given, count));
    EXPECT_FALSE(header.ok());
    return std::string(header.status().message());
  };
  const auto has = [](const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
  };
  auto parts = Split(3, 1);
  std::string text = refusal(parts, {1, 2}, 0);
  EXPECT_TRUE(has(text, Name(1, 3) + ": no such file: it is part 2 of 3")) << text;
  EXPECT_TRUE(has(text, Name(2, 3) + ": no such file: it is part 3 of 3")) << text;
  text = refusal(parts, {0}, 2);
  EXPECT_TRUE(has(text, Name(0, 3) + ": no such file: it is part 1 of 3")) << text;
  parts[1].Set("split.no", U16(2));
  text = refusal(parts, {}, 0);
  EXPECT_TRUE(has(text, Name(1, 3) + ": split.no: is 2, not 1")) << text;
  parts = Split(3, 1);
  parts[2].Set("split.count", U16(4));
  parts[1].keys.clear();
  text = refusal(parts, {}, 0);
  EXPECT_TRUE(has(text, Name(2, 3) + ": split.count: is 4, not 3")) << text;
  EXPECT_TRUE(has(text, Name(1, 3) + ": split.no: is missing, not 1")) << text;
  parts = Split(2, 1);
  parts[0].Set("split.tensors.count", Raw<uint32_t>(5) + Raw<int32_t>(20));
  text = refusal(parts, {}, 0);
  EXPECT_TRUE(has(text, "split.tensors.count: is 20, but the parts hold 12")) << text;
  parts = Split(2, 1);
  parts[1].Add("output_norm.weight", {8});
  parts[0].Set("split.tensors.count", Raw<uint32_t>(5) + Raw<int32_t>(13));
  text = refusal(parts, {}, 0);
  EXPECT_TRUE(has(text, Name(1, 2) + ": tensor output_norm.weight: is already in")) << text;
  parts = Split(2, 1);
  parts[0].Set("split.no", U16(7));
  text = refusal(parts, {}, 0);
  EXPECT_TRUE(has(text, "split.no: is 7")) << text;
}

TEST(GgufSplit, APartUnderAnotherNameIsNotTakenForTheWhole) {
  const TempFolder folder;
  const auto parts = Split(2, 1);
  Write(folder, parts);
  const auto header = ReadCheckpointHeader(folder.Write("model.gguf", parts[0].Bytes()));
  ASSERT_FALSE(header.ok());
  const std::string text(header.status().message());
  EXPECT_NE(text.find("model.gguf: is part 1 of 2"), std::string::npos) << text;
  EXPECT_NE(text.find("-00001-of-00002.gguf"), std::string::npos) << text;
}

TEST(GgufSplit, OnePartOfOneIsWholeUnderAnyName) {
  const TempFolder folder;
  GgufFile file = TinyLlama();
  file.Set("split.no", U16(0));
  file.Set("split.count", U16(1));
  const auto header = ReadCheckpointHeader(folder.Write("sha256-0a1b2c", file.Bytes()));
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->files.size(), 1u);
}

}  // namespace
}  // namespace pangea
