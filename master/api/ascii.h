// Digits of ASCII, for parsers of a protocol's text.
#pragma once

namespace pangea {

inline bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// -1: no hexadecimal digit.
inline int HexValue(char c) {
  if (IsDigit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace pangea
