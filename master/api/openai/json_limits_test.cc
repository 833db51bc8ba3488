#include "master/api/openai/json_limits.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "master/text/utf8.h"
#include "nlohmann/json.hpp"

namespace pangea {
namespace {

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

// JSONTestSuite: y_ must be accepted, n_ refused; i_ is ours to decide, but what we accept the parser must too (or
// refuse politely).
TEST(JsonLimits, JsonTestSuite) {
  int accepted = 0, refused = 0, open = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(PANGEA_SOURCE_DIR "/master/api/openai/testdata/JSONTestSuite")) {
    const std::string name = entry.path().filename(), text = ReadFile(entry.path());
    if (name == "LICENSE") continue;
    const auto status = CheckJson(text, {});
    if (name[0] == 'y') {
      ++accepted;
      EXPECT_TRUE(status.ok()) << name << ": " << status;
      EXPECT_FALSE(nlohmann::json::parse(text, nullptr, false).is_discarded()) << name;
    } else if (name[0] == 'n') {
      ++refused;
      EXPECT_FALSE(status.ok()) << name;
      EXPECT_TRUE(absl::IsInvalidArgument(status));
    } else {
      ++open;
      const bool number =
          name.find("number") != std::string::npos;  // out of a double's range: grammar is fine, the parser says no
      if (status.ok() && !number) {
        EXPECT_TRUE(nlohmann::json::accept(text)) << name;
      }
    }
  }
  EXPECT_EQ(accepted, 95);
  EXPECT_EQ(refused, 188);
  EXPECT_EQ(open, 35);
}

TEST(JsonLimits, DepthAndValues) {
  const auto nested = [](int depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_TRUE(CheckJson(nested(64), {64}).ok());
  EXPECT_FALSE(CheckJson(nested(65), {64}).ok());
  EXPECT_FALSE(CheckJson(nested(100000), {64}).ok());
  EXPECT_FALSE(CheckJson(std::string(100000, '['), {64}).ok());
  std::string objects;
  for (int i = 0; i < 100000; ++i) objects += "{\"a\":";
  EXPECT_FALSE(CheckJson(objects, {64}).ok());
  EXPECT_TRUE(CheckJson("[1,2,3]", {64, 4}).ok());
  EXPECT_FALSE(CheckJson("[1,2,3]", {64, 3}).ok());
  // A depth that is left does not count.
  std::string wide = "[";
  for (int i = 0; i < 1000; ++i) wide += "[{}],";
  EXPECT_TRUE(CheckJson(wide + "1]", {3}).ok());
}

TEST(JsonLimits, Utf8) {
  for (const std::string good : {"\x7f", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80",
                                 "\xEF\xBF\xBE", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"}) {
    EXPECT_TRUE(IsUtf8(good)) << testing::PrintToString(good);
    EXPECT_TRUE(CheckJson("\"" + good + "\"", {}).ok());
  }
  for (const std::string bad :
       {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xED\xBF\xBF", "\xF0\x8F\xBF\xBF",
        "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xE2\x82", "\xC3"}) {
    EXPECT_FALSE(IsUtf8(bad)) << testing::PrintToString(bad);
    EXPECT_FALSE(CheckJson("\"" + bad + "\"", {}).ok());
  }
  EXPECT_FALSE(CheckJson("\xEF\xBB\xBF{}", {}).ok());  // a byte order mark
  EXPECT_TRUE(CheckJson(R"("\ud834\udd1e \u0000")", {}).ok());
  for (const char* bad :
       {R"("\ud800")", R"("\udc00")", R"("\ud800x")", R"("\ud800\n")", R"("\ud800\u0041")", R"("\ud800\ud800")"}) {
    EXPECT_FALSE(CheckJson(bad, {}).ok()) << bad;
  }
  EXPECT_EQ(CodePoints("a\xC3\xA9\xF0\x9F\x98\x80"), 3);
}

// The parser behind us is the independent reference: over random damage, both accept the same texts.
TEST(JsonLimits, AgreesWithTheParserOnDamagedTexts) {
  const std::string sound =
      R"({"a":[1,-2.5e3,true,null,"x\u00e9\ud834\udd1e\n"],"b":{"c":"é","d":[]},"e":0.125,"f":{}} )";
  const std::string spice = "{}[]\",:\\u0d8c\x80\xC3\xED\n\t -+.eE19tfn";
  std::mt19937 random(7);
  int accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string text = sound;
    for (int k = random() % 3; k >= 0; --k) {
      const size_t at = random() % text.size();
      switch (random() % 3) {
        case 0:
          text[at] = spice[random() % spice.size()];
          break;
        case 1:
          text.erase(at, 1 + random() % 3);
          break;
        default:
          text.insert(at, 1, spice[random() % spice.size()]);
      }
    }
    const bool ours = CheckJson(text, {}).ok();
    ASSERT_EQ(ours, nlohmann::json::accept(text)) << text;
    accepted += ours;
  }
  EXPECT_GT(accepted, 200);
  EXPECT_LT(accepted, 19000);
}

}  // namespace
}  // namespace pangea
