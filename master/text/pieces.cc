#include "master/text/pieces.h"

#include <array>

#include "master/text/ascii.h"
#include "master/text/utf8.h"

namespace pangea {
namespace {

// Code points up to 323 -> byte, or -1.
const std::array<int, 324>& ByteOfCharacter() {
  static const std::array<int, 324> table = [] {
    std::array<int, 324> out;
    out.fill(-1);
    int next = 256;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      out[printable ? byte : next++] = byte;
    }
    return out;
  }();
  return table;
}

}  // namespace

std::string BytesOfByteLevel(std::string_view token) {
  const auto& table = ByteOfCharacter();
  std::string out;
  for (std::string_view rest = token; !rest.empty();) {
    size_t length = 0;
    const char32_t c = FirstCharacter(rest, &length);
    if (c >= table.size() || table[c] < 0) return std::string(token);
    out.push_back(static_cast<char>(table[c]));
    rest.remove_prefix(length);
  }
  return out;
}

bool IsByteToken(std::string_view token) {
  return token.size() == 6 && token.substr(0, 3) == "<0x" && token[5] == '>' && HexValue(token[3]) >= 0 &&
         HexValue(token[4]) >= 0;
}

std::string BytesOfSentencePiece(std::string_view token, bool byte_fallback) {
  if (byte_fallback && IsByteToken(token))
    return std::string(1, static_cast<char>(HexValue(token[3]) * 16 + HexValue(token[4])));
  return ReplaceAll(token, "\xE2\x96\x81", " ");
}

std::string ReplaceAll(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  while (true) {
    const size_t at = text.find(from);
    if (at == std::string_view::npos) break;
    out.append(text.substr(0, at)).append(to);
    text.remove_prefix(at + from.size());
  }
  return out.append(text);
}

}  // namespace pangea
