// What every id stands for, in bytes: decoding is a concatenation of these.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pangea {

struct Piece {
  std::string bytes;     // by itself; may be a part of a character
  bool special = false;  // left out when special tokens are skipped
};

struct PieceTable {
  std::vector<Piece> pieces;  // by id; ids that the tokenizer skips have no bytes
  // SentencePiece: the space that encoding puts before a text is dropped again from the start of a decoded one.
  bool strip_first_space = false;
  bool strip_all_first_spaces = false;  // and every further one
  bool strip_first_piece = false;       // and all others that the first piece begins with

  bool Known(int32_t id) const { return id >= 0 && static_cast<size_t>(id) < pieces.size(); }
};

// GPT-2's reversible alphabet of printable characters for bytes (openai/gpt-2 encoder.py, bytes_to_unicode).
// Characters -> bytes; a token with a character outside the alphabet is returned as it is.
std::string BytesOfByteLevel(std::string_view token);
// SentencePiece: U+2581 is a space; with byte_fallback, <0xAB> is the byte AB.
std::string BytesOfSentencePiece(std::string_view token, bool byte_fallback);
bool IsByteToken(std::string_view token);  // <0xAB>
std::string ReplaceAll(std::string_view text, std::string_view from, std::string_view to);

}  // namespace pangea
