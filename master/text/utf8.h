// UTF-8 as the Unicode Standard defines it (table 3-7: no surrogates, no overlong forms).
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace pangea {

bool IsUtf8(std::string_view text);
// Bytes of the character that the text begins with; 0: it begins with none.
size_t CharacterBytes(std::string_view text);
int64_t CodePoints(std::string_view utf8);

// Appends to *out the characters of `bytes`; each maximal part of an ill-formed sequence becomes one U+FFFD (the
// Unicode Standard's "substitution of maximal subparts", also what Python and Rust do). Returns how many bytes were
// used: all but the beginning of a character that later bytes may complete (at most 3).
size_t AppendUtf8(std::string* out, std::string_view bytes);

inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// Code point -> UTF-8. REQUIRES: a scalar value.
std::string Utf8(char32_t c);
// The first character of well-formed, non-empty text, and its length in bytes.
char32_t FirstCharacter(std::string_view text, size_t* length);

}  // namespace pangea
