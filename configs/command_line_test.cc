#include "configs/command_line.h"

#include <gtest/gtest.h>

#include <sstream>

namespace pangea {
namespace {

class CommandLineTest : public testing::Test {
 protected:
  CommandLineTest() {
    line_.Word("WORD", "a word");
    line_.Heading("Options:");
    line_.Switch("--on", "a switch", &on_);
    line_.Text("--text", "WORD", "a text", &text_);
    line_.List("--stop", "TEXT", "a list", &list_);
    line_.Number("--n", "a number", {1, 10}, &number_);
    line_.Number("--t", "a real", {0, 2}, &real_);
    line_.Number("--seed", "of 64 bits", {0, 1.9e19}, &seed_);
    line_.Choice("--level", "low, high", "a choice", &level_);
    line_.Switch("--secret", "", &secret_);
  }
  absl::StatusOr<std::vector<std::string>> Parse(std::vector<const char*> words) {
    words.insert(words.begin(), "x");
    return line_.Parse(static_cast<int>(words.size()), words.data());
  }

  CommandLine line_{"x", "[WORD] [options]", "Does x."};
  bool on_ = false, secret_ = false;
  std::string text_, level_;
  std::vector<std::string> list_;
  int number_ = 7;
  uint64_t seed_ = 0;
  std::optional<double> real_;
};

TEST_F(CommandLineTest, ReadsWordsAndOptions) {
  const auto words = Parse({"a", "--on", "--text=b=c", "--stop", "s", "--stop=--on", "--n", "10", "--t", "0.5", "-",
                            "--seed", "18446744073709551615", "--level=high", "--secret", "--", "--on", "--"});
  ASSERT_TRUE(words.ok()) << words.status();
  EXPECT_EQ(*words, (std::vector<std::string>{"a", "-", "--on", "--"}));
  EXPECT_TRUE(on_ && secret_);
  EXPECT_EQ(text_, "b=c");
  EXPECT_EQ(list_, (std::vector<std::string>{"s", "--on"}));
  EXPECT_EQ(number_, 10);
  EXPECT_EQ(*real_, 0.5);
  EXPECT_EQ(seed_, ~uint64_t{0});
  EXPECT_EQ(level_, "high");
}

TEST_F(CommandLineTest, AWordMayBeginWithADashBehindAnOptionThatTakesOne) {
  ASSERT_TRUE(Parse({"--text", "--on"}).ok());
  EXPECT_EQ(text_, "--on");
  EXPECT_FALSE(on_);
}

TEST_F(CommandLineTest, Refusals) {
  const struct {
    std::vector<const char*> words;
    const char* fault;
  } kCases[] = {
      {{"--none"}, "unknown option --none; did you mean --on?"},
      {{"--txet", "a"}, "unknown option --txet; did you mean --text?"},
      {{"--leve=low"}, "unknown option --leve; did you mean --level?"},
      {{"--quantization", "awq"}, "unknown option --quantization; see --help"},
      {{"--secre"}, "unknown option --secre; see --help"},  // what is not shown is not named
      {{"-x"}, "unknown option -x; see --help"},
      {{"--a\nb"}, "unknown option --a\\x0ab; see --help"},
      {{"--text"}, "--text needs a value; see --help"},
      {{"--text="}, "--text needs a value; see --help"},
      {{"--text", ""}, "--text needs a value; see --help"},
      {{"--n", ""}, "--n needs a value; see --help"},
      {{"--stop", ""}, "--stop needs a value; see --help"},
      {{"--on=1"}, "--on takes no value; see --help"},
      {{"--on="}, "--on takes no value; see --help"},
      {{"--text", "a", "--text=a"}, "--text is given twice"},
      {{"--on", "--on"}, "--on is given twice"},
      {{"--n", "11"}, "--n: expected a whole number from 1 to 10, not \"11\""},
      {{"--n", "0"}, "--n: expected a whole number from 1 to 10, not \"0\""},
      {{"--n", "5x"}, "--n: expected a whole number from 1 to 10, not \"5x\""},
      {{"--n", "9223372036854775808"}, "--n: expected a whole number from 1 to 10, not \"9223372036854775808\""},
      {{"--n", " 5"}, "--n: expected a whole number from 1 to 10, not \" 5\""},
      {{"--t", "nan"}, "--t: expected a number from 0 to 2, not \"nan\""},
      {{"--t", "inf"}, "--t: expected a number from 0 to 2, not \"inf\""},
      {{"--t", "-0.1"}, "--t: expected a number from 0 to 2, not \"-0.1\""},
      {{"--seed", "-1"}, "--seed: expected a whole number from 0 to 1.9e+19, not \"-1\""},
      {{"--level", "middle"}, "--level: expected one of low, high, not \"middle\""},
  };
  for (const auto& c : kCases) {
    CommandLine fresh = line_;  // which has been given nothing yet
    std::vector<const char*> words = c.words;
    words.insert(words.begin(), "x");
    EXPECT_EQ(fresh.Parse(static_cast<int>(words.size()), words.data()).status(), absl::InvalidArgumentError(c.fault));
  }
  const char* words[] = {"x", "a", "b"};
  EXPECT_EQ(line_.Parse(3, words, 1).status(), absl::InvalidArgumentError("unexpected \"b\"; see --help"));
  EXPECT_TRUE(line_.Parse(3, words, 2).ok());
}

TEST_F(CommandLineTest, HelpHasEveryOptionInLinesThatFit) {
  line_.Text("--a-long-name-of-an-option", "FILE",
             "a text that is so long that it goes on in another line, which begins where this one does, and fits too",
             &text_);
  ASSERT_TRUE(Parse({"a", "--help", "--none"}).ok());
  EXPECT_TRUE(line_.help());
  EXPECT_EQ(line_.Help(), R"(Usage: pangea x [WORD] [options]

Does x.

  WORD                             a word
Options:
  --on                             a switch
  --text WORD                      a text
  --stop TEXT                      a list
  --n N                            a number (1 to 10)
  --t X                            a real (0 to 2)
  --seed N                         of 64 bits (0 to 1.9e+19)
  --level low|high                 a choice
  --a-long-name-of-an-option FILE  a text that is so long that it goes on in
                                   another line, which begins where this one
                                   does, and fits too
  --help                           this text
)");
}

TEST_F(CommandLineTest, FaultsAre64OnStandardErrorAndHelpIs0OnStandardOutput) {
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  EXPECT_EQ(line_.Exit(absl::OkStatus()), std::nullopt);
  EXPECT_EQ(line_.Exit(absl::InvalidArgumentError("no")), 64);
  ASSERT_TRUE(Parse({"-h"}).ok());
  EXPECT_EQ(line_.Exit(absl::OkStatus()), 0);
  EXPECT_EQ(testing::internal::GetCapturedStdout(), line_.Help());
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "pangea x: no\n");
}

}  // namespace
}  // namespace pangea
