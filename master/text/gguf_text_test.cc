// GGUF metadata made by hand: a byte-level vocabulary from GPT-2's tokenizer.json, a SentencePiece one from Mistral's
// model. The ids must be those of the originals.
#include <random>

#include "master/text/gguf_text_test_util.h"
#include "master/text/sentencepiece_model.h"
#include "master/text/text_test_util.h"

namespace pangea {
namespace {

const std::vector<std::string> kSamples = {"Hello world",
                                           " Hello  world ",
                                           "naïve café 😀 你好，世界",
                                           "1234567 tokens, don't!",
                                           "tabs\tand\n\nlines",
                                           "",
                                           " ",
                                           "<|endoftext|> <s>",
                                           "x\u0301y"};

CheckpointHeader Gpt2Metadata(const std::string& pre) {
  const auto json = nlohmann::json::parse(ReadFile(TestData("gpt2/tokenizer.json")));
  std::vector<std::string> tokens(50257), merges;
  std::vector<int64_t> types(50257, 1);
  for (const auto& [token, id] : json["model"]["vocab"].items()) tokens[id.get<int>()] = token;
  for (const auto& merge : json["model"]["merges"]) merges.push_back(merge.get<std::string>());
  types[50256] = 3;
  CheckpointHeader header;
  header.format = CheckpointFormat::kGguf;
  header.metadata["tokenizer.ggml.model"] = {std::string("gpt2")};
  header.metadata["tokenizer.ggml.pre"] = {pre};
  header.metadata["tokenizer.ggml.tokens"] = {tokens};
  header.metadata["tokenizer.ggml.merges"] = {merges};
  header.metadata["tokenizer.ggml.token_type"] = {types};
  header.metadata["tokenizer.ggml.bos_token_id"] = {uint64_t{50256}};
  header.metadata["tokenizer.ggml.eos_token_id"] = {uint64_t{50256}};
  header.metadata["tokenizer.chat_template"] = {
      std::string("{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}")};
  return header;
}

TEST(GgufText, ByteLevel) {
  const auto text = MustLoad(Gpt2Metadata("gpt-2"));
  ASSERT_NE(text, nullptr);
  EXPECT_EQ(text->vocab(), 50257);
  for (const auto& sample : kSamples) {
    EXPECT_EQ(Ids(*text, sample), Ids(Gpt2(), sample)) << sample;
    EXPECT_EQ(Ids(*text, sample, false, true), Ids(Gpt2(), sample, false, true)) << sample;
    EXPECT_EQ(text->Decode(Ids(*text, sample), true), sample);
  }
  EXPECT_EQ(text->end_ids(), (std::vector<int32_t>{50256}));
  EXPECT_TRUE(text->IsSpecial(50256));
  EXPECT_EQ(*text->RenderChat(R"([{"role": "user", "content": "x"}])", {}), "<|endoftext|>x<|endoftext|>");
}

TEST(GgufText, DigitsOfSmolLm) {
  const auto text = MustLoad(Gpt2Metadata("smollm"));
  ASSERT_NE(text, nullptr);
  // Digit by digit, each with the ids of GPT-2's own digits; the rest as GPT-2.
  std::vector<int32_t> expected;
  for (const char* part : {"abc ", "1", "2", "3", "4"}) {
    for (const int32_t id : Ids(Gpt2(), part)) expected.push_back(id);
  }
  EXPECT_EQ(Ids(*text, "abc 1234"), expected);
  EXPECT_NE(Ids(*text, "abc 1234"), Ids(Gpt2(), "abc 1234"));
}

TEST(GgufText, AddBos) {
  auto header = Gpt2Metadata("gpt-2");
  EXPECT_EQ(Ids(*MustLoad(header), "Hello", true), (std::vector<int32_t>{15496}));
  header.metadata["tokenizer.ggml.add_bos_token"] = {true};
  EXPECT_EQ(Ids(*MustLoad(header), "Hello", true), (std::vector<int32_t>{50256, 15496}));
  EXPECT_EQ(Ids(*MustLoad(header), "Hello", false), (std::vector<int32_t>{15496}));
}

TEST(GgufText, EveryPreLoads) {
  for (const char* pre : {"default", "qwen2", "llama-bpe", "tekken", "deepseek-r1-qwen", "llama3"}) {
    const auto text = MustLoad(Gpt2Metadata(pre));
    ASSERT_NE(text, nullptr) << pre;
    for (const auto& sample : kSamples) {
      if (std::string(pre).find("qwen") != std::string::npos && sample.starts_with("x")) continue;  // NFC
      EXPECT_EQ(text->Decode(Ids(*text, sample), true), sample) << pre;
    }
  }
  EXPECT_NE(Refusal(Gpt2Metadata("klingon")).find("klingon"), std::string::npos);
}

TEST(GgufText, SentencePieceByScores) {
  const auto text = MustLoad(MistralMetadata());
  ASSERT_NE(text, nullptr);
  for (const auto& sample : kSamples) {
    EXPECT_EQ(Ids(*text, sample, true), Ids(Mistral(), sample, true)) << sample;
    EXPECT_EQ(Ids(*text, sample, false, true), Ids(Mistral(), sample, false, true)) << sample;
  }
  EXPECT_EQ(Ids(*text, "Hello", true), (std::vector<int32_t>{1, 22557}));
  EXPECT_EQ(text->Bytes(3 + 0xAB), "\xAB");
  EXPECT_EQ(text->end_ids(), (std::vector<int32_t>{2}));
}

// The definition: again and again the pair of neighbours whose joint piece scores highest, the leftmost of equals.
std::vector<int32_t> BruteForceMerges(const SentencePieceProto& proto, std::map<std::string, int32_t>& ids,
                                      const std::string& text) {
  std::vector<std::string> symbols;
  std::string input = "\xE2\x96\x81";
  for (const char c : text) input += c == ' ' ? std::string("\xE2\x96\x81") : std::string(1, c);
  for (const char c : input) {
    if ((c & 0xC0) == 0x80) {
      symbols.back().push_back(c);
    } else {
      symbols.emplace_back(1, c);
    }
  }
  while (true) {
    int best = -1;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto it = ids.find(symbols[i] + symbols[i + 1]);
      if (it == ids.end()) continue;
      if (best < 0 || proto.pieces[it->second].score > proto.pieces[ids[symbols[best] + symbols[best + 1]]].score)
        best = static_cast<int>(i);
    }
    if (best < 0) break;
    symbols[best] += symbols[best + 1];
    symbols.erase(symbols.begin() + best + 1);
  }
  std::vector<int32_t> out;
  for (const auto& symbol : symbols) {
    if (const auto it = ids.find(symbol); it != ids.end()) {
      out.push_back(it->second);
      continue;
    }
    for (const unsigned char byte : symbol) out.push_back(3 + byte);  // byte fallback; this model's bytes begin at id 3
  }
  return out;
}

TEST(GgufText, SentencePieceAgainstBruteForce) {
  const auto proto = ParseSentencePiece(ReadFile(TestData("mistral/tokenizer.model")));
  ASSERT_TRUE(proto.ok());
  const auto text = MustLoad(MistralMetadata());
  std::map<std::string, int32_t> ids;
  for (size_t id = 0; id < proto->pieces.size(); ++id) ids[proto->pieces[id].text] = static_cast<int32_t>(id);
  std::mt19937 random(5);
  const std::vector<std::string> parts = {"the", " ",  "a", "e",  "ing", "  ", "th",
                                          "😀",  "你", "Q", "\n", "1",   ".",  "é"};
  for (int round = 0; round < 200; ++round) {
    std::string input;
    for (int n = 1 + random() % 20; n > 0; --n) input += parts[random() % parts.size()];
    ASSERT_EQ(Ids(*text, input), BruteForceMerges(*proto, ids, input)) << input;
  }
}

TEST(GgufText, Refusals) {
  auto header = Gpt2Metadata("gpt-2");
  header.metadata["tokenizer.ggml.model"] = {std::string("bert")};
  EXPECT_NE(Refusal(header).find("bert"), std::string::npos);
  header = Gpt2Metadata("gpt-2");
  header.metadata.erase("tokenizer.ggml.tokens");
  EXPECT_NE(Refusal(header).find("tokenizer.ggml.tokens"), std::string::npos);
  header = Gpt2Metadata("gpt-2");
  header.metadata["tokenizer.ggml.token_type"] = {std::vector<int64_t>{1, 2}};
  EXPECT_NE(Refusal(header).find("token_type"), std::string::npos);
  header = Gpt2Metadata("gpt-2");
  header.metadata.erase("tokenizer.ggml.merges");
  EXPECT_NE(Refusal(header).find("merges"), std::string::npos);
  header = Gpt2Metadata("gpt-2");
  header.metadata["tokenizer.ggml.merges"] = {std::vector<std::string>{"nosuchtoken either"}};
  EXPECT_NE(Refusal(header), "");
  header = Gpt2Metadata("gpt-2");
  header.metadata["tokenizer.ggml.eos_token_id"] = {uint64_t{1} << 40};
  EXPECT_EQ(MustLoad(header)->end_ids(), std::vector<int32_t>{50256}) << "by its spelling";
  header = MistralMetadata();
  header.metadata["tokenizer.ggml.scores"] = {std::vector<double>{0}};
  EXPECT_NE(Refusal(header).find("scores"), std::string::npos);
}

TEST(SentencePieceProto, BadBytes) {
  const std::string model = ReadFile(TestData("mistral/tokenizer.model"));
  EXPECT_FALSE(ParseSentencePiece("").ok());
  EXPECT_FALSE(ParseSentencePiece("not a model").ok());
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    std::string bad = model.substr(0, random() % 5000);
    for (int n = 0; n < 4 && !bad.empty(); ++n) bad[random() % bad.size()] = static_cast<char>(random());
    (void)ParseSentencePiece(bad);  // no crash, no endless loop
  }
  const auto proto = ParseSentencePiece(model);
  ASSERT_TRUE(proto.ok());
  EXPECT_EQ(proto->pieces[500].type, PieceType::kNormal);
  EXPECT_TRUE(proto->byte_fallback);
}

}  // namespace
}  // namespace pangea
