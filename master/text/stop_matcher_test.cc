// Against a brute-force search of the whole text, for every way of cutting it in two and random ways of cutting it in
// many.
#include <random>

#include "gtest/gtest.h"
#include "master/text/text.h"

namespace pangea {
namespace {

struct Result {
  std::string text;
  bool stopped = false;
  bool operator==(const Result&) const = default;
};

// The earliest end of any stop string; of those that end there the one that begins first.
Result BruteForce(const std::string& text, const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    for (size_t begin = 0; begin < end; ++begin) {
      for (const auto& stop : stops) {
        if (!stop.empty() && text.substr(begin, end - begin) == stop) return {text.substr(0, begin), true};
      }
    }
  }
  return {text, false};
}

// What may be held back after `text`: its longest end that begins a stop string.
size_t Held(const std::string& text, const std::vector<std::string>& stops) {
  for (size_t length = text.size(); length > 0; --length) {
    for (const auto& stop : stops) {
      if (length < stop.size() && stop.compare(0, length, text, text.size() - length, length) == 0) return length;
    }
  }
  return 0;
}

Result RunPieces(const std::vector<std::string>& pieces, const std::vector<std::string>& stops) {
  StopMatcher matcher(stops);
  Result out;
  std::string seen;
  for (const auto& piece : pieces) {
    const auto got = matcher.Push(piece);
    seen += piece;
    out.text += got.text;
    if (got.stopped) {
      EXPECT_EQ(matcher.Flush(), "");
      EXPECT_TRUE(matcher.Push("more").stopped);
      out.stopped = true;
      return out;
    }
    EXPECT_EQ(out.text.size(), seen.size() - Held(seen, stops)) << seen;
  }
  out.text += matcher.Flush();
  return out;
}

TEST(StopMatcher, EverySplitPoint) {
  const std::vector<std::vector<std::string>> sets = {{"stop"},       {"aab", "ab"},    {"b", "aab"}, {"aaa"},
                                                      {"abab", "bb"}, {"", "x"},        {},           {"é", "\n\n"},
                                                      {"a", "ab"},    {"ana", "banana"}};
  const std::vector<std::string> texts = {"",       "stop",      "sstostop here", "aaaab",    "aabaab",
                                          "ababbb", "caféx\n\n", "bananas",       "no match", "aaa"};
  for (const auto& stops : sets) {
    for (const auto& text : texts) {
      const Result expected = BruteForce(text, stops);
      for (size_t at = 0; at <= text.size(); ++at)
        EXPECT_EQ(RunPieces({text.substr(0, at), text.substr(at)}, stops), expected) << text;
      std::vector<std::string> bytes;
      for (const char c : text) bytes.emplace_back(1, c);
      EXPECT_EQ(RunPieces(bytes, stops), expected) << text;
    }
  }
}

TEST(StopMatcher, Random) {
  std::mt19937 random(7);
  const auto word = [&](size_t most) {
    std::string out;
    for (size_t n = random() % (most + 1); n > 0; --n) out.push_back("ab"[random() % 2]);
    return out;
  };
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> stops;
    for (size_t n = random() % 4; n > 0; --n) stops.push_back(word(6));
    std::vector<std::string> pieces;
    std::string text;
    for (size_t n = random() % 8; n > 0; --n) text += pieces.emplace_back(word(5));
    ASSERT_EQ(RunPieces(pieces, stops), BruteForce(text, stops)) << text;
  }
}

// A matcher that looked again at what it holds back would take 10^11 steps here.
TEST(StopMatcher, LinearOnItsWorstText) {
  std::vector<std::string> stops = {std::string(100000, 'a') + "b"};
  StopMatcher matcher(stops);
  size_t out = 0;
  for (int i = 0; i < 1000000; ++i) out += matcher.Push("a").text.size();
  EXPECT_EQ(out, 900000u);
  const auto last = matcher.Push("b");
  EXPECT_TRUE(last.stopped);
  EXPECT_EQ(last.text, "");
}

TEST(StopMatcher, WhatMayNotStopIsPassedOverButWhatItBeginsMayEndLater) {
  StopMatcher matcher({"STOP", "end"});
  EXPECT_EQ(matcher.Push("a STOP b end", false).text, "a STOP b ");  // "end" may be the beginning of more
  EXPECT_EQ(matcher.Push(" ST", false).text, "end ");
  const auto last = matcher.Push("OPz", true);
  EXPECT_TRUE(last.stopped);
  EXPECT_EQ(last.text, "");
  StopMatcher never({"ab"});
  std::string text;
  for (int i = 0; i < 5; ++i) text += never.Push("xab", false).text;
  EXPECT_EQ(text + never.Flush(), "xabxabxabxabxab");
}

TEST(StopMatcher, CopiesAreApart) {
  StopMatcher first({"xyz"});
  StopMatcher second = first;
  EXPECT_EQ(first.Push("xy").text, "");
  EXPECT_EQ(second.Push("z").text, "z");
  EXPECT_TRUE(first.Push("z").stopped);
}

}  // namespace
}  // namespace pangea
