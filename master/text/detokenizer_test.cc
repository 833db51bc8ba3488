// Detokenising against an independent whole decode, for every kind of tokenizer, random ids and random texts.
#include <random>

#include "master/text/text_test_util.h"
#include "master/text/utf8.h"

namespace pangea {
namespace {

// Python's bytes.decode("utf-8", errors="replace"), written by value ranges instead of by lead bytes.
std::string PythonDecode(const std::string& bytes) {
  std::string out;
  for (size_t at = 0; at < bytes.size();) {
    const auto lead = static_cast<unsigned char>(bytes[at]);
    const int more = lead < 0x80                   ? 0
                     : lead >= 0xC2 && lead < 0xE0 ? 1
                     : lead >= 0xE0 && lead < 0xF0 ? 2
                     : lead >= 0xF0 && lead < 0xF5 ? 3
                                                   : -1;
    if (more < 0) {
      out += kReplacement;
      ++at;
      continue;
    }
    // The smallest and largest character that the bytes so far can still become decide whether they are a beginning of
    // one.
    uint32_t value = more == 0 ? lead : lead & (0x3F >> more);
    int got = 0;
    bool good = true;
    while (got < more && at + 1 + got < bytes.size()) {
      const auto byte = static_cast<unsigned char>(bytes[at + 1 + got]);
      if ((byte & 0xC0) != 0x80) break;
      const uint32_t next = value << 6 | (byte & 0x3F);
      const int left = more - got - 1;
      const uint64_t low = uint64_t{next} << (6 * left), high = low | ((uint64_t{1} << (6 * left)) - 1);
      const uint64_t least = more == 1 ? 0x80 : more == 2 ? 0x800 : 0x10000;
      if (high < least || low > 0x10FFFF || (low >= 0xD800 && high <= 0xDFFF)) break;
      value = next;
      ++got;
    }
    good = got == more;
    if (good) {
      out.append(bytes, at, 1 + got);
    } else {
      out += kReplacement;
    }
    at += 1 + got;
  }
  return out;
}

std::string WholeDecode(const Text& text, const std::vector<int32_t>& ids, bool skip, bool strip) {
  std::string bytes;
  for (const int32_t id : ids) {
    if (!skip || !text.IsSpecial(id)) bytes += text.Bytes(id);
  }
  if (strip && bytes.starts_with(' ')) bytes.erase(0, 1);
  return PythonDecode(bytes);
}

void CheckIds(const Text& text, const std::vector<int32_t>& ids, bool skip, bool strip) {
  Detokenizer detokenizer(text, skip);
  std::string all;
  for (size_t i = 0; i < ids.size(); ++i) {
    const std::string piece = detokenizer.Push(ids[i]);
    EXPECT_TRUE(IsUtf8(piece));
    all += piece;
    // All that no later id can change: the whole decode so far, less the U+FFFD of an open end.
    std::string sofar = WholeDecode(text, {ids.begin(), ids.begin() + i + 1}, skip, strip);
    if (sofar.size() != all.size()) {
      ASSERT_EQ(sofar.size(), all.size() + kReplacement.size());
      ASSERT_TRUE(sofar.ends_with(kReplacement));
    }
    ASSERT_TRUE(sofar.starts_with(all));
  }
  all += detokenizer.Flush();
  EXPECT_EQ(all, WholeDecode(text, ids, skip, strip));
  EXPECT_EQ(all, text.Decode(ids, skip));
}

void CheckTokenizer(const Text& text, bool strip) {
  std::mt19937 random(11);
  // Ids of single bytes come up often enough to make and break characters.
  std::vector<int32_t> odd;
  for (int32_t id = 0; id < text.vocab(); ++id) {
    if (!IsUtf8(text.Bytes(id))) odd.push_back(id);
  }
  for (int round = 0; round < 200; ++round) {
    std::vector<int32_t> ids;
    for (int n = random() % 24; n > 0; --n) {
      ids.push_back(!odd.empty() && random() % 2 ? odd[random() % odd.size()]
                                                 : static_cast<int32_t>(random() % text.vocab()));
    }
    CheckIds(text, ids, round % 2 == 0, strip);
  }
  for (const char* sample :
       {"The quick brown fox.", " leading", "  two", "naïve café 😀👩‍👩‍👧 你好，世界",
        "tabs\tand\nlines\r\n", "\xEF\xBF\xBD"}) {
    CheckIds(text, Ids(text, sample), true, strip);
  }
}

TEST(Detokenizer, Gpt2) { CheckTokenizer(Gpt2(), false); }
TEST(Detokenizer, Qwen2) { CheckTokenizer(Qwen2(), false); }
TEST(Detokenizer, SentencePieceByteFallback) { CheckTokenizer(Mistral(), true); }
TEST(Detokenizer, Pangu) { CheckTokenizer(Pangu(), false); }

TEST(Detokenizer, NeverSplitsACharacter) {
  // GPT-2 has no token for U+1F999: its four bytes come as " ðŁ", "¦", "Ļ" (llama.cpp's vector 12520 99 247).
  Detokenizer detokenizer(Gpt2(), true);
  EXPECT_EQ(detokenizer.Push(12520), " ");
  EXPECT_EQ(detokenizer.Push(99), "");
  EXPECT_EQ(detokenizer.Push(247), "\xF0\x9F\xA6\x99");
  EXPECT_EQ(detokenizer.Push(12520), " ");
  EXPECT_EQ(detokenizer.Flush(), std::string(kReplacement));
  EXPECT_EQ(detokenizer.Flush(), "");
}

TEST(Detokenizer, LeadingSpaceOfSentencePiece) {
  const auto ids = Ids(Mistral(), "Hello world");
  EXPECT_EQ(Mistral().Bytes(ids[0]), " Hello");
  EXPECT_EQ(Mistral().Decode(ids, true), "Hello world");
  // Special tokens that are skipped do not end the start of the text; one that is written does.
  Detokenizer skipping(Mistral(), true), writing(Mistral(), false);
  EXPECT_EQ(skipping.Push(1), "");
  EXPECT_EQ(skipping.Push(ids[0]), "Hello");
  EXPECT_EQ(writing.Push(1), "<s>");
  EXPECT_EQ(writing.Push(ids[0]), " Hello");
}

TEST(Detokenizer, BytesOfOneId) {
  EXPECT_EQ(Mistral().Bytes(3 + 0xAB), "\xAB");
  EXPECT_EQ(Gpt2().Bytes(50256), "<|endoftext|>");
  EXPECT_EQ(Gpt2().Bytes(247), "\x99");
  EXPECT_EQ(Gpt2().Bytes(18435), " Hello");
  for (const int32_t id : {-1, 50257, 1 << 30}) {
    EXPECT_EQ(Gpt2().Bytes(id), "");
    EXPECT_FALSE(Gpt2().IsSpecial(id));
    EXPECT_EQ(Gpt2().Decode({id, 18435}, true), " Hello");
  }
}

TEST(Utf8, AgainstPython) {
  std::mt19937 random(3);
  const std::vector<unsigned char> odd = {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF,
                                          0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF};
  for (int round = 0; round < 50000; ++round) {
    std::string bytes;
    for (int n = random() % 8; n > 0; --n) bytes.push_back(static_cast<char>(odd[random() % odd.size()]));
    std::string ours;
    if (AppendUtf8(&ours, bytes) < bytes.size()) ours += kReplacement;
    ASSERT_EQ(ours, PythonDecode(bytes));
    ASSERT_EQ(IsUtf8(bytes), ours == bytes);
  }
}

}  // namespace
}  // namespace pangea
