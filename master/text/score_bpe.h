// SentencePiece's byte-pair encoding by scores over a vocabulary that comes without a SentencePiece model, as llama.cpp
// encodes with the one in a GGUF file (llama-vocab.cpp, llm_tokenizer_spm). The library itself would refuse what such
// files hold: empty or repeated pieces, none or several that stand for the unknown, a part of the bytes.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace pangea {

// Immutable, thread-safe.
class ScoreBpe {
 public:
  struct Piece {
    std::string text;  // U+2581 is a space
    float score = 0;
    bool plain = true;  // may come of merging plain text
  };
  // Ids are places in the list; of equal plain pieces the first counts. unknown: for what neither a piece nor bytes
  // (<0x00> to <0xFF>, wherever they stand) spell; without it such characters are dropped.
  ScoreBpe(std::vector<Piece> pieces, std::optional<int32_t> unknown);
  ScoreBpe(ScoreBpe&&) = default;

  // text: UTF-8. space: one more before it. Appends to *ids. Time: n log n.
  void Encode(std::string_view text, bool space, std::vector<int32_t>* ids) const;
  bool has_all_bytes() const;

 private:
  int32_t Find(std::string_view text) const;  // -1: none
  std::vector<Piece> pieces_;
  std::unordered_map<std::string_view, int32_t> ids_;  // of plain pieces
  std::array<int32_t, 256> bytes_;                     // -1: none
  std::optional<int32_t> unknown_;
  size_t longest_ = 0;
};

}  // namespace pangea
