// Published strings and ids: llama.cpp's vectors (MIT) for GPT-2 and Qwen2, PanGu-alpha's golden vectors, and whatever
// the machine has of the real checkpoints.
#include <filesystem>

#include "master/text/text_test_util.h"
#include "nlohmann/json.hpp"
#include "pipeline/checkpoint/header.h"

namespace pangea {
namespace {

struct Vector {
  std::string text;
  std::vector<int32_t> ids;
};

std::vector<Vector> ReadVectors(const std::string& name) {
  const std::string input = ReadFile(TestData("vectors/" + name + ".inp"));
  std::istringstream lines(ReadFile(TestData("vectors/" + name + ".out")));
  const std::string separator = "\n__ggml_vocab_test__\n";
  std::vector<Vector> out;
  for (size_t begin = 0; begin <= input.size();) {
    const size_t end = std::min(input.find(separator, begin), input.size());
    Vector v{input.substr(begin, end - begin), {}};
    std::string line;
    std::getline(lines, line);  // the last string is empty, and so is its line
    std::istringstream ids(line);
    for (int32_t id; ids >> id;) v.ids.push_back(id);
    out.push_back(std::move(v));
    begin = end + separator.size();
  }
  return out;
}

void CheckVectors(const Text& text, const std::string& name) {
  const auto vectors = ReadVectors(name);
  ASSERT_EQ(vectors.size(), 47u);
  for (const auto& v : vectors) {
    EXPECT_EQ(Ids(text, v.text), v.ids) << v.text;
    EXPECT_EQ(text.Decode(v.ids, false), v.text);
  }
}

TEST(Vectors, Gpt2TokenizerJson) { CheckVectors(Gpt2(), "ggml-vocab-gpt-2.gguf"); }
TEST(Vectors, Qwen2VocabAndMerges) { CheckVectors(Qwen2(), "ggml-vocab-qwen2.gguf"); }

TEST(Vectors, Pangu) {
  const std::vector<Vector> golden = {
      {"你好，今天天气不错。", {5772, 10, 465, 235, 464, 1123, 12}},
      {"今天是一个好天气", {465, 16, 46, 70, 2786}},
      {"四川的省会是?", {3826, 11, 21652, 16, 28}},
      {"中国和美国和日本和法国和加拿大和澳大利亚的首都分别是哪里？",
       {96, 22, 337, 22, 691, 22, 3204, 22, 4672, 22, 6605, 11, 6539, 1249, 16, 1329, 28}},
      {"上联：春雨润人间，社会和谐万象新", {39, 2401, 17, 27545, 8949, 6402, 10, 384, 4513, 21243, 1485}},
      {"2021年4月23日，CLUE得分83。", {15284, 49, 123, 62, 1448, 92, 10, 13, 23378, 29747, 9439, 9043, 12}},
      {"Hello world\nfoo bar", {2142, 12372, 4541, 13, 4, 13, 36475, 13, 3, 1601, 11567, 13, 4, 13, 30024}},
      {"a  b", {1853, 13, 4, 13, 4, 1498}},
      {"<eot>", {13, 1674, 2996, 9529, 716}},
      {"😀", {13, 0}},
      {"ＡＢＣ１２３", {598, 1003, 542, 79, 99, 51}},
  };
  for (const auto& v : golden) EXPECT_EQ(Ids(Pangu(), v.text), v.ids) << v.text;
  EXPECT_EQ(Pangu().Decode(golden[0].ids, true), "你好,今天天气不错。");  // NFKC turned the comma
  EXPECT_EQ(Pangu().Decode(golden[6].ids, true), "Hello world\nfoo bar");
  EXPECT_EQ(Pangu().Decode(golden[7].ids, true), "a  b");
  EXPECT_EQ(Pangu().Decode(golden[8].ids, true), "<eot>");
  EXPECT_EQ(Pangu().Decode(golden[9].ids, true), "\xE2\x81\x87");  // U+2047
  EXPECT_EQ(Pangu().Decode(golden[10].ids, true), "ABC123");
  EXPECT_EQ(Ids(Pangu(), "你好<eot>", false, true), (std::vector<int32_t>{5772, 9}));
  EXPECT_TRUE(Pangu().IsSpecial(9));
  EXPECT_EQ(Pangu().end_ids(), (std::vector<int32_t>{9}));
  EXPECT_EQ(Pangu().Decode({5772, 9}, true), "你好");
  EXPECT_EQ(Pangu().Decode({5772, 9}, false), "你好<eot>");
}

// SmolLM2-135M-Instruct's own file, when tools/get_model.sh has fetched it.
TEST(Vectors, SmolLm2) {
  const std::string path = std::string(PANGEA_SOURCE_DIR) + "/models/SmolLM2-135M-Instruct.Q4_1.gguf";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not there";
  const auto header = ReadCheckpointHeader(path);
  ASSERT_TRUE(header.ok()) << header.status();
  const auto text = MustLoad(*header);
  ASSERT_NE(text, nullptr);
  // <|endoftext|>, <|im_end|> and <reponame>, as llama.cpp finds them by their spelling.
  EXPECT_EQ(text->end_ids(), (std::vector<int32_t>{0, 2, 4}));
  EXPECT_EQ(text->vocab(), 49152);
  // Ids of Hugging Face Transformers 5.23.0 for the same file.
  const std::string messages = R"([{"role": "user", "content": "What is the capital of France?"}])";
  const auto ids = text->EncodeChat(messages, {});
  ASSERT_TRUE(ids.ok()) << ids.status();
  EXPECT_EQ(*ids, (std::vector<int32_t>{1,   9690, 198, 2683, 359,   253,  5356, 5646, 11173, 3365, 3511, 308,  34519,
                                        28,  7018, 411, 407,  19712, 8182, 2,    198,  1,     4093, 198,  1780, 314,
                                        260, 3575, 282, 4649, 47,    2,    198,  1,    520,   9531, 198}));
  EXPECT_EQ(text->Decode({504, 3575, 282, 4649, 314, 7042, 30, 2}, true), "The capital of France is Paris.");
  const auto file = nlohmann::json::parse(ReadFile(PANGEA_SOURCE_DIR "/integration_tests/data/smollm2/EXPECTED.json"));
  for (const auto& c : file["cases"]) {
    const std::string chat = nlohmann::json{{{"role", "user"}, {"content", c["question"]}}}.dump();
    EXPECT_EQ(*text->RenderChat(chat, {}), c["prompt"].get<std::string>());
    EXPECT_EQ(*text->EncodeChat(chat, {}), c["prompt_ids"].get<std::vector<int32_t>>());
    EXPECT_EQ(text->Decode(c["greedy"].get<std::vector<int32_t>>(), true), c["text"].get<std::string>());
  }
}

}  // namespace
}  // namespace pangea
