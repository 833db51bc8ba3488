#include "clients/text.h"

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

}  // namespace pangea::clients
