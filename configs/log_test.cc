#include "configs/log.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "configs/cat.h"
#include "configs/log_test_util.h"
#include "configs/values.h"

namespace pangea {
namespace {

TEST(Log, ControlCharactersAndLineEndsAreEscaped) {
  EXPECT_EQ(Printable("plain é 中 😀 \"quoted\""), "plain é 中 😀 \"quoted\"");
  EXPECT_EQ(Printable("a\nb\rc\td"), "a\\x0ab\\x0dc\\x09d");
  EXPECT_EQ(Printable(std::string_view("\0\x1b[31m\x7f", 7)), "\\x00\\x1b[31m\\x7f");
  EXPECT_EQ(Printable("\xc2\x85\xc2\x9b"), "\\xc2\\x85\\xc2\\x9b") << "control characters beyond ASCII";
  EXPECT_EQ(Printable("\u2028\u2029"), "\\xe2\\x80\\xa8\\xe2\\x80\\xa9") << "Unicode's line ends";
  EXPECT_EQ(Printable("\u202e"), "\\xe2\\x80\\xae") << "turns the direction of what follows";
  EXPECT_EQ(Printable("\u061c"), "\\xd8\\x9c") << "and of Arabic";
  EXPECT_EQ(Printable("\xff\xc3"), "\\xff\\xc3") << "no UTF-8";
  EXPECT_EQ(Printable("\xc0\x8a"), "\\xc0\\x8a") << "a line feed spelled too long";
  CapturedLog log;
  LogInfo("one %s", "two\n2026-01-01 00:00:00.000 I master] three");
  const std::string text = log.Take();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
}

TEST(Log, ALongLineIsCutBetweenCharacters) {
  CapturedLog log;
  for (const char* shift : {"", "a"}) {  // one of the two has the limit within a character
    std::string text = Cat("\n", shift);
    for (int i = 0; i < 3000; ++i) text += "é";
    LogInfo("%s", text);
    EXPECT_TRUE(WellFormedUtf8(log.Take())) << shift;
  }
}

// Nobody reads the pipe: writing to the log must not wait, and the number of lost lines is told later.
TEST(Log, AFullPipeDoesNotBlockTheWriter) {
  CapturedLog log;
  const std::string line(1000, 'x');
  for (int i = 0; i < 2000; ++i) LogInfo("%s", line);  // more than any pipe holds by default
  const std::string kept = log.Take();
  EXPECT_LT(kept.size(), 2000u * 1000);
  EXPECT_EQ(kept.substr(kept.size() - 3), "xx\n") << "no line is cut";
  LogInfo("there");
  const std::string after = log.Take();
  EXPECT_NE(after.find(" lines of the log were lost"), std::string::npos) << after;
  EXPECT_NE(after.find("] there\n"), std::string::npos) << after;
}

}  // namespace
}  // namespace pangea
