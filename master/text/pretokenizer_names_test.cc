// Where each pre-tokenizer of llama.cpp cuts. The vocabulary has every byte, and every pair of the characters in the
// text as one more token: two of them stand together unless there is a cut between. The cuts are llama.cpp's (b11549),
// but for aA under tiny_aya and youtu: it reads their upper-case and lower-case letters as one class, the expression in
// their own tokenizer.json does not.
#include "master/text/gguf_text_test_util.h"
#include "master/text/pretokenizer.h"

namespace pangea {
namespace {

constexpr std::string_view kText =
    "aA'a A 1a11111 1111(a..\n\n.. a\n \xE4\xB8\x80"
    "a \xE4\xB8\x80"
    "A1.a aa  A\n";

constexpr std::string_view kAlphabet = "aA1.'( \n\xE4\xB8\x80";  // merges rank in this order

CheckpointHeader Pairs(const std::string& pre) {
  // GPT-2's alphabet: the bytes of the text that are not themselves in it.
  const auto letter = [](unsigned char byte) -> std::string {
    if (byte == ' ') return "\xC4\xA0";
    if (byte == '\n') return "\xC4\x8A";
    if (byte == 0x80) return "\xC4\xA2";
    return byte < 0x80 ? std::string(1, static_cast<char>(byte))
                       : std::string{static_cast<char>(0xC0 | byte >> 6), static_cast<char>(0x80 | (byte & 0x3F))};
  };
  std::vector<std::string> tokens, merges;
  for (const unsigned char byte : kAlphabet) tokens.push_back(letter(byte));
  const size_t letters = tokens.size();
  for (size_t i = 0; i < letters; ++i) {
    for (size_t j = 0; j < letters; ++j) {
      tokens.push_back(tokens[i] + tokens[j]);
      merges.push_back(tokens[i] + " " + tokens[j]);
    }
  }
  tokens.emplace_back("<bos>");
  std::vector<int64_t> types(tokens.size(), 1);
  types.back() = 3;
  CheckpointHeader header;
  header.format = CheckpointFormat::kGguf;
  header.metadata["tokenizer.ggml.model"] = {std::string("gpt2")};
  if (!pre.empty()) header.metadata["tokenizer.ggml.pre"] = {pre};
  header.metadata["tokenizer.ggml.bos_token_id"] = {uint64_t{tokens.size() - 1}};
  header.metadata["tokenizer.ggml.tokens"] = {tokens};
  header.metadata["tokenizer.ggml.merges"] = {merges};
  header.metadata["tokenizer.ggml.token_type"] = {types};
  return header;
}

TEST(PreTokenizerNames, CutAsLlamaCpp) {
  struct Row {
    std::vector<std::string> names;
    bool bos;
    std::string cuts;
  };
  const std::vector<Row> rows = {
      {{"", "default"},
       false,
       "aA|'|a| A| |1|a|11|1|11| |11|1|1|(|a|..|\n\n|..| a|\n| \xE4|\xB8\x80|a| \xE4|\xB8\x80|A|1|.|a| |aa| | A|\n"},
      {{"gpt-2", "phi-2", "jina-es", "jina-de", "jina-v1-en", "jina-v2-es", "jina-v2-de", "jina-v2-code", "roberta-bpe",
        "gigachat", "a.x-4.0", "mellum", "modern-bert", "exaone4", "mpt", "olmo", "jais", "trillion",
        "granite-docling"},
       false,
       "aA|'|a| A| 1|a|11|11|1| |11|11|(|a|..|\n|\n|..| a|\n| \xE4|\xB8\x80|a| \xE4|\xB8\x80|A|1|.|a| |aa| | A|\n"},
      {{"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"},
       false,
       "aA|'|a| A| |1|a|1|1|1|1|1| |1|1|1|1|(|a|..|\n|\n|..| a|\n| \xE4|\xB8\x80|a| \xE4|\xB8\x80|A|1|.|a| |aa| | "
       "A|\n"},
      {{"qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "qwen35", "stablelm2", "hunyuan", "solar-open",
        "grok-2", "laguna", "bailingmoe", "bailingmoe2", "llada-moe", "seed-coder", "ufakzeka"},
       false,
       "aA|'a| A| |1|a|1|1|1|1|1| |1|1|1|1|(a|..|\n\n|..| a|\n| \xE4|\xB8\x80|a| \xE4|\xB8\x80|A|1|.a| |aa| | A|\n"},
      {{"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"},
       true,
       "aA|'a| A| |1|a|11|1|11| |11|1|1|(a|..|\n\n|..| a|\n| \xE4|\xB8\x80|a| \xE4|\xB8\x80|A|1|.a| |aa| | A|\n"},
      {{"glm4", "glm5", "chatglm-bpe", "dbrx", "smaug-bpe", "minicpm5", "jais-2"},
       false,
       "aA|'a| A| |1|a|11|1|11| |11|1|1|(a|..|\n\n|..| a|\n| \xE4|\xB8\x80|a| \xE4|\xB8\x80|A|1|.a| |aa| | A|\n"},
      {{"tekken"},
       true,
       "a|A|'a| A| |1|a|1|1|1|1|1| |1|1|1|1|(a|..|\n\n|..| a|\n| \xE4|\xB8\x80|a| \xE4|\xB8\x80|A|1|.a| |aa| | A|\n"},
      {{"gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2", "granite-embed-multi-97m"},
       false,
       "a|A|'a| A| |1|a|11|1|11| |11|1|1|(a|..|\n\n|..| a|\n| \xE4|\xB8\x80|a| \xE4|\xB8\x80|A|1|.a| |aa| | A|\n"},
      {{"tiny_aya", "cohere2moe"},
       false,
       "a|A|'a| A| |1|a|11|11|1| |1|11|1|(a|..|\n\n|..| a|\n| \xE4|\xB8\x80|a| \xE4|\xB8\x80|A|1|.a| |aa| | A|\n"},
      {{"youtu"},
       false,
       "a|A|'a| A| |1|a|1|1|1|1|1| |1|1|1|1|(a|..|\n\n|..| a|\n| |\xE4\xB8|\x80|a| |\xE4\xB8|\x80|A|1|.a| |aa| | A|\n"},
      {{"deepseek-llm"},
       false,
       "aA|'|a| A| |1|a|11|11|1| |11|11|(|a|..|\n|\n|..| a|\n| |\xE4\xB8|\x80|a| |\xE4\xB8|\x80|A|1|.|a| |aa| | A|\n"},
      {{"deepseek-coder"},
       false,
       "aA|'|a| A| |1|a|1|1|1|1|1| |1|1|1|1|(|a|..|\n|\n|..| a|\n| |\xE4\xB8|\x80|a| |\xE4\xB8|\x80|A|1|.|a| |aa| | "
       "A|\n"},
      {{"deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"},
       false,
       "aA|'a| A| |1|a|11|1|11| |11|1|1|(a|..|\n\n|..| a|\n| |\xE4\xB8|\x80|a| |\xE4\xB8|\x80|A|1|.a| |aa| | A|\n"},
      {{"spark2_5"},
       false,
       "aA|'a| A| |1|a|1|1|1|1|1| |1|1|1|1|(a|..|\n|\n|..| a|\n| |\xE4\xB8|\x80|a| |\xE4\xB8|\x80|A|1|.a| |aa| | A|\n"},
      {{"exaone-moe"},
       false,
       "aA|'|a |A| |1|a|1|1|1|1|1| |1|1|1|1|(a|..|\n|\n|..| a|\n| \xE4|\xB8\x80|a |\xE4\xB8|\x80"
       "A|1|.|a |aa| | A|\n"},
      {{"falcon"},
       false,
       "aA|'|a| A| 1|a|11|1|11| |11|1|1|(|a|..|\n\n|..| a|\n| \xE4|\xB8\x80|a| \xE4|\xB8\x80|A|1|.|a| |aa| | A|\n"},
      {{"poro-chat", "bloom", "gpt3-finnish"},
       false,
       "aA|'a| A| 1|a1|11|11| |11|11|(|a|..|\n\n|..| a|\n| \xE4|\xB8\x80|a| \xE4|\xB8\x80|A1|.|a| |aa| | A|\n"},
      {{"viking"},
       false,
       "aA|'a| A| |1|a|1|1|1|1|1| |1|1|1|1|(|a|..|\n\n|..| a|\n| \xE4|\xB8\x80|a| \xE4|\xB8\x80|A|1|.|a| |aa| | A|\n"},
  };
  for (const Row& row : rows) {
    for (const std::string& name : row.names) {
      const auto text = MustLoad(Pairs(name));
      ASSERT_NE(text, nullptr) << name;
      std::string cuts = "|";
      for (const int32_t id : Ids(*text, std::string(kText), true)) cuts += text->Bytes(id) + "|";
      EXPECT_EQ(cuts, (row.bos ? "|<bos>|" : "|") + row.cuts + "|") << name;
    }
  }
}

TEST(PreTokenizerNames, AnUnknownNameIsRefusedWithAllThatAreKnown) {
  CheckpointHeader header = Pairs("klingon");
  header.path = "m.gguf";
  const std::string refusal = Refusal(header);
  EXPECT_EQ(refusal.find("m.gguf: tokenizer.ggml.pre: is \"klingon\"; supported: gpt-2, phi-2,"), 0u) << refusal;
  EXPECT_NE(refusal.find("qwen35"), std::string::npos);
}

}  // namespace
}  // namespace pangea
