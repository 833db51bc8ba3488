// The tokenizers behind a Text: a tokenizer.json (also one made from GGUF or vocab + merges), SentencePiece,
// PanGu-alpha's.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "configs/mutex.h"
#include "master/text/pieces.h"
#include "master/text/pretokenizer.h"
#include "master/text/rust_text.h"
#include "master/text/score_bpe.h"
#include "master/text/sentencepiece_model.h"
#include "master/text/special_tokens.h"
#include "nlohmann/json.hpp"

namespace pangea {

struct SentencePieceOptions {
  bool add_bos = true, add_eos = false;  // the pieces <s> and </s>
  bool prefix_after_special = true;  // Transformers' `legacy`: text after a special token gets the leading space, too
  std::optional<bool> prefix_space;  // whether text gets it at all; nothing: as the model says
  std::vector<AddedToken> added;     // beyond the model's own pieces
};

// A SentencePiece vocabulary without the model that it came from (GGUF).
struct ScoreVocabulary {
  std::vector<std::string> tokens;  // by id; these three are as long as each other
  std::vector<float> scores;
  std::vector<PieceType> types;
  bool space_prefix = true;        // a space before every text that is not right behind another
  std::optional<int32_t> unknown;  // see ScoreBpe
  std::vector<AddedToken> added;   // found in the text before anything else
};

// Immutable, thread-safe.
class Tokenizer {
 public:
  static absl::StatusOr<std::unique_ptr<Tokenizer>> FromJson(std::string_view text);
  static absl::StatusOr<std::unique_ptr<Tokenizer>> FromJson(const nlohmann::json& json,
                                                             std::string_view text);  // parsed, and as text
  static absl::StatusOr<std::unique_ptr<Tokenizer>> FromSentencePiece(std::string model,
                                                                      const SentencePieceOptions& options);
  static std::unique_ptr<Tokenizer> FromScores(ScoreVocabulary vocabulary);
  // jieba + SentencePiece (docs: mindspore models r1.3, official/nlp/pangu_alpha, tokenization_jieba.py).
  static absl::StatusOr<std::unique_ptr<Tokenizer>> FromPangu(std::string model);

  // Text that holds no special token any more. first: it begins the text that is encoded. Appends to *ids.
  absl::Status EncodeStretch(std::string_view text, bool first, std::vector<int32_t>* ids) const;
  const PieceTable& pieces() const { return pieces_; }
  const SpecialTokens& special_tokens() const { return special_; }
  // EncodeStretch does not see added tokens that are not special; they have to be split off before.
  bool splits_added() const { return !std::holds_alternative<Json>(backend_); }
  const std::vector<int32_t>& prefix() const { return prefix_; }  // what add_special puts before and after
  const std::vector<int32_t>& suffix() const { return suffix_; }
  // Where other files than the tokenizer's own say so; before the tokenizer is shared.
  void SetPrefixAndSuffix(std::optional<int32_t> prefix, std::optional<int32_t> suffix);
  void SetBytes(int32_t id, std::string bytes) { pieces_.pieces[id].bytes = std::move(bytes); }  // likewise; id: known
  std::optional<int32_t> Find(std::string_view token) const;  // special, added, or a piece of these bytes
  // No text of more bytes encodes to `positions` ids or fewer; nullopt: not known.
  std::optional<size_t> MaxBytes(int64_t positions) const;

 private:
  struct Json {
    JsonTokenizer first;
    std::optional<JsonTokenizer> later;  // where text that begins the whole is encoded otherwise
    bool cut = false;                    // may be encoded in parts (see SafeCut)
  };
  struct Pieces {
    SentencePiece first;
    std::optional<SentencePiece> bare;  // without the leading space
    bool bare_later = false;            // stretches after the first are encoded by it
    bool cut = false;
  };
  struct Pangu {
    SentencePiece pieces;
    Jieba jieba;
  };
  struct Scores {
    ScoreBpe bpe;
    bool space_prefix = true;
    bool cut = false;
  };
  using Backend = std::variant<Json, Pieces, Pangu, Scores>;
  Tokenizer(Backend backend) : backend_(std::move(backend)) {}
  template <typename Encode>
  absl::Status EncodeParts(std::string_view text, const std::optional<CutPlaces>& places, const Encode& encode) const;
  absl::Status ReadJsonPieces(const nlohmann::json& json);
  absl::Status FindPrefixAndSuffix();
  void ReadSentencePieces(const SentencePieceProto& proto, const SentencePieceOptions& options);
  void ReadPanguPieces(const SentencePieceProto& proto);

  Backend backend_;
  PieceTable pieces_;
  SpecialTokens special_;
  std::vector<int32_t> prefix_, suffix_;
  bool complete_ = false;  // every byte of a text is in some token: nothing is dropped
  size_t shrink_ = 1;      // normalising makes a text at most this many times shorter
  mutable Mutex big_;      // one big unbroken text at a time: the library takes about 150 bytes for each of its bytes
};

}  // namespace pangea
