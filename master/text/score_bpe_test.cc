#include "master/text/score_bpe.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "master/text/pieces.h"

namespace pangea {
namespace {

using Pieces = std::vector<ScoreBpe::Piece>;

std::vector<int32_t> Encode(const ScoreBpe& bpe, std::string_view text, bool space = false) {
  std::vector<int32_t> ids;
  bpe.Encode(text, space, &ids);
  return ids;
}

// The definition: again and again the pair of neighbours whose joint piece scores highest, the leftmost of equals.
std::vector<int32_t> Naive(const Pieces& pieces, const std::string& text) {
  const auto find = [&](const std::string& part) {
    for (size_t id = 0; id < pieces.size(); ++id) {
      if (pieces[id].text == part) return static_cast<int>(id);
    }
    return -1;
  };
  std::vector<std::string> parts;
  for (const char c : text) parts.emplace_back(1, c);
  while (true) {
    int best = -1, best_id = -1;
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      const int id = find(parts[i] + parts[i + 1]);
      if (id >= 0 && (best < 0 || pieces[id].score > pieces[best_id].score)) best = static_cast<int>(i), best_id = id;
    }
    if (best < 0) break;
    parts[best] += parts[best + 1];
    parts.erase(parts.begin() + best + 1);
  }
  std::vector<int32_t> ids;
  for (const std::string& part : parts) ids.push_back(find(part));
  return ids;
}

TEST(ScoreBpe, MergesAsTheDefinitionSays) {
  std::mt19937 random(3);
  const auto word = [&](int longest) {
    std::string out;
    for (int n = 1 + static_cast<int>(random() % longest); n > 0; --n) out += static_cast<char>('a' + random() % 3);
    return out;
  };
  for (int round = 0; round < 200; ++round) {
    std::set<std::string> texts = {"a", "b", "c"};
    for (int n = 0; n < 12; ++n) texts.insert(word(4));
    Pieces pieces;
    for (const std::string& text : texts) pieces.push_back({text, -static_cast<float>(random() % 5)});
    const ScoreBpe bpe(pieces, std::nullopt);
    for (int n = 0; n < 10; ++n) {
      const std::string text = word(30);
      ASSERT_EQ(Encode(bpe, text), Naive(pieces, text)) << text;
    }
  }
}

TEST(ScoreBpe, SpacesAreWrittenAsTheirSign) {
  const ScoreBpe bpe({{"\xE2\x96\x81", -1},
                      {"\xE2\x96\x81"
                       "a",
                       0},
                      {"a", -2}},
                     std::nullopt);
  EXPECT_EQ(Encode(bpe, "a a"), (std::vector<int32_t>{2, 1}));
  EXPECT_EQ(Encode(bpe, "a a", true), (std::vector<int32_t>{1, 1}));
  EXPECT_EQ(Encode(bpe, "", true), (std::vector<int32_t>{0}));
  EXPECT_EQ(Encode(bpe, ""), (std::vector<int32_t>{}));
}

TEST(ScoreBpe, WhatNoPieceSpellsIsBytesOrUnknown) {
  Pieces pieces = {{"<unk>", 0, false}, {"a", 0}};
  const ScoreBpe none(pieces, 0);
  EXPECT_EQ(Encode(none, "a\xC3\xA9zza"), (std::vector<int32_t>{1, 0, 1})) << "a run of unknown characters is one id";
  EXPECT_EQ(Encode(ScoreBpe(pieces, std::nullopt), "az"), (std::vector<int32_t>{1}));
  EXPECT_FALSE(none.has_all_bytes());
  pieces.push_back({"<0xC3>", 0, false});
  pieces.push_back({"<0xA9>", 0, false});
  const ScoreBpe some(pieces, 0);
  EXPECT_EQ(Encode(some, "\xC3\xA9\xC3\xA8"), (std::vector<int32_t>{2, 3, 0})) << "one of two bytes is not enough";
  pieces.resize(2);
  for (int byte = 0; byte < 256; ++byte) {
    char text[8];
    std::snprintf(text, sizeof text, "<0x%02X>", byte);
    pieces.push_back({text, 0, false});
  }
  const ScoreBpe all(pieces, 0);
  EXPECT_TRUE(all.has_all_bytes());
  EXPECT_EQ(Encode(all, "\xC3\xA8z"), (std::vector<int32_t>{2 + 0xC3, 2 + 0xA8, 2 + 'z'}));
}

TEST(ScoreBpe, OnlyPlainPiecesComeOfText) {
  const ScoreBpe bpe({{"a", 0}, {"b", 0}, {"ab", 5, false}, {"ab", 1}, {"ab", 9}, {"", 9}}, std::nullopt);
  EXPECT_EQ(Encode(bpe, "abb"), (std::vector<int32_t>{3, 1})) << "the first of equal plain pieces";
}

TEST(ScoreBpe, LongTextsTakeNoLongerThanTheirLength) {
  Pieces pieces = {{"a", -9}};
  for (int n = 2; n <= 16; n *= 2) pieces.push_back({std::string(n, 'a'), static_cast<float>(-n)});
  const ScoreBpe bpe(pieces, std::nullopt);
  const auto ids = Encode(bpe, std::string(1 << 20, 'a'));  // minutes if each merge looked at the whole text
  EXPECT_EQ(ids, std::vector<int32_t>((1 << 20) / 16, 4));
}

}  // namespace
}  // namespace pangea
