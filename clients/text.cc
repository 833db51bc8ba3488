#include "clients/text.h"

#include <locale.h>
#include <wchar.h>

#include <algorithm>
#include <numeric>
#include <utility>

namespace pangea::clients {
namespace {

// Length of the well-formed sequence at the start, 0 if there is none.
size_t SequenceLength(std::string_view s) {
  auto byte = [&](size_t i) { return i < s.size() ? static_cast<unsigned char>(s[i]) : 0u; };
  auto tail = [&](size_t i) { return (byte(i) & 0xC0) == 0x80; };
  const unsigned a = byte(0), b = byte(1);
  if (a < 0x80) return 1;
  if (a >= 0xC2 && a < 0xE0) return tail(1) ? 2 : 0;
  if (a >= 0xE0 && a < 0xF0) {
    const bool shortest = a != 0xE0 || b >= 0xA0, scalar = a != 0xED || b < 0xA0;
    return tail(1) && tail(2) && shortest && scalar ? 3 : 0;
  }
  if (a >= 0xF0 && a < 0xF5) {
    const bool shortest = a != 0xF0 || b >= 0x90, scalar = a != 0xF4 || b < 0x90;
    return tail(1) && tail(2) && tail(3) && shortest && scalar ? 4 : 0;
  }
  return 0;
}

// Columns that a terminal gives a character (a well-formed sequence), by glibc's table of Unicode.
int Columns(std::string_view character) {
  static const locale_t kUtf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
  if (character.size() == 1 || kUtf8 == nullptr) return 1;
  const unsigned char first = character[0];
  wchar_t code = first & (0xFF >> (character.size() + 1));
  for (char c : character.substr(1)) code = code << 6 | (c & 0x3F);
  const locale_t before = uselocale(kUtf8);
  const int width = wcwidth(code);
  uselocale(before);
  return std::max(width, 0);
}

}  // namespace

bool ValidUtf8(std::string_view text) {
  while (!text.empty()) {
    const size_t length = SequenceLength(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string ForTerminal(std::string_view text) {
  constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
  std::string out;
  while (!text.empty()) {
    const size_t length = SequenceLength(text);
    const unsigned char a = text[0];
    const bool c0 = (a < 0x20 && a != '\n' && a != '\t') || a == 0x7F;
    const bool c1 = length == 2 && a == 0xC2 && static_cast<unsigned char>(text[1]) < 0xA0;
    if (length == 0 || c0 || c1) {
      out += kReplacement;
    } else {
      out += text.substr(0, length);
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return out;
}

void WordWrap::Put(std::string_view character, int width, std::string& out) {
  // The last column stays free: after a character there, terminals differ in where the cursor is.
  if (column_ + width > columns_ - 1 && word_width_ < column_) {
    if (word_width_ > 0) out += "\x1b[" + std::to_string(word_width_) + "D\x1b[K";
    out += '\n' + word_;
    column_ = word_width_;
  } else if (column_ + width > columns_) {
    column_ = 0;  // a word longer than the line: the terminal breaks it
  }
  out += character;
  column_ += width;
  if (width == 2) {  // East Asian text and emoji may be broken anywhere
    word_.clear(), word_width_ = 0;
  } else {
    word_ += character, word_width_ += width;
  }
}

std::string WordWrap::Push(std::string_view text) {
  if (columns_ <= 0) return std::string(text);
  std::string out;
  while (!text.empty()) {
    const size_t length = std::max<size_t>(SequenceLength(text), 1);
    const std::string_view character = text.substr(0, length);
    text.remove_prefix(length);
    if (character != "\n" && character != " " && character != "\t") {
      Put(character, Columns(character), out);
      continue;
    }
    word_.clear(), word_width_ = 0;
    const int next = character == "\t" ? column_ / 8 * 8 + 8 : column_ + 1;
    if (character == "\n" || next > columns_ - 1) {  // a space at the margin is the line's end
      out += '\n';
      column_ = 0;
    } else {
      out += character;
      column_ = next;
    }
  }
  return out;
}

std::string Nearest(const std::string& typed, const std::vector<std::string>& names) {
  std::string best;
  size_t least = std::max<size_t>(typed.size() / 2, 1) + 1;
  for (const std::string& name : names) {
    // Levenshtein's distance, one row at a time.
    std::vector<size_t> row(name.size() + 1);
    std::iota(row.begin(), row.end(), 0);
    for (size_t i = 1; i <= typed.size(); ++i) {
      size_t diagonal = std::exchange(row[0], i);
      for (size_t j = 1; j <= name.size(); ++j) {
        const size_t other = std::min(row[j], row[j - 1]) + 1;
        diagonal = std::exchange(row[j], std::min(other, diagonal + (typed[i - 1] != name[j - 1])));
      }
    }
    if (row.back() < least) least = row.back(), best = name;
  }
  return best;
}

}  // namespace pangea::clients
