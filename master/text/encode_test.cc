// Encoding: big inputs, added and special tokens, the folder layouts, refusals.
#include <time.h>

#include <random>
#include <thread>

#include "master/text/text_files.h"
#include "master/text/text_test_util.h"

namespace pangea {
namespace {

constexpr size_t kPart = size_t{1} << 18;  // SafeCut's

std::string Repeat(const std::string& unit, size_t bytes) {
  std::string out;
  while (out.size() < bytes) out += unit;
  return out;
}

// Prose of many kinds with every border that SafeCut uses, and ones that it must not use.
std::string Prose(size_t bytes) {
  std::mt19937 random(2);
  const std::vector<std::string> parts = {"word", " and", " more", "\n",  "\r\n",   "\n\n",   "  ",      "don't",
                                          "'ll",  "中文", "，",    "。",  "中国。", " 1234",  "x\u0301", "\t",
                                          " !?",  "😀",   "E\n",   "a b", " c",     "\u3000", "it's"};
  std::string out;
  while (out.size() < bytes) out += parts[random() % parts.size()];
  return out;
}

// The ids of a text that is cut must be those of the library on the whole.
TEST(Encode, ALongTextIsCutWithoutAnyEffectOnItsIdsTokenizerJson) {
  const auto whole = JsonTokenizer::Load(ReadFile(TestData("gpt2/tokenizer.json")));
  ASSERT_TRUE(whole.ok());
  const std::string text = Prose(3 * kPart);
  std::vector<int32_t> expected;
  ASSERT_TRUE(whole->Encode(text, false, &expected).ok());
  EXPECT_EQ(Ids(Gpt2(), text), expected);
  EXPECT_EQ(Gpt2().Decode(expected, false), text);
  size_t cuts = 0;
  for (std::string_view rest = text; !rest.empty(); ++cuts) rest.remove_prefix(SafeCut(rest, {.ideographs = true}));
  EXPECT_GE(cuts, 3u);
}

TEST(Encode, ALongTextIsCutWithoutAnyEffectOnItsIdsSentencePiece) {
  const auto whole = SentencePiece::Load(ReadFile(TestData("mistral/tokenizer.model")));
  ASSERT_TRUE(whole.ok());
  const std::string text = Prose(2 * kPart);
  std::vector<int32_t> expected;
  ASSERT_TRUE(whole->Encode(text, &expected).ok());
  EXPECT_EQ(Ids(Mistral(), text), expected);
}

TEST(Encode, ALongTextIsCutWithoutAnyEffectOnItsIdsPangu) {
  const auto whole = SentencePiece::Load(ReadFile(TestData("pangu/vocab.model")));
  const auto jieba = Jieba::Load();
  ASSERT_TRUE(whole.ok() && jieba.ok());
  for (const std::string& text : {Prose(2 * kPart), Repeat(" ", 2 * kPart), Repeat("中国人民，", 2 * kPart)}) {
    std::vector<int32_t> expected;
    ASSERT_TRUE(whole->Encode(*jieba->Segment(text), &expected).ok());
    EXPECT_EQ(Ids(Pangu(), text), expected);
  }
}

double ThreadSeconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Four times the text takes about four times as long (sixteen if it were quadratic): no pre-token is too long.
TEST(Encode, TimeGrowsAsTheLengthOfTheText) {
  std::mt19937 random(9);
  std::string word;
  while (word.size() < 120000) word.push_back(static_cast<char>('a' + random() % 26));
  for (const Text* text : {&Gpt2(), &Qwen2(), &Mistral(), &Pangu()}) {
    for (const std::string& input : {word, Repeat("a", 120000), Repeat(" ", 120000)}) {
      const auto time = [&](size_t bytes) {
        const double start = ThreadSeconds();
        (void)Ids(*text, input.substr(0, bytes));
        return ThreadSeconds() - start;
      };
      (void)time(30000);
      const double quarter = std::min(time(30000), time(30000));
      EXPECT_LT(time(120000), 11 * quarter + 0.02);
    }
  }
}

TEST(Encode, RefusesWhatCanNotFit) {
  auto header = Folder(TestData("gpt2"), Architecture::kGpt2);
  header.config.max_positions = 1024;
  const auto text = MustLoad(header);
  const double start = ThreadSeconds();
  const auto status = text->Encode(std::string(10 << 20, 'a'), true, true).status();
  EXPECT_LT(ThreadSeconds() - start, 0.5);
  EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange);
  EXPECT_NE(status.message().find("1024 tokens"), std::string::npos) << status;
  // The longest piece as often as the context holds is still encoded.
  int longest = 0;
  for (int id = 0; id < text->vocab(); ++id) {
    if (text->Bytes(id).size() > text->Bytes(longest).size()) longest = id;
  }
  EXPECT_TRUE(text->Encode(Repeat(text->Bytes(longest), text->Bytes(longest).size() * 1023), true, true).ok());
  EXPECT_FALSE(Gpt2().Encode(std::string((64 << 20) + 1, 'a'), true, true).ok());
}

TEST(Encode, RefusesWhatIsNotUtf8) {
  for (const Text* text : {&Gpt2(), &Mistral(), &Pangu()}) {
    for (const char* bad : {"\xFF", "a\xC3", "\xED\xA0\x80", "\xC0\x80"}) {
      EXPECT_EQ(text->Encode(bad, false, false).status().code(), absl::StatusCode::kInvalidArgument);
    }
    EXPECT_EQ(text->Decode(Ids(*text, std::string("a\0b", 3)), true).front(), 'a');
    EXPECT_EQ(Ids(*text, ""), std::vector<int32_t>{});
  }
  EXPECT_EQ(Gpt2().Decode(Ids(Gpt2(), std::string("a\0b", 3)), true), std::string("a\0b", 3));
}

TEST(Encode, ManyThreads) {
  const auto expected = Ids(Gpt2(), Prose(20000));
  const auto chinese = Ids(Pangu(), "你好，今天天气不错。");
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 3; ++round) {
        EXPECT_EQ(Ids(Gpt2(), Prose(20000)), expected);
        EXPECT_EQ(Ids(Pangu(), "你好，今天天气不错。"), chinese);
        EXPECT_EQ(Ids(Mistral(), "Hello"), (std::vector<int32_t>{22557}));
        EXPECT_TRUE(Qwen2().EncodeChat(R"([{"role": "user", "content": "<|im_end|>"}])", {}).ok());
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

TEST(Encode, SpecialTokensInText) {
  EXPECT_EQ(Ids(Gpt2(), "a<|endoftext|>b", false, true), (std::vector<int32_t>{64, 50256, 65}));
  EXPECT_EQ(Gpt2().Decode(Ids(Gpt2(), "a<|endoftext|>b", false, false), true), "a<|endoftext|>b");
  EXPECT_EQ(Gpt2().Decode({64, 50256, 65}, true), "ab");
  EXPECT_EQ(Ids(Mistral(), "<s>", false, true), (std::vector<int32_t>{1}));
  EXPECT_NE(Ids(Mistral(), "<s>", false, false), (std::vector<int32_t>{1}));
  EXPECT_EQ(Ids(Mistral(), "Hello", true), (std::vector<int32_t>{1, 22557}));
  EXPECT_EQ(Mistral().end_ids(), (std::vector<int32_t>{2}));
}

TEST(SpecialTokens, LeftmostLongest) {
  const SpecialTokens tokens({{"<a>", 1},
                              {"<a><b>", 2},
                              {"<strip>", 3, true, true, true},
                              {"word", 4, true, false, false, true},
                              {"<plain>", 5, false}});
  const auto split = [&](std::string_view text, bool special, bool not_special, std::string_view mark = "") {
    std::string out;
    for (const auto& s : tokens.Split(text, special, not_special, mark)) {
      out += s.id < 0 ? "[" + std::string(s.text) + "]" : std::to_string(s.id);
    }
    return out;
  };
  EXPECT_EQ(split("x<a><b><a>y", true, false), "[x]21[y]");
  EXPECT_EQ(split("x<a><b", true, false), "[x]1[<b]");
  EXPECT_EQ(split("x  <strip>\n y", true, false), "[x]3[y]");
  EXPECT_EQ(split("word words sword word", true, false), "4[ words sword ]4");
  EXPECT_EQ(split("<a><plain>", false, true), "[<a>]5");
  EXPECT_EQ(split("<a><plain>", true, false), "1[<plain>]");
  EXPECT_EQ(split("<a>#<a>", true, true, "#"), "[<a>#]1");
  EXPECT_EQ(split("", true, true), "");
  EXPECT_EQ(tokens.OpenEnd("x<a"), 2u);
  EXPECT_EQ(tokens.OpenEnd("x<a>"), 3u);  // may go on to <a><b>
  EXPECT_EQ(tokens.OpenEnd("x"), 0u);
  EXPECT_EQ(SpecialTokens().Split("abc", true, true).size(), 1u);
}

TEST(Folder, OnlyTheFirstWordGetsALeadingSpace) {
  const TempFolder folder;
  folder.Write("tokenizer.json", kTiny);
  const auto text = MustLoad(Folder(folder.path(), Architecture::kLlama));
  ASSERT_NE(text, nullptr);
  EXPECT_EQ(Ids(*text, "abc", true), (std::vector<int32_t>{0, 4, 3, 7}));  // longer than the file's truncation
  EXPECT_EQ(Ids(*text, "a<s>a", false, true), (std::vector<int32_t>{4, 0, 2}));
  EXPECT_EQ(Ids(*text, "a<tool>a"), (std::vector<int32_t>{4, 9, 2}));
  EXPECT_EQ(text->Decode({0, 4, 3, 4}, true), "ab a");
  EXPECT_EQ(text->vocab(), 10);
}

TEST(Folder, NamesAndTemplates) {
  const TempFolder folder;
  folder.Write("tokenizer.json", kTiny);
  folder.Write("special_tokens_map.json", R"({"eos_token": "<s>"})");
  folder.Write("tokenizer_config.json", R"({"bos_token": {"content": "<s>"}, "chat_template":
      [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "{{ bos_token }}|{{ eos_token }}|{{ pad_token }}"}]})");
  const auto header = Folder(folder.path(), Architecture::kLlama);
  const std::string messages = "[]";
  EXPECT_EQ(*MustLoad(header)->RenderChat(messages, {}), "<s>|<s>|");
  EXPECT_EQ(MustLoad(header)->end_ids(), std::vector<int32_t>{0});
  folder.Write("chat_template.jinja", "from file");
  EXPECT_EQ(*MustLoad(header)->RenderChat(messages, {}), "from file");
  folder.Write("own.jinja", "own");
  EXPECT_EQ(*MustLoad(header, folder.path() + "/own.jinja")->RenderChat(messages, {}), "own");
  folder.Write("own.jinja", "{% broken");
  EXPECT_FALSE(Text::Load(header, folder.path() + "/own.jinja").ok());
  EXPECT_EQ(Text::Load(header, folder.path() + "/absent").status().code(), absl::StatusCode::kNotFound);
}

// Wherever a template comes from, its line ends and escapes are read as Jinja2 reads them.
TEST(Folder, EveryTemplateIsReadAsJinja2ReadsIt) {
  const TempFolder folder;
  folder.Write("tokenizer.json", kTiny);
  const auto header = Folder(folder.path(), Architecture::kLlama);
  const std::string source = "a\r\n{% if true %}\r\nb\rc{{ 'd\\\r\ne\\U0001F600' }}\r\n{% endif %}\r\n";
  const std::string expected = "a\nb\ncde\xF0\x9F\x98\x80\n";
  const auto render = [&](const std::string& file) { return *MustLoad(header, file)->RenderChat("[]", {}); };
  const auto config = [&](const nlohmann::json& chat_template) {
    folder.Write("tokenizer_config.json", nlohmann::json{{"chat_template", chat_template}}.dump());
    return render("");
  };
  EXPECT_EQ(config(source), expected);
  EXPECT_EQ(config({{"default", source}, {"tool_use", "no"}}), expected);
  EXPECT_EQ(config(nlohmann::json::array({{{"name", "default"}, {"template", source}}})), expected);
  folder.Write("chat_template.jinja", source);
  EXPECT_EQ(render(""), expected);
  folder.Write("own.jinja", "own " + source);
  EXPECT_EQ(render(folder.path() + "/own.jinja"), "own " + expected);
  TemplateOptions request;
  request.override_template = "request " + source;
  EXPECT_EQ(*MustLoad(header)->RenderChat("[]", request), "request " + expected);
  folder.Write("own.jinja", "{{ bos_token }}\n{{ messages | no_such_filter }}");
  const auto refused = Text::Load(header, folder.path() + "/own.jinja").status();
  EXPECT_EQ(refused.message(), folder.path() + "/own.jinja: chat template: line 2: no filter named 'no_such_filter'");
}

TEST(Folder, SentencePieceOptions) {
  const TempFolder folder;
  folder.Write("tokenizer.model", ReadFile(TestData("mistral/tokenizer.model")));
  folder.Write("tokenizer_config.json",
               R"({"add_bos_token": false, "add_eos_token": true, "legacy": false, "eos_token": "</s>",
      "added_tokens_decoder": {"1": {"content": "<s>", "special": true}, "32000": {"content": "<tool>", "special": false},
                               "32001": {"content": "<|im_end|>", "special": true}}})");
  const auto text = MustLoad(Folder(folder.path(), Architecture::kMistral));
  ASSERT_NE(text, nullptr);
  const int32_t hello = 22557, bare = Ids(*text, "<s>Hello", false, true)[1];
  EXPECT_EQ(Ids(*text, "Hello", true), (std::vector<int32_t>{hello, 2}));
  EXPECT_NE(bare, hello);
  EXPECT_EQ(text->Bytes(bare), "Hello");
  EXPECT_EQ(Ids(*text, "Hello<tool>Hello"), (std::vector<int32_t>{hello, 32000, bare}));
  EXPECT_EQ(Ids(*text, "<|im_end|>", false, true), (std::vector<int32_t>{32001}));
  EXPECT_EQ(Ids(Mistral(), "<s>Hello", false, true), (std::vector<int32_t>{1, hello}));
  EXPECT_EQ(text->vocab(), 32002);
}

std::string Refusal(const std::string& name, const std::string& content,
                    Architecture architecture = Architecture::kLlama) {
  const TempFolder folder;
  folder.Write(name, content);
  const auto text = Text::Load(Folder(folder.path(), architecture), "");
  return text.ok() ? "" : std::string(text.status().message());
}

TEST(Folder, Refusals) {
  EXPECT_NE(Refusal("README", "").find("no tokenizer.json"), std::string::npos);
  for (const char* bad : {"", "{", "[]", "{}", R"({"model": 7})"}) EXPECT_NE(Refusal("tokenizer.json", bad), "") << bad;
  EXPECT_NE(Refusal("tokenizer.json", std::string(100000, '[')), "");
  std::string other = kTiny;
  other.replace(
      other.find(R"("decoder":{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":false})"),
      std::string(R"("decoder":{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":false})").size(),
      R"("decoder":{"type":"WordPiece","prefix":"##","cleanup":true})");
  EXPECT_NE(Refusal("tokenizer.json", other).find("WordPiece"), std::string::npos);
  EXPECT_NE(Refusal("tokenizer.model", "rubbish").find("SentencePiece"), std::string::npos);
  EXPECT_NE(Refusal("vocab.model", "rubbish", Architecture::kPangu).find("SentencePiece"), std::string::npos);
  const TempFolder folder;
  folder.Write("vocab.json", R"({"a": 0})");
  folder.Write("merges.txt", "");
  folder.Write("tokenizer_config.json", R"({"tokenizer_class": "KlingonTokenizer"})");
  const auto text = Text::Load(Folder(folder.path(), Architecture::kGpt2), "");
  EXPECT_NE(text.status().message().find("KlingonTokenizer"), std::string::npos) << text.status();
  folder.Write("tokenizer_config.json",
               R"({"tokenizer_class": "GPT2Tokenizer", "added_tokens_decoder": {"-1": {"content": "x"}}})");
  EXPECT_NE(Text::Load(Folder(folder.path(), Architecture::kGpt2), "").status().message().find("-1"),
            std::string::npos);
  folder.Write("tokenizer_config.json",
               R"({"tokenizer_class": "GPT2Tokenizer", "added_tokens_decoder": {"9": {"content": "<x>"}}})");
  EXPECT_NE(Text::Load(Folder(folder.path(), Architecture::kGpt2), "").status().message().find("<x>"),
            std::string::npos);
}

// What vLLM's /tokenizer_info tells, and lm-eval's remote tokenizer reads.
TEST(Info, NamesTokensAndTemplate) {
  const auto qwen = Qwen2().Info();
  EXPECT_EQ(qwen["tokenizer_class"], "Qwen2Tokenizer");
  EXPECT_EQ(qwen["bos_token"], nullptr);
  EXPECT_EQ(qwen["eos_token"], "<|endoftext|>");
  EXPECT_EQ(qwen["pad_token"], "<|endoftext|>");
  EXPECT_EQ(qwen["chat_template"].get<std::string>().substr(0, 29), "{% for message in messages %}");
  const auto mistral = Mistral().Info();  // a SentencePiece model alone
  EXPECT_EQ(mistral["bos_token"], "<s>");
  EXPECT_EQ(mistral["eos_token"], "</s>");
  EXPECT_EQ(mistral["pad_token"], nullptr);
  EXPECT_EQ(mistral["chat_template"], nullptr);
  EXPECT_TRUE(mistral["tokenizer_class"].is_string());
  TempFolder folder;
  folder.Write("own.jinja", "{{ messages[0].content }}");
  const auto own = MustLoad(Folder(TestData("qwen2"), Architecture::kQwen2), folder.path() + "/own.jinja");
  EXPECT_EQ(own->Info()["chat_template"], "{{ messages[0].content }}") << "the one that is served";
}

}  // namespace
}  // namespace pangea
