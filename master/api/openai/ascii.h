// A digit's value, for parsers of a protocol's text (Abseil has no such function).
#pragma once

namespace pangea {

// -1: no hexadecimal digit.
inline int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace pangea
