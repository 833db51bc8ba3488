// Which tokens a folder's files name, and where BOS and EOS go. All ids here are those of Transformers 4.57.
#include "absl/strings/str_cat.h"
#include "master/text/sentencepiece_model.h"
#include "master/text/text_test_util.h"

namespace pangea {
namespace {

using Files = std::vector<std::pair<std::string, std::string>>;
using IdList = std::vector<int32_t>;

std::unique_ptr<ModelText> Load(const Files& files, Architecture architecture = Architecture::kLlama, int vocab = 0) {
  const TempFolder folder;
  for (const auto& [name, content] : files) folder.Write(name, content);
  CheckpointHeader header = Folder(folder.path(), architecture);
  header.config.vocab = vocab;
  return MustLoad(header);
}

std::unique_ptr<ModelText> Mistral(const Files& files, int vocab = 0) {
  Files all = {{"tokenizer.model", ReadFile(TestData("mistral/tokenizer.model"))}};
  all.insert(all.end(), files.begin(), files.end());
  return Load(all, Architecture::kMistral, vocab);
}

std::unique_ptr<ModelText> Qwen(const Files& files) {
  Files all = {{"vocab.json", ReadFile(TestData("qwen2/vocab.json"))},
               {"merges.txt", ReadFile(TestData("qwen2/merges.txt"))}};
  all.insert(all.end(), files.begin(), files.end());
  return Load(all, Architecture::kQwen2);
}

std::unique_ptr<ModelText> Gpt(const Files& files) {
  Files all = {{"tokenizer.json", ReadFile(TestData("gpt2/tokenizer.json"))}};
  all.insert(all.end(), files.begin(), files.end());
  return Load(all, Architecture::kGpt2);
}

IdList Whole(const Text& text, const std::string& input) { return Ids(text, input, true, true); }

constexpr char kChat[] = "<|im_start|>user\nHello<|im_end|>\n";
constexpr char kChatTokens[] = R"({"<|im_end|>": 32000, "<|im_start|>": 32001})";

TEST(BosAndEos, AreWhatTheClassAndItsTwoFlagsSay) {
  struct Case {
    const char* tokenizer_class;
    const char* flags;
    IdList ids;  // of "a", whose id is 4; BOS is 0, EOS 9; the post-processor of tokenizer.json puts a BOS
  };
  const Case cases[] = {
      {"LlamaTokenizerFast", "", {0, 4}},
      {"LlamaTokenizer", R"(, "add_bos_token": true)", {0, 4}},
      {"LlamaTokenizerFast", R"(, "add_bos_token": false)", {4}},
      {"LlamaTokenizerFast", R"(, "add_bos_token": false, "add_eos_token": true)", {4, 9}},
      {"LlamaTokenizer", R"(, "add_eos_token": true)", {0, 4, 9}},
      {"CodeLlamaTokenizer", R"(, "add_bos_token": false, "add_eos_token": true)", {4, 9}},
      {"GemmaTokenizer", "", {0, 4}},
      {"GemmaTokenizerFast", R"(, "add_bos_token": false)", {4}},
      {"CohereTokenizerFast", R"(, "add_eos_token": true)", {0, 4, 9}},
      {"GPTNeoXTokenizer", "", {4}},
      {"GPTNeoXTokenizerFast", R"(, "add_bos_token": true)", {0, 4}},
      // These classes leave the post-processor alone.
      {"PreTrainedTokenizerFast", R"(, "add_bos_token": false, "add_eos_token": true)", {0, 4}},
      {"Qwen2Tokenizer", R"(, "add_bos_token": false, "add_eos_token": true)", {0, 4}},
      {"GPT2Tokenizer", R"(, "add_bos_token": false)", {0, 4}},
  };
  for (const Case& c : cases) {
    const auto text =
        Load({{"tokenizer.json", kTiny},
              {"tokenizer_config.json", std::string(R"({"tokenizer_class": ")") + c.tokenizer_class +
                                            R"(", "bos_token": "<s>", "eos_token": "<tool>")" + c.flags + "}"}});
    ASSERT_NE(text, nullptr);
    EXPECT_EQ(Whole(*text, "a"), c.ids) << c.tokenizer_class << c.flags;
    EXPECT_EQ(Ids(*text, "a"), IdList{4});
  }
}

// The post-processor of DeepSeek's tokenizer.json puts nothing, its tokenizer_config.json asks for a BOS.
TEST(BosAndEos, ABosThatTokenizerJsonDoesNotPut) {
  std::string bare = kTiny;
  const size_t at = bare.find(R"("post_processor":{)"), end = bare.find(R"("decoder":)");
  bare.replace(at, end - at, R"("post_processor":null,)");
  const auto ids = [&](const std::string& config, Architecture architecture = Architecture::kLlama) {
    return Whole(*Load({{"tokenizer.json", bare}, {"tokenizer_config.json", config}}, architecture), "a");
  };
  EXPECT_EQ(ids(R"({"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": true, "bos_token":
      {"__type": "AddedToken", "content": "<s>", "lstrip": false}})"),
            (IdList{0, 4}));
  EXPECT_EQ(ids(R"({"tokenizer_class": "LlamaTokenizerFast"})"), (IdList{0, 4})) << "the class's own BOS";
  EXPECT_EQ(ids("{}"), (IdList{0, 4})) << "the class of a Llama model";
  EXPECT_EQ(ids("{}", Architecture::kQwen3), (IdList{4})) << "the class of a Qwen3 model";
  EXPECT_EQ(ids(R"({"tokenizer_class": "LlamaTokenizerFast", "bos_token": null, "add_bos_token": false})"),
            (IdList{4}));
  EXPECT_EQ(ids(R"({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "add_bos_token": true})"),
            (IdList{4}));
}

TEST(BosAndEos, WithoutATokenizerJson) {
  const auto mistral = Mistral({{"tokenizer_config.json", R"({"eos_token": "<|im_end|>", "add_eos_token": true})"}});
  EXPECT_EQ(Whole(*mistral, "Hello"), (IdList{1, 22557, 32000}));
  EXPECT_EQ(mistral->end_ids(), IdList{32000});
  EXPECT_EQ(Whole(*Mistral({{"tokenizer_config.json", R"({"bos_token": "[BOS]"})"}}), "Hello"), (IdList{32000, 22557}));
  EXPECT_EQ(Whole(*Mistral({{"tokenizer_config.json", R"({"add_bos_token": false})"}}), "Hello"), IdList{22557});
  EXPECT_EQ(
      Whole(*Qwen({{"tokenizer_config.json", R"({"add_bos_token": true, "bos_token": "<|endoftext|>"})"}}), "Hello"),
      IdList{9707});
  EXPECT_EQ(Whole(*Gpt({{"tokenizer_config.json", R"({"add_bos_token": true})"}}), "Hello"), IdList{15496});
}

TEST(AddedTokens, OfAFolderWithoutTokenizerJson) {
  const std::string map = R"({"eos_token": "<|im_end|>", "additional_special_tokens": ["<|im_start|>"]})";
  const Files old = {{"added_tokens.json", kChatTokens}, {"special_tokens_map.json", map}};
  const auto text = Mistral(old);
  EXPECT_EQ(Whole(*text, kChat), (IdList{1, 32001, 2188, 13, 16230, 32000, 28705, 13}));
  EXPECT_EQ(text->end_ids(), IdList{32000});
  EXPECT_TRUE(text->IsSpecial(32000) && text->IsSpecial(32001));
  Files newer = old;
  newer.push_back({"tokenizer_config.json", R"({"legacy": false})"});
  EXPECT_EQ(Whole(*Mistral(newer), kChat), (IdList{1, 32001, 1838, 13, 16230, 32000, 13}));
  EXPECT_EQ(Whole(*Mistral({{"special_tokens_map.json",
                             R"({"additional_special_tokens": ["<|im_start|>", {"content": "<|im_end|>"}]})"}}),
                  kChat),
            (IdList{1, 32000, 2188, 13, 16230, 32001, 28705, 13}));
  // With added_tokens_decoder neither of the older files counts.
  Files both = old;
  both.push_back(
      {"tokenizer_config.json", R"({"added_tokens_decoder": {"32000": {"content": "<|im_end|>", "special": true}}})"});
  EXPECT_EQ(Ids(*Mistral(both), "<|im_end|><|im_start|>", false, true),
            (IdList{32000, 523, 28766, 321, 28730, 2521, 28766, 28767}));
}

// A piece of ModelProto (field 1): text, a score of 0, and a type.
std::string ModelPiece(const std::string& text, PieceType type) {
  const auto field = [](char tag, const std::string& bytes) {
    return std::string{tag, static_cast<char>(bytes.size())} + bytes;
  };
  return field('\x0A', field('\x0A', text) + std::string("\x15\0\0\0\0\x18", 6) + static_cast<char>(type));
}

TEST(AddedTokens, ThatTheSentencePieceModelDefines) {
  const std::string model =
      ReadFile(TestData("mistral/tokenizer.model")) + ModelPiece("<|im_end|>", PieceType::kUserDefined) +
      ModelPiece("<|im_start|>", PieceType::kUserDefined) + ModelPiece("<|ctl|>", PieceType::kControl);
  const auto load = [&](const std::string& config) {
    return Load({{"tokenizer.model", model}, {"tokenizer_config.json", config}}, Architecture::kMistral);
  };
  const auto text = load("{}");
  EXPECT_EQ(Whole(*text, kChat), (IdList{1, 32001, 2188, 13, 16230, 32000, 28705, 13}));
  EXPECT_EQ(Whole(*text, "x<|ctl|>y"), (IdList{1, 1318, 32002, 337}));
  EXPECT_EQ(Whole(*text, "Hello <|im_end|> x"), (IdList{1, 22557, 28705, 32000, 28705, 1318}));
  EXPECT_TRUE(text->IsSpecial(32002));
  EXPECT_FALSE(text->IsSpecial(32000));
  const auto newer = load(R"({"legacy": false})");
  EXPECT_EQ(Whole(*newer, kChat), (IdList{1, 32001, 1838, 13, 16230, 32000, 13}));
  EXPECT_EQ(Whole(*newer, "x<|ctl|>y"), (IdList{1, 1318, 32002, 28724}));
  // A user-defined token with a name is special.
  EXPECT_TRUE(load(R"({"eos_token": "<|im_end|>"})")->IsSpecial(32000));
}

TEST(AddedTokens, OfAFolderWithVocabJsonAndMergesTxt) {
  const std::string ids = R"({"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645})";
  EXPECT_EQ(Whole(*Qwen({{"added_tokens.json", ids}}), kChat), (IdList{151644, 872, 198, 9707, 151645, 198}));
  EXPECT_EQ(Whole(*Qwen({}), "a<|endoftext|>b"), (IdList{64, 151643, 65})) << "the class's own";
  const auto more = Qwen({{"added_tokens.json", ids},
                          {"tokenizer_config.json", R"({"additional_special_tokens": ["<|im_end|>", "<x>"]})"}});
  EXPECT_EQ(Whole(*more, "b <x> c"), (IdList{65, 220, 151646, 272}));
  EXPECT_TRUE(more->IsSpecial(151645));
  EXPECT_FALSE(more->IsSpecial(151644));
}

TEST(AddedTokens, BeyondTokenizerJson) {
  const std::string input = "a<|endoftext|>b <x> c";
  struct Case {
    std::string file, content;
    IdList ids;
  };
  const Case cases[] = {
      {"tokenizer_config.json", "{}", {64, 50256, 65, 1279, 87, 29, 269}},
      {"tokenizer_config.json", R"({"eos_token": "<x>"})", {64, 50256, 65, 220, 50257, 269}},
      {"tokenizer_config.json",
       R"({"pad_token": "<pad>", "additional_special_tokens": ["<x>"]})",
       {64, 50256, 65, 220, 50258, 269}},
      {"tokenizer_config.json",
       R"({"extra_special_tokens": {"image_token": "<x>"}})",
       {64, 50256, 65, 220, 50257, 269}},
      // The library numbers tokens itself; lstrip takes the space along.
      {"tokenizer_config.json",
       R"({"added_tokens_decoder": {"50300": {"content": "<x>", "lstrip": true}}})",
       {64, 50256, 65, 50257, 269}},
      {"special_tokens_map.json", R"({"additional_special_tokens": ["<x>"]})", {64, 50256, 65, 220, 50257, 269}},
      {"special_tokens_map.json", R"({"bos_token": {"content": "<x>", "lstrip": true}})", {64, 50256, 65, 50257, 269}},
      {"added_tokens.json", R"({"<x>": 50257})", {64, 50256, 65, 220, 50257, 269}},
  };
  for (const Case& c : cases) EXPECT_EQ(Whole(*Gpt({{c.file, c.content}}), input), c.ids) << c.content;
  const Files both = {{"tokenizer_config.json", R"({"added_tokens_decoder": {}})"},
                      {"special_tokens_map.json", R"({"additional_special_tokens": ["<x>"]})"},
                      {"added_tokens.json", R"({"<x>": 50257})"}};
  EXPECT_EQ(Whole(*Gpt(both), input), (IdList{64, 50256, 65, 1279, 87, 29, 269}));
  // The flags of a token that tokenizer.json has, too, are those of added_tokens_decoder.
  const auto special = Load({{"tokenizer.json", kTiny},
                             {"tokenizer_config.json",
                              R"({"tokenizer_class": "PreTrainedTokenizerFast",
                                  "added_tokens_decoder": {"9": {"content": "<tool>", "special": true}}})"}});
  EXPECT_TRUE(special->IsSpecial(9));
  EXPECT_EQ(special->end_ids(), IdList{});
}

// tokenizer.json calls 0 (<s>) special and 9 (<tool>) not; so do most files of models whose <|im_end|> was added late.
TEST(AddedTokens, ThatHaveANameAreSpecialWhateverTokenizerJsonSays) {
  struct Case {
    const char* config;
    bool tool;
  };
  const Case cases[] = {
      {R"("eos_token": "<tool>")", true},
      {R"("additional_special_tokens": ["<tool>"])", true},
      {R"("extra_special_tokens": {"call_token": "<tool>"})", true},
      {R"("added_tokens_decoder": {"9": {"content": "<tool>", "normalized": false}}, "eos_token": "<tool>")", true},
      {R"("added_tokens_decoder": {"9": {"content": "<tool>", "lstrip": true}}, "eos_token": "<tool>")", true},
      {R"("added_tokens_decoder": {"9": {"content": "<tool>"}, "0": {"content": "<s>", "special": false}})", false},
      {R"("added_tokens_decoder": {"0": {"content": "<s>"}}, "eos_token": "<tool>")", false},
      {R"("pad_token": "<s>")", false},
  };
  for (const Case& c : cases) {
    const auto text = Load({{"tokenizer.json", kTiny},
                            {"tokenizer_config.json",
                             std::string(R"({"tokenizer_class": "PreTrainedTokenizerFast", )") + c.config + "}"}});
    ASSERT_NE(text, nullptr);
    EXPECT_EQ(text->IsSpecial(9), c.tool) << c.config;
    EXPECT_EQ(text->Decode({2, 9, 3}, /*skip_special=*/true), c.tool ? "ab" : "a<tool>b") << c.config;
    EXPECT_TRUE(text->IsSpecial(0)) << c.config;
  }
}

TEST(AddedTokens, WhoseIdTheModelLacksAreLeftOutWithAWarning) {
  const Files files = {{"added_tokens.json", R"({"<one>": 32000, "[PAD]": 32001})"}};
  const auto text = Mistral(files, /*vocab=*/32001);
  EXPECT_EQ(text->warnings(),
            std::vector<std::string>{"added token [PAD] is left out: its id would be 32001, the model has 32001 ids"});
  EXPECT_EQ(text->vocab(), 32001);
  EXPECT_EQ(Ids(*text, "<one>", false, true), IdList{32000});
  EXPECT_TRUE(Mistral(files, /*vocab=*/32002)->warnings().empty());
  const auto json =
      Load({{"tokenizer.json", kTiny},
            {"tokenizer_config.json",
             R"({"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "eos_token": "<s>"})"}},
           Architecture::kLlama, /*vocab=*/10);
  EXPECT_EQ(json->warnings(),
            std::vector<std::string>{"added token [PAD] is left out: its id would be 10, the model has 10 ids"});
}

TEST(PrefixSpace, OfASentencePieceModel) {
  const auto ids = [](const std::string& value, const std::string& input) {
    return Whole(*Mistral({{"tokenizer_config.json", "{" + value + "}"}}), input);
  };
  EXPECT_EQ(ids("", "Hello"), (IdList{1, 22557}));
  EXPECT_EQ(ids(R"("add_prefix_space": true)", "a<s>Hello"), (IdList{1, 264, 1, 22557}));
  for (const char* none : {R"("add_prefix_space": false)", R"("add_prefix_space": null)"}) {
    EXPECT_EQ(ids(none, "Hello"), (IdList{1, 16230}));
    EXPECT_EQ(ids(none, " Hello"), (IdList{1, 22557}));
    EXPECT_EQ(ids(none, "a<s>Hello"), (IdList{1, 28708, 1, 16230}));
  }
  EXPECT_EQ(Mistral({{"tokenizer_config.json", R"({"add_prefix_space": false})"}})->Decode({22557}, true), " Hello");
  // A text that begins with a space has it already, unless the tokenizer is of the older kind.
  EXPECT_EQ(ids(R"("legacy": false)", " Hello"), (IdList{1, 22557}));
  EXPECT_EQ(ids(R"("legacy": true)", " Hello"), (IdList{1, 28705, 22557}));
}

TEST(PrefixSpace, OfByteLevelTokenizers) {
  std::string with = ReadFile(TestData("gpt2/tokenizer.json"));
  const std::string pre = R"("pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false)";
  ASSERT_NE(with.find(pre), std::string::npos);
  with.replace(with.find(pre), pre.size(), R"("pre_tokenizer":{"type":"ByteLevel","add_prefix_space":true)");
  const auto ids = [&](const std::string& config, bool file_has_it) {
    const Files other = {{"tokenizer_config.json", config}, {"tokenizer.json", with}};
    const Files own = {{"tokenizer_config.json", config}};
    return Ids(*(file_has_it ? Load(other, Architecture::kGpt2) : Gpt(own)), "Hello");
  };
  for (const bool file_has_it : {false, true}) {
    EXPECT_EQ(ids(R"({"add_prefix_space": true})", file_has_it), IdList{18435});
    EXPECT_EQ(ids(R"({"add_prefix_space": false})", file_has_it), IdList{15496});
    EXPECT_EQ(ids("{}", file_has_it), IdList{15496}) << "the class's default";
    EXPECT_EQ(ids(R"({"add_prefix_space": null})", file_has_it), IdList{file_has_it ? 18435 : 15496});
    EXPECT_EQ(ids(R"({"tokenizer_class": "LlamaTokenizerFast", "bos_token": "<|endoftext|>"})", file_has_it),
              IdList{file_has_it ? 18435 : 15496});
  }
}

// The decoder of tokenizer.json works on added tokens as on all others.
TEST(Decoding, OfAddedTokens) {
  const auto decoded = [](const std::string& content, const std::string& decoder, const IdList& ids) {
    std::string file = kTiny;
    file.replace(file.find("<tool>"), 6, content);
    const size_t at = file.find(R"("decoder":)"), end = file.find(R"("model":)");
    file.replace(at, end - at, R"("decoder":)" + decoder + ",");
    const auto text = Load({{"tokenizer.json", file}});
    return text == nullptr ? "" : text->Decode(ids, false);
  };
  const std::string replace =
      R"({"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},
          {"type":"ByteFallback"},{"type":"Fuse"}]})";
  const std::string metaspace = R"({"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":false})";
  const std::string bytes = R"({"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true})";
  EXPECT_EQ(decoded("▁▁", replace, {4, 9, 9, 4}), " a     a");
  EXPECT_EQ(decoded("▁▁", replace, {9, 4}), "   a");
  EXPECT_EQ(decoded("▁x", replace, {9, 4}), " x a");
  EXPECT_EQ(decoded("<0x41>", replace, {4, 9, 9, 4}), " aAA a");
  EXPECT_EQ(decoded("▁▁", metaspace, {4, 9, 9, 4}), "a     a");
  EXPECT_EQ(decoded("▁▁", metaspace, {9, 4}), " a") << "all spaces of the first token go";
  EXPECT_EQ(decoded("▁x", metaspace, {9, 4}), "x a");
  EXPECT_EQ(decoded("<0x41>", metaspace, {4, 9}), "a<0x41>");
  EXPECT_EQ(decoded("Ġ", bytes, {2, 9, 9, 2}), "a  a");
  EXPECT_EQ(decoded("▁▁", bytes, {2, 9, 2}), "a▁▁a");
}

TEST(Names, OfTheTemplate) {
  const auto render = [](const Files& more) {
    Files files = {{"tokenizer.json", kTiny},
                   {"chat_template.jinja", "{{ bos_token }}|{{ eos_token }}|{{ unk_token }}|{{ image_token }}"}};
    files.insert(files.end(), more.begin(), more.end());
    return *Load(files)->RenderChat("[]", {});
  };
  EXPECT_EQ(render({}), "<s>|||") << "of the class's own names those that the vocabulary has";
  EXPECT_EQ(render({{"special_tokens_map.json", R"({"bos_token": "<s>", "eos_token": {"content": "<tool>"}})"}}),
            "<s>|<tool>||");
  const std::string config = R"({"eos_token": "<s>", "bos_token": "<tool>", "extra_special_tokens":
      {"image_token": "<s>"}, "model_max_length": Infinity)";
  const std::string map = R"({"eos_token": "<tool>"})";
  EXPECT_EQ(render({{"tokenizer_config.json", config + "}"}, {"special_tokens_map.json", map}}), "<tool>|<tool>||<s>")
      << "the map overrides";
  EXPECT_EQ(render({{"tokenizer_config.json", config + R"(, "added_tokens_decoder": {}})"},
                    {"special_tokens_map.json", map}}),
            "<tool>|<s>||<s>")
      << "but not what added_tokens_decoder goes with";
}

TEST(Faults, NameTheFolderOnceTheFileAndTheKey) {
  const auto refusal = [](const Files& files, Architecture architecture = Architecture::kLlama) {
    const TempFolder folder;
    for (const auto& [name, content] : files) folder.Write(name, content);
    const auto text = Text::Load(Folder(folder.path(), architecture), "");
    const std::string fault(text.status().message());
    EXPECT_EQ(fault.find(folder.path()), 0u) << fault;
    EXPECT_EQ(fault.rfind(folder.path()), 0u) << fault;
    return fault.substr(std::min(fault.size(), folder.path().size()));
  };
  EXPECT_EQ(refusal({}), ": no tokenizer.json, tokenizer.model, or vocab.json and merges.txt");
  EXPECT_EQ(refusal({{"tokenizer.json", "["}}), ": tokenizer.json: not a JSON object");
  EXPECT_EQ(refusal({{"tokenizer_config.json", "["}}), "/tokenizer_config.json: not a JSON object");
  EXPECT_EQ(refusal({{"added_tokens.json", R"({"<x>": -1})"}}),
            ": added_tokens.json: the id of \"<x>\" is not in 0..4194303");
  EXPECT_EQ(refusal({{"tokenizer_config.json", R"({"added_tokens_decoder": {"x": {}}})"}}),
            ": tokenizer_config.json: added_tokens_decoder: id x is not in 0..4194303");
  EXPECT_EQ(refusal({{"tokenizer.model", "rubbish"}}), ": tokenizer.model: not a SentencePiece model (ModelProto)");
  EXPECT_EQ(refusal({{"tokenizer.model", "IQ== 0\nIg== 1\n"}}),
            ": tokenizer.model: is a tiktoken vocabulary, which is not read; the model's tokenizer.json is needed");
  EXPECT_EQ(refusal({{"tekken.json", "{}"}}),
            ": no tokenizer.json, tokenizer.model, or vocab.json and merges.txt; tekken.json is not read");
  EXPECT_EQ(refusal({{"vocab.json", R"({"a": -1})"}, {"merges.txt", ""}}, Architecture::kGpt2),
            ": vocab.json: the id of \"a\" is not in 0..4194303");
  // What is nested so deeply would end the process where a value is copied.
  const std::string deep = R"({"x": )" + std::string(300000, '[') + std::string(300000, ']') + "}";
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"})
    EXPECT_EQ(refusal({{name, deep}}), absl::StrCat("/", name, ": nested 300001 deep, at most 100"));
  EXPECT_EQ(refusal({{"tokenizer.json", deep}, {"tokenizer_config.json", R"({"pad_token": "<p>"})"}}),
            ": tokenizer.json: nested 300001 deep, at most 100");
}

}  // namespace
}  // namespace pangea
