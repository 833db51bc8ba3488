#include "master/api/openai/response.h"

#include <gtest/gtest.h>

#include <random>

#include "master/api/openai/api_error.h"
#include "master/text/utf8.h"

namespace pangea {
namespace {

std::string Written(std::string_view text) {
  std::string out = "\"";
  AppendJsonText(text, &out);
  return out + '"';
}

// What nlohmann/json writes is the reference, and what it reads from ours is the text again.
TEST(JsonText, EveryCharacterIsWrittenAsInAWholeAnswer) {
  std::string all;
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    const std::string text = "a" + Utf8(c) + "b";
    ASSERT_EQ(Written(text), DumpJson(text)) << static_cast<uint32_t>(c);
    all += Utf8(c);
  }
  EXPECT_EQ(Written(all), DumpJson(all));
  EXPECT_EQ(nlohmann::json::parse(Written(all)), all);
  EXPECT_EQ(Written("a\nb\x01\u2028"), R"("a\nb\u0001\u2028")");
}

TEST(JsonText, BrokenTextTurnsIntoTheSameReplacements) {
  const std::string spice = "ab\"\\\n\x80\xC2\x85\xE2\xA8\xED\xF0\x9F\x98\xFF";
  std::mt19937 random(3);
  int broken = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    for (int k = random() % 8; k > 0; --k) text += spice[random() % spice.size()];
    ASSERT_EQ(Written(text), DumpJson(text)) << testing::PrintToString(text);
    broken += !IsUtf8(text);
  }
  EXPECT_GT(broken, 1000);
  EXPECT_LT(broken, 19000);
}

}  // namespace
}  // namespace pangea
