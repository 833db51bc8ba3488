// A SentencePiece model: its vocabulary read from the serialised ModelProto (sentencepiece_model.proto), its encoder
// the library's.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "master/text/sentencepiece_shim.h"

namespace pangea {

// The numbers of ModelProto.SentencePiece.Type; GGUF's tokenizer.ggml.token_type has the same.
enum class PieceType : int { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

struct SentencePieceProto {
  struct Piece {
    std::string text;
    float score = 0;
    PieceType type = PieceType::kNormal;
  };
  std::vector<Piece> pieces;
  int model_type = 1;  // 1 unigram, 2 BPE, 3 word, 4 char
  bool byte_fallback = false;
  std::string normalizer = "identity";
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
};
// InvalidArgument: not a ModelProto, or more pieces than 2^22.
absl::StatusOr<SentencePieceProto> ParseSentencePiece(std::string_view model);
// The same model with or without the space that stands before the text (Protobuf merges what is appended).
std::string WithDummyPrefix(std::string model, bool prefix);

class SentencePiece {
 public:
  static absl::StatusOr<SentencePiece> Load(std::string_view model);
  // Appends to *ids; control pieces in the text are not recognised, user-defined ones are. Thread-safe.
  absl::Status Encode(std::string_view text, std::vector<int32_t>* ids) const;

 private:
  struct Free {
    void operator()(PangeaSentencePiece* p) const { pangea_sentencepiece_free(p); }
  };
  std::unique_ptr<PangeaSentencePiece, Free> handle_;
};

}  // namespace pangea
