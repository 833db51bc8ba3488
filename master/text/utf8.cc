#include "master/text/utf8.h"

#include <algorithm>

namespace pangea {
namespace {

struct Sequence {
  size_t length;  // bytes of the character, or of the ill-formed part
  enum { kGood, kBad, kOpen } state;
};

// bytes is not empty.
Sequence Next(std::string_view bytes) {
  const auto at = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned char lead = at(0);
  if (lead < 0x80) return {1, Sequence::kGood};
  size_t length = 0;
  unsigned char low = 0x80, high = 0xBF;  // of the second byte
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {1, Sequence::kBad};
  }
  for (size_t i = 1; i < length; ++i) {
    if (i == bytes.size()) return {i, Sequence::kOpen};
    if (at(i) < low || at(i) > high) return {i, Sequence::kBad};
    low = 0x80;
    high = 0xBF;
  }
  return {length, Sequence::kGood};
}

}  // namespace

bool IsUtf8(std::string_view text) {
  while (!text.empty()) {
    const Sequence s = Next(text);
    if (s.state != Sequence::kGood) return false;
    text.remove_prefix(s.length);
  }
  return true;
}

size_t CharacterBytes(std::string_view text) {
  if (text.empty()) return 0;
  const Sequence s = Next(text);
  return s.state == Sequence::kGood ? s.length : 0;
}

int64_t CodePoints(std::string_view utf8) {
  return std::count_if(utf8.begin(), utf8.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

size_t AppendUtf8(std::string* out, std::string_view bytes) {
  size_t used = 0;
  while (used < bytes.size()) {
    const Sequence s = Next(bytes.substr(used));
    if (s.state == Sequence::kOpen) break;
    if (s.state == Sequence::kGood) {
      out->append(bytes.substr(used, s.length));
    } else {
      out->append(kReplacement);
    }
    used += s.length;
  }
  return used;
}

std::string Utf8(char32_t c) {
  const auto tail = [&](int shift) { return static_cast<char>(0x80 | ((c >> shift) & 0x3F)); };
  if (c < 0x80) return std::string(1, static_cast<char>(c));
  if (c < 0x800) return {static_cast<char>(0xC0 | (c >> 6)), tail(0)};
  if (c < 0x10000) return {static_cast<char>(0xE0 | (c >> 12)), tail(6), tail(0)};
  return {static_cast<char>(0xF0 | (c >> 18)), tail(12), tail(6), tail(0)};
}

char32_t FirstCharacter(std::string_view text, size_t* length) {
  const auto at = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  *length = Next(text).length;
  switch (*length) {
    case 2:
      return (at(0) & 0x1Fu) << 6 | (at(1) & 0x3Fu);
    case 3:
      return (at(0) & 0x0Fu) << 12 | (at(1) & 0x3Fu) << 6 | (at(2) & 0x3Fu);
    case 4:
      return (at(0) & 0x07u) << 18 | (at(1) & 0x3Fu) << 12 | (at(2) & 0x3Fu) << 6 | (at(3) & 0x3Fu);
    default:
      return at(0);
  }
}

}  // namespace pangea
