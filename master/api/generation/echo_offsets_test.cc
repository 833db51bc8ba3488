// With the real tokenizers: what an offset is depends on what a tokenizer does to a text.
#include "master/api/generation/echo_offsets.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "master/text/text_test_util.h"

namespace pangea {
namespace {

using Offsets = std::vector<int64_t>;

Offsets OffsetsOf(const Text& text, const std::string& sent, bool add_special = true) {
  return EchoOffsets(text, sent, Ids(text, sent, add_special, true), add_special);
}

const ModelText& Stories() {
  static const auto text =
      MustLoad(Folder(std::string(PANGEA_SOURCE_DIR) + "/models/stories260k", Architecture::kLlama));
  return *text;
}

TEST(EchoOffsets, SpecialTokensSpelledInThePromptHaveTheirWidth) {
  // <|im_start|> user \n Hi " there" <|im_end|> \n
  EXPECT_EQ(OffsetsOf(Qwen2(), "<|im_start|>user\nHi there<|im_end|>\n"), (Offsets{0, 12, 16, 17, 19, 25, 35}));
  EXPECT_EQ(OffsetsOf(Qwen2(), "Hi<|im_end|><|im_start|>"), (Offsets{0, 2, 12}));
  EXPECT_EQ(OffsetsOf(Mistral(), "[INST] Hi</s>").back(), 9);
}

TEST(EchoOffsets, WhatTheTokenizerAddsHasNoWidth) {
  const Offsets story = {0, 0, 4, 9, 11};  // <s> "Once" " upon" " a" " time"
  EXPECT_EQ(OffsetsOf(Mistral(), "Once upon a time"), story);
  EXPECT_EQ(OffsetsOf(Stories(), "Once upon a time"), story);
  EXPECT_EQ(OffsetsOf(Mistral(), "Once upon a time", /*add_special=*/false), (Offsets{0, 4, 9, 11}));
  // Added once, and spelled once more.
  const Offsets twice = OffsetsOf(Mistral(), "<s>Once upon");
  EXPECT_EQ(twice[0], 0);
  EXPECT_EQ(twice[1], 0);
  EXPECT_EQ(twice[2], 3);
  EXPECT_EQ(twice.back(), 7);
  // A text that looks like what was added.
  EXPECT_EQ(OffsetsOf(Mistral(), "<sOnce")[1], 0);
}

TEST(EchoOffsets, CharactersOfSeveralTokensAreOneFurther) {
  // Ids of U+1F600 are bytes in this vocabulary, and all begin at the character.
  const Offsets offsets = OffsetsOf(Stories(), "a\xF0\x9F\x98\x80 b");
  EXPECT_EQ(std::count(offsets.begin(), offsets.end(), 1), 4);
  EXPECT_EQ(offsets.back(), 2);
}

// What is found there begins with the token's own text, whatever the tokenizer.
TEST(EchoOffsets, PointAtTheTokensOwnText) {
  const std::string texts[] = {"The quick brown fox.\n\n  jumps   over\tthe lazy dog",
                               " leading space",
                               "na\xC3\xAFve caf\xC3\xA9 \xE4\xBD\xA0\xE5\xA5\xBD",
                               "def f(x):\n    return x  # twice\n",
                               "1234567 times",
                               std::string(300, 'a') + " end"};
  for (const Text* text : {&Gpt2(), &Qwen2(), &Mistral(), &Stories()}) {
    for (const std::string& sent : texts) {
      const auto ids = Ids(*text, sent, true, true);
      const Offsets offsets = EchoOffsets(*text, sent, ids, true);
      ASSERT_EQ(offsets.size(), ids.size());
      EXPECT_TRUE(std::is_sorted(offsets.begin(), offsets.end())) << sent;
      for (size_t i = 0; i < ids.size(); ++i) {
        std::string_view rest = sent, piece;
        for (int64_t skipped = 0; skipped < offsets[i];) {
          rest.remove_prefix(1);
          skipped += rest.empty() || (rest[0] & 0xC0) != 0x80;
        }
        const std::string bytes = text->Bytes(ids[i]);
        piece = bytes;
        if (!rest.starts_with(piece) && piece.starts_with(' ')) piece.remove_prefix(1);  // the one put before a text
        const bool part = !piece.empty() && (piece[0] & 0x80) != 0;                      // of a character
        EXPECT_TRUE(text->IsSpecial(ids[i]) || part || rest.starts_with(piece)) << sent << ": " << i << " " << bytes;
      }
    }
  }
}

// Drops accents, case and white space, so that what the ids stand for is not the text.
TEST(EchoOffsets, FollowANormaliser) {
  TempFolder folder;
  folder.Write("tokenizer.json", R"({"version":"1.0","added_tokens":[],
    "normalizer":{"type":"Sequence","normalizers":[{"type":"NFD"},{"type":"StripAccents"},{"type":"Lowercase"}]},
    "pre_tokenizer":{"type":"WhitespaceSplit"},"post_processor":null,
    "decoder":{"type":"Metaspace","replacement":"\u2581","add_prefix_space":false,"prepend_scheme":"never",
      "split":true},
    "model":{"type":"WordLevel","unk_token":"?","vocab":{"?":0,"hello":1,"world":2,"cafe":3,"a":4}}})");
  const auto text = MustLoad(Folder(folder.path(), Architecture::kLlama));
  EXPECT_EQ(OffsetsOf(*text, "H\xC3\xA9llo   WORLD"), (Offsets{0, 8}));
  EXPECT_EQ(OffsetsOf(*text, "  CAF\xC3\x89\n\nhello a"), (Offsets{2, 8, 14}));
  EXPECT_EQ(OffsetsOf(*text, "hello zzz world"), (Offsets{0, 6, 10}));
}

// How lm-eval scores a continuation: its first token is the first at or behind the context's end.
TEST(EchoOffsets, TellAContinuationFromItsContext) {
  const std::string context = "<|im_start|>user\nThe capital of France is<|im_end|>\n<|im_start|>assistant\n";
  for (const std::string& continuation : {std::string("Paris"), std::string(" Berlin, of course")}) {
    const auto all = OffsetsOf(Qwen2(), context + continuation);
    const auto first = std::find_if(all.begin(), all.end(),
                                    [&](int64_t offset) { return offset >= static_cast<int64_t>(context.size()); });
    EXPECT_EQ(first - all.begin(), static_cast<int64_t>(Ids(Qwen2(), context, true, true).size()));
  }
}

}  // namespace
}  // namespace pangea
