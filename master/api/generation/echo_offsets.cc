#include "master/api/generation/echo_offsets.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "master/text/utf8.h"

namespace pangea {
namespace {

using Characters = std::vector<char32_t>;

constexpr size_t kReach = 32;  // characters that are taken to have been dropped, or added, in one place at most
constexpr size_t kAlike = 3;   // that must be equal for two texts to count as going on alike

void Append(std::string_view text, Characters* characters) {
  while (!text.empty()) {
    size_t length = 0;
    characters->push_back(FirstCharacter(text, &length));
    text.remove_prefix(length);
  }
}

// But for case and kind of white space, which is what normalisers change most.
char32_t Plain(char32_t c) {
  if (c >= U'A' && c <= U'Z') return c - U'A' + U'a';
  return c == U'\t' || c == U'\n' || c == U'\r' || c == 0xA0 || c == 0x3000 ? U' ' : c;
}

struct Pair {
  const Characters& decoded;  // what the ids stand for
  const Characters& sent;

  bool Same(size_t d, size_t s) const {
    return d < decoded.size() && s < sent.size() && Plain(decoded[d]) == Plain(sent[s]);
  }
  bool GoOnAlike(size_t d, size_t s) const {
    for (size_t i = 0; i < kAlike; ++i) {
      if (d + i == decoded.size() && s + i == sent.size()) return true;  // both end
      if (!Same(d + i, s + i)) return false;
    }
    return true;
  }
};

// From where two texts differ, how many characters of each lead to where they go on alike: as few as can be. One of
// each when they do not meet soon.
std::pair<size_t, size_t> Meet(const Pair& texts, size_t d, size_t s) {
  for (size_t both = 1; both <= 2 * kReach; ++both) {
    for (size_t uneven = both % 2; uneven <= std::min(both, kReach); uneven += 2) {
      const size_t less = (both - uneven) / 2, more = both - less;
      if (more > kReach) break;
      if (texts.GoOnAlike(d + less, s + more)) return {less, more};
      if (texts.GoOnAlike(d + more, s + less)) return {more, less};
    }
  }
  return {1, 1};
}

// For each character of `decoded`, and for its end, where it stands in `sent`.
std::vector<size_t> Align(const Characters& decoded, const Characters& sent) {
  const Pair texts{decoded, sent};
  std::vector<size_t> place;
  size_t s = 0;
  while (place.size() < decoded.size()) {
    const size_t d = place.size();
    size_t skipped = 1, passed = 1;
    // White space is what tokenizers drop most.
    while (!texts.Same(d, s) && s < sent.size() && Plain(sent[s]) == U' ') ++s;
    if (!texts.Same(d, s)) std::tie(skipped, passed) = Meet(texts, d, s);
    for (size_t i = 0; i < std::min(skipped, decoded.size() - d); ++i)
      place.push_back(std::min(s + std::min(i, passed), sent.size()));
    s = std::min(s + passed, sent.size());
  }
  place.push_back(sent.size());
  return place;
}

// How many ids the tokenizer puts before a text, and behind it.
std::pair<size_t, size_t> Added(const Text& text) {
  const auto plain = text.Encode("a", false, false), full = text.Encode("a", true, false);
  if (!plain.ok() || !full.ok()) return {0, 0};
  const auto at = std::search(full->begin(), full->end(), plain->begin(), plain->end());
  if (at == full->end()) return {0, 0};
  const size_t before = at - full->begin();
  return {before, full->size() - plain->size() - before};
}

}  // namespace

std::vector<int64_t> EchoOffsets(const Text& text, const std::string& sent, const std::vector<int32_t>& ids,
                                 bool add_special) {
  const auto [before, behind] = add_special ? Added(text) : std::pair<size_t, size_t>();
  Characters decoded, characters;
  Append(sent, &characters);
  Detokenizer detokenizer(text, /*skip_special=*/true);
  std::vector<size_t> begins;  // of each id, in decoded
  for (size_t i = 0; i < ids.size(); ++i) {
    begins.push_back(decoded.size());
    const bool added = i < before || i + behind >= ids.size();
    if (!added) Append(text.IsSpecial(ids[i]) ? text.Bytes(ids[i]) : detokenizer.Push(ids[i]), &decoded);
  }
  const std::vector<size_t> place = Align(decoded, characters);
  std::vector<int64_t> offsets;
  for (size_t i = 0; i < ids.size(); ++i) {
    const bool first = i < before;  // also where the text's own first characters were dropped
    offsets.push_back(first ? 0 : static_cast<int64_t>(place[begins[i]]));
  }
  return offsets;
}

}  // namespace pangea
