// The Rust text libraries as C++ values. All methods may be called from many threads, but
// for a guide's.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "master/text/grammar.h"
#include "master/text/pieces.h"
#include "master/text/rust/pangea_text.h"
#include "master/text/special_tokens.h"

namespace pangea {

// A tokenizer.json. What it refuses is InvalidArgument with the library's words.
class JsonTokenizer {
 public:
  struct Token {
    int32_t id;
    uint32_t flags;       // PANGEA_PIECE_*
    std::string content;  // as it stands in the vocabulary
  };
  static absl::StatusOr<JsonTokenizer> Load(std::string_view json);
  // Special tokens in the text are not recognised; added tokens that are not special are. Appends to *ids.
  absl::Status Encode(std::string_view text, bool add_special, std::vector<int32_t>* ids) const;
  absl::StatusOr<std::vector<Token>> Tokens() const;

 private:
  struct Free {
    void operator()(PangeaTokenizer* p) const { pangea_tokenizer_free(p); }
  };
  std::unique_ptr<PangeaTokenizer, Free> handle_;
};

// A compiled chat template.
class ChatTemplate {
 public:
  // InvalidArgument naming the line and what is wrong there.
  static absl::StatusOr<ChatTemplate> Load(std::string_view source);
  struct Rendered {
    std::string text, mark;
  };
  // `special` (may be null): the tokens whose spellings are marked, as chat.h says. InvalidArgument with the template's
  // own words when it raises, when it takes too much, or when a text is no JSON, not UTF-8 or nested too deeply.
  absl::StatusOr<Rendered> Render(const PangeaChat& chat, const SpecialTokens* special) const;

 private:
  struct Free {
    void operator()(PangeaTemplate* p) const { pangea_template_free(p); }
  };
  std::unique_ptr<PangeaTemplate, Free> handle_;
};

// The bytes of a model's ids, for grammars.
class RustVocabulary {
 public:
  // ends: ids that end an answer, among these.
  static absl::StatusOr<RustVocabulary> Make(std::span<const Piece> pieces, const std::vector<int32_t>& ends);

 private:
  friend class RustGuide;
  struct Free {
    void operator()(PangeaVocabulary* p) const { pangea_vocabulary_free(p); }
  };
  std::unique_ptr<PangeaVocabulary, Free> handle_;
};

// An answer on its way through a grammar: see grammar.h. One thread at a time.
class RustGuide {
 public:
  static absl::StatusOr<RustGuide> Make(const RustVocabulary& vocabulary, const GrammarSource& source);
  RustGuide Copy() const;
  absl::Status Take(int32_t id);
  absl::Status Mask(std::vector<uint64_t>* words);

 private:
  struct Free {
    void operator()(PangeaGuide* p) const { pangea_guide_free(p); }
  };
  std::unique_ptr<PangeaGuide, Free> handle_;
};

// Chinese word segmentation as PanGu-alpha uses it (see pangea_text.h).
class Jieba {
 public:
  static absl::StatusOr<Jieba> Load();
  absl::StatusOr<std::string> Segment(std::string_view text) const;

 private:
  struct Free {
    void operator()(PangeaJieba* p) const { pangea_jieba_free(p); }
  };
  std::unique_ptr<PangeaJieba, Free> handle_;
};

}  // namespace pangea
