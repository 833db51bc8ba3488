#include "master/text/rust_text.h"

#include <cstring>

// ThreadSanitizer sees neither the Rust library's locks nor most of its accesses, but its malloc, free and memcpy: half
// the picture, from which it would report races. What happens inside is left to Rust's own rules.
#ifdef __SANITIZE_THREAD__
extern "C" void __tsan_ignore_thread_begin();
extern "C" void __tsan_ignore_thread_end();
#endif

namespace pangea {
namespace {

struct InsideRust {
#ifdef __SANITIZE_THREAD__
  InsideRust() { __tsan_ignore_thread_begin(); }
  ~InsideRust() { __tsan_ignore_thread_end(); }
#endif
};

const uint8_t* Data(std::string_view text) { return reinterpret_cast<const uint8_t*>(text.data()); }

std::string Take(PangeaBuffer buffer) {
  std::string out(reinterpret_cast<const char*>(buffer.data), buffer.size);
  pangea_buffer_free(buffer);
  return out;
}

size_t SpellingAt(const void* tokens, const uint8_t* text, size_t size, size_t at) {
  return static_cast<const SpecialTokens*>(tokens)->SpecialAt({reinterpret_cast<const char*>(text), size}, at);
}

size_t OpenEnd(const void* tokens, const uint8_t* text, size_t size) {
  return static_cast<const SpecialTokens*>(tokens)->OpenEnd({reinterpret_cast<const char*>(text), size});
}

}  // namespace

absl::StatusOr<JsonTokenizer> JsonTokenizer::Load(std::string_view json) {
  [[maybe_unused]] const InsideRust inside;
  PangeaTokenizer* handle = nullptr;
  PangeaBuffer error{};
  if (pangea_tokenizer_load(Data(json), json.size(), &handle, &error) != 0) {
    return absl::InvalidArgumentError("tokenizer.json: " + Take(error));
  }
  JsonTokenizer out;
  out.handle_.reset(handle);
  return out;
}

absl::Status JsonTokenizer::Encode(std::string_view text, bool add_special, std::vector<int32_t>* ids) const {
  [[maybe_unused]] const InsideRust inside;
  PangeaIds got{};
  PangeaBuffer error{};
  if (pangea_tokenizer_encode(handle_.get(), Data(text), text.size(), add_special, &got, &error) != 0) {
    return absl::InvalidArgumentError("tokenizer: " + Take(error));
  }
  ids->insert(ids->end(), got.data, got.data + got.size);
  pangea_ids_free(got);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<JsonTokenizer::Token>> JsonTokenizer::Tokens() const {
  [[maybe_unused]] const InsideRust inside;
  PangeaBuffer out{}, error{};
  if (pangea_tokenizer_pieces(handle_.get(), &out, &error) != 0) {
    return absl::InternalError("tokenizer: " + Take(error));
  }
  const std::string bytes = Take(out);
  std::vector<Token> tokens;
  for (size_t at = 0; at < bytes.size();) {
    uint32_t words[3];
    std::memcpy(words, bytes.data() + at, sizeof words);
    at += sizeof words;
    tokens.push_back({static_cast<int32_t>(words[0]), words[1], bytes.substr(at, words[2])});
    at += words[2];
  }
  return tokens;
}

absl::StatusOr<ChatTemplate> ChatTemplate::Load(std::string_view source) {
  [[maybe_unused]] const InsideRust inside;
  PangeaTemplate* handle = nullptr;
  PangeaBuffer error{};
  if (pangea_template_load(Data(source), source.size(), &handle, &error) != 0) {
    return absl::InvalidArgumentError(Take(error));
  }
  ChatTemplate out;
  out.handle_.reset(handle);
  return out;
}

absl::StatusOr<ChatTemplate::Rendered> ChatTemplate::Render(const PangeaChat& chat,
                                                            const SpecialTokens* special) const {
  [[maybe_unused]] const InsideRust inside;
  const PangeaSpellings spellings = {special, &SpellingAt, &OpenEnd};
  PangeaBuffer out[2]{}, error{};
  const auto* marked = special == nullptr ? nullptr : &spellings;
  if (pangea_template_render(handle_.get(), &chat, marked, out, &error) != 0) {
    return absl::InvalidArgumentError(Take(error));
  }
  return Rendered{Take(out[0]), Take(out[1])};
}

absl::StatusOr<RustVocabulary> RustVocabulary::Make(std::span<const Piece> pieces, const std::vector<int32_t>& ends) {
  std::string bytes;
  std::vector<uint32_t> lengths;
  std::vector<uint8_t> special;
  for (const Piece& piece : pieces) {
    bytes += piece.bytes;
    lengths.push_back(static_cast<uint32_t>(piece.bytes.size()));
    special.push_back(piece.special ? 1 : 0);
  }
  const std::vector<uint32_t> last(ends.begin(), ends.end());
  for (const uint32_t id : last) special.at(id) = 1;  // else it could be drawn as a text, and end the answer there
  [[maybe_unused]] const InsideRust inside;
  PangeaVocabulary* handle = nullptr;
  PangeaBuffer error{};
  if (pangea_vocabulary_new(Data(bytes), lengths.data(), special.data(), lengths.size(), last.data(), last.size(),
                            &handle, &error) != 0) {
    return absl::InvalidArgumentError(Take(error));
  }
  RustVocabulary out;
  out.handle_.reset(handle);
  return out;
}

absl::StatusOr<RustGuide> RustGuide::Make(const RustVocabulary& vocabulary, const GrammarSource& source) {
  [[maybe_unused]] const InsideRust inside;
  PangeaGuide* handle = nullptr;
  PangeaBuffer error{};
  if (pangea_guide_new(vocabulary.handle_.get(), static_cast<int>(source.kind), Data(source.text), source.text.size(),
                       &handle, &error) != 0) {
    return absl::InvalidArgumentError(pangea::Take(error));
  }
  RustGuide out;
  out.handle_.reset(handle);
  return out;
}

RustGuide RustGuide::Copy() const {
  [[maybe_unused]] const InsideRust inside;
  PangeaGuide* handle = nullptr;
  PangeaBuffer error{};
  RustGuide out;
  if (pangea_guide_copy(handle_.get(), &handle, &error) != 0) {
    pangea::Take(error);  // a copy of nothing: whatever is asked of it is an error
    return out;
  }
  out.handle_.reset(handle);
  return out;
}

absl::Status RustGuide::Take(int32_t id) {
  [[maybe_unused]] const InsideRust inside;
  PangeaBuffer error{};
  if (handle_ == nullptr) return absl::InternalError("a grammar could not be copied");
  if (pangea_guide_take(handle_.get(), static_cast<uint32_t>(id), &error) != 0)
    return absl::InvalidArgumentError(pangea::Take(error));
  return absl::OkStatus();
}

absl::Status RustGuide::Mask(std::vector<uint64_t>* words) {
  [[maybe_unused]] const InsideRust inside;
  PangeaBuffer error{};
  if (handle_ == nullptr) return absl::InternalError("a grammar could not be copied");
  if (pangea_guide_mask(handle_.get(), words->data(), words->size(), &error) != 0)
    return absl::InvalidArgumentError(pangea::Take(error));
  return absl::OkStatus();
}

absl::StatusOr<Jieba> Jieba::Load() {
  [[maybe_unused]] const InsideRust inside;
  PangeaJieba* handle = nullptr;
  PangeaBuffer error{};
  if (pangea_jieba_new(&handle, &error) != 0) return absl::InternalError("jieba: " + Take(error));
  Jieba out;
  out.handle_.reset(handle);
  return out;
}

absl::StatusOr<std::string> Jieba::Segment(std::string_view text) const {
  [[maybe_unused]] const InsideRust inside;
  PangeaBuffer out{}, error{};
  if (pangea_jieba_segment(handle_.get(), Data(text), text.size(), &out, &error) != 0) {
    return absl::InvalidArgumentError("jieba: " + Take(error));
  }
  return Take(out);
}

}  // namespace pangea
