// What the tests of this room share.
#pragma once
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "master/text/model_text.h"
#include "nlohmann/json.hpp"

namespace pangea {

inline std::string TestData(const std::string& name) {
  return std::string(PANGEA_SOURCE_DIR) + "/master/text/testdata/" + name;
}

inline std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in) << path;
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

inline CheckpointHeader Folder(const std::string& path, Architecture architecture) {
  CheckpointHeader header;
  header.path = path;
  header.config.architecture = architecture;
  return header;
}

inline std::unique_ptr<ModelText> MustLoad(const CheckpointHeader& header, const std::string& template_file = "") {
  auto text = ModelText::Load(header, template_file);
  EXPECT_TRUE(text.ok()) << text.status();
  return text.ok() ? std::move(*text) : nullptr;
}

// Loaded once for all tests of an executable.
inline const ModelText& Gpt2() {
  static const auto text = MustLoad(Folder(TestData("gpt2"), Architecture::kGpt2));
  return *text;
}
inline const ModelText& Qwen2() {
  static const auto text = MustLoad(Folder(TestData("qwen2"), Architecture::kQwen2));
  return *text;
}
inline const ModelText& Mistral() {
  static const auto text = MustLoad(Folder(TestData("mistral"), Architecture::kMistral));
  return *text;
}
inline const ModelText& Pangu() {
  static const auto text = MustLoad(Folder(TestData("pangu"), Architecture::kPangu));
  return *text;
}

inline std::vector<int32_t> Ids(const Text& text, const std::string& input, bool add_special = false,
                                bool parse_special = false) {
  const auto ids = text.Encode(input, add_special, parse_special);
  EXPECT_TRUE(ids.ok()) << ids.status();
  return ids.ok() ? *ids : std::vector<int32_t>{-1};
}

// A tokenizer.json of nine tokens, a BOS in its post-processor, and one added token that is not special.
inline constexpr char kTiny[] =
    R"({"version":"1.0","truncation":{"max_length":2,"strategy":"LongestFirst","stride":0,"direction":"Right"},
  "padding":null,"added_tokens":[{"id":0,"content":"<s>","special":true,"lstrip":false,"rstrip":false,"normalized":false,"single_word":false},
  {"id":9,"content":"<tool>","special":false,"lstrip":false,"rstrip":false,"normalized":false,"single_word":false}],"normalizer":null,
  "pre_tokenizer":{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":false},
  "post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],
    "pair":[{"Sequence":{"id":"A","type_id":0}},{"Sequence":{"id":"B","type_id":1}}],"special_tokens":{"<s>":{"id":"<s>","ids":[0],"tokens":["<s>"]}}},
  "decoder":{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":false},
  "model":{"type":"BPE","vocab":{"<s>":0,"▁":1,"a":2,"b":3,"▁a":4,"ab":5,"<0x0A>":6,"c":7,"▁ab":8},"merges":["▁ a","a b","▁ ab"]}})";

// A folder that is removed at the end.
class TempFolder {
 public:
  TempFolder() : path_(testing::TempDir() + "pangea_text_XXXXXX") { EXPECT_NE(mkdtemp(path_.data()), nullptr); }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  void Write(const std::string& name, const std::string& content) const {
    std::ofstream(path_ + "/" + name, std::ios::binary) << content;
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace pangea
