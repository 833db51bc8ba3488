// What the parts of a tokenizer.json mean for us, and the parts that we write ourselves for vocabularies from
// elsewhere.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace pangea {

struct Decoding {
  bool byte_level = false;  // GPT-2's alphabet; else SentencePiece's U+2581
  bool byte_fallback = false;
  bool strip_first_space = false;
  bool strip_first_piece = false;  // Metaspace: all spaces that the first token begins with
};
// InvalidArgument naming a decoder that does not work token by token (WordPiece, CTC, …).
absl::StatusOr<Decoding> ReadDecoder(const nlohmann::json& tokenizer);

enum class NormalizerKind { kNone, kUnicode, kOther };  // kUnicode: NFC, or only adds and replaces spaces
NormalizerKind ReadNormalizer(const nlohmann::json& tokenizer);

// The file with its Metaspace pre-tokenizer's prepend_scheme `first` turned to `never`; nullopt when it has none.
std::optional<nlohmann::json> WithoutFirstPrefix(const nlohmann::json& tokenizer);

// True when the pre-tokenizer is one of those that we know to keep every byte and to cut at every place that SafeCut
// chooses.
bool KeepsEveryByte(const nlohmann::json& tokenizer);
// Where a long text may be cut so that encoding the parts gives the ids of the whole. Always: after an ASCII letter
// before a newline, or before a space and another letter.
struct CutPlaces {
  bool ideographs = false;  // after a CJK ideograph before a full-width comma or stop
  bool spaces = false;      // before any space, and any newline that does not end \r\n
};
// A regular expression that keeps every byte and cuts at every place that SafeCut chooses.
bool KnownSplit(std::string_view regex);
// The first such place after 256 KiB; text.size() when there is none.
size_t SafeCut(std::string_view text, const CutPlaces& places);

// A pre-tokenizer and normalizer by the name that GGUF gives (tokenizer.ggml.pre; "" when it gives none), from
// Transformers' files of the same models.
struct PreTokenizer {
  nlohmann::json pre_tokenizer, normalizer;
  bool ignore_merges = false;
  bool add_bos = false;  // where the file does not say
};
// InvalidArgument with all names when it is none of them.
absl::StatusOr<PreTokenizer> PreTokenizerByName(std::string_view name);

}  // namespace pangea
