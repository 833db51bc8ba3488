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
#include "master/text/text.h"
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

inline std::unique_ptr<Text> MustLoad(const CheckpointHeader& header, const std::string& template_file = "") {
  auto text = Text::Load(header, template_file);
  EXPECT_TRUE(text.ok()) << text.status();
  return text.ok() ? std::move(*text) : nullptr;
}

// Loaded once for all tests of an executable.
inline const Text& Gpt2() {
  static const auto text = MustLoad(Folder(TestData("gpt2"), Architecture::kGpt2));
  return *text;
}
inline const Text& Qwen2() {
  static const auto text = MustLoad(Folder(TestData("qwen2"), Architecture::kQwen2));
  return *text;
}
inline const Text& Mistral() {
  static const auto text = MustLoad(Folder(TestData("mistral"), Architecture::kMistral));
  return *text;
}
inline const Text& Pangu() {
  static const auto text = MustLoad(Folder(TestData("pangu"), Architecture::kPangu));
  return *text;
}

inline std::vector<int32_t> Ids(const Text& text, const std::string& input, bool add_special = false,
                                bool parse_special = false) {
  const auto ids = text.Encode(input, add_special, parse_special);
  EXPECT_TRUE(ids.ok()) << ids.status();
  return ids.ok() ? *ids : std::vector<int32_t>{-1};
}

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
