#include "master/api/openai/json_reader.h"

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

// Kinds of numbers too, which == takes for equal.
void ExpectSame(const nlohmann::json& ours, const std::string& text) {
  const auto reference = nlohmann::json::parse(text, nullptr, false);
  ASSERT_FALSE(reference.is_discarded()) << text;
  EXPECT_EQ(ours, reference) << text;
  EXPECT_EQ(nlohmann::json::to_cbor(ours), nlohmann::json::to_cbor(reference)) << text;
}

// JSONTestSuite: y_ must be accepted, n_ refused; i_ is ours to decide, but what we accept nlohmann/json must read too,
// and as the same value.
TEST(JsonReader, JsonTestSuite) {
  int accepted = 0, refused = 0, open = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(PANGEA_SOURCE_DIR "/master/api/openai/testdata/JSONTestSuite")) {
    const std::string name = entry.path().filename(), text = ReadFile(entry.path());
    if (name == "LICENSE") continue;
    const auto read = ReadJson(text, {});
    if (name[0] == 'y') {
      ++accepted;
      EXPECT_TRUE(read.ok()) << name << ": " << read.status();
    } else if (name[0] == 'n') {
      ++refused;
      EXPECT_FALSE(read.ok()) << name;
      EXPECT_TRUE(absl::IsInvalidArgument(read.status()));
    } else {
      ++open;
    }
    if (read.ok()) {
      ExpectSame(read->value, text);
    }
  }
  EXPECT_EQ(accepted, 95);
  EXPECT_EQ(refused, 188);
  EXPECT_EQ(open, 35);
}

TEST(JsonReader, DepthAndValues) {
  const auto nested = [](int depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_TRUE(ReadJson(nested(64), {64}).ok());
  EXPECT_FALSE(ReadJson(nested(65), {64}).ok());
  EXPECT_FALSE(ReadJson(nested(100000), {64}).ok());
  EXPECT_FALSE(ReadJson(std::string(100000, '['), {64}).ok());
  std::string objects;
  for (int i = 0; i < 100000; ++i) objects += "{\"a\":";
  EXPECT_FALSE(ReadJson(objects, {64}).ok());
  EXPECT_TRUE(ReadJson("[1,2,3]", {64, 4}).ok());
  EXPECT_FALSE(ReadJson("[1,2,3]", {64, 3}).ok());
  // A depth that is left does not count.
  std::string wide = "[";
  for (int i = 0; i < 1000; ++i) wide += "[{}],";
  EXPECT_TRUE(ReadJson(wide + "1]", {3}).ok());
}

TEST(JsonReader, Utf8) {
  for (const std::string good : {"\x7f", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80",
                                 "\xEF\xBF\xBE", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"}) {
    EXPECT_TRUE(IsUtf8(good)) << testing::PrintToString(good);
    EXPECT_TRUE(ReadJson("\"" + good + "\"", {}).ok());
  }
  for (const std::string bad :
       {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xED\xBF\xBF", "\xF0\x8F\xBF\xBF",
        "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xE2\x82", "\xC3"}) {
    EXPECT_FALSE(IsUtf8(bad)) << testing::PrintToString(bad);
    EXPECT_FALSE(ReadJson("\"" + bad + "\"", {}).ok());
  }
  EXPECT_FALSE(ReadJson("\xEF\xBB\xBF{}", {}).ok());  // a byte order mark
  EXPECT_TRUE(ReadJson(R"("\ud834\udd1e \u0000")", {}).ok());
  for (const char* bad :
       {R"("\ud800")", R"("\udc00")", R"("\ud800x")", R"("\ud800\n")", R"("\ud800\u0041")", R"("\ud800\ud800")"}) {
    EXPECT_FALSE(ReadJson(bad, {}).ok()) << bad;
  }
  EXPECT_EQ(CodePoints("a\xC3\xA9\xF0\x9F\x98\x80"), 3);
}

// nlohmann/json is the independent reference: over random damage, both accept the same texts, and read the same.
TEST(JsonReader, AgreesWithAnotherOnDamagedTexts) {
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
    const auto ours = ReadJson(text, {});
    ASSERT_EQ(ours.ok(), nlohmann::json::accept(text)) << text;
    if (ours.ok()) ExpectSame(ours->value, text);
    accepted += ours.ok();
  }
  EXPECT_GT(accepted, 200);
  EXPECT_LT(accepted, 19000);
}

TEST(JsonReader, Numbers) {
  for (const char* text :
       {"0", "-0", "-0.0", "1.0", "1e2", "9223372036854775807", "9223372036854775808", "18446744073709551615",
        "18446744073709551616", "-9223372036854775808", "-9223372036854775809", "12345678901234567890123", "0.1",
        "2.2250738585072011e-308", "4.9e-324", "1e-400", "1.7976931348623157e308", "123456789.123456789e-7"}) {
    const auto read = ReadJson(text, {});
    ASSERT_TRUE(read.ok()) << text;
    ExpectSame(read->value, text);
  }
  EXPECT_EQ(ReadJson("[1e400]", {}).status().message(), "the body is not valid JSON: a number is out of range");
  EXPECT_EQ(ReadJson("[1e400", {}).status().message(), "the body is not valid JSON: expected ',' or ']' at byte 6");
}

TEST(JsonReader, MembersAreToldAsTheyAreWritten) {
  const std::string text = R"( {"a" : {"z":1, "b" :[ 2]} ,"\u0062":"x\"}","c":[],"d": -1.50 ,"a":{ } } )";
  const auto read = ReadJson(text, {});
  ASSERT_TRUE(read.ok()) << read.status();
  const std::map<std::string, std::string_view, std::less<>> members = {
      {"a", "{ }"}, {"b", R"("x\"}")"}, {"c", "[]"}, {"d", "-1.50"}};
  EXPECT_EQ(read->members, members);
  EXPECT_EQ(ReadJson(R"({"a":{"b":1},"c":2})", {})->members.at("a"), R"({"b":1})");
  EXPECT_TRUE(ReadJson(R"([{"a":1}])", {})->members.empty());
}

}  // namespace
}  // namespace pangea
