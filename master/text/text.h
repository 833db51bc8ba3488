// Text in the master: strings <-> ids. Never in the step loop, never in an agent. Thread safety: a Text is immutable
// and may be used by many threads; Detokenizer and StopMatcher are one sequence's state.
//
// Text is the wall to the tokenizers and templates: a model's own are model_text.h's, a test may have fake_text.h's.
// What follows from the bytes of its ids is the same for both.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "master/text/pieces.h"
#include "nlohmann/json_fwd.hpp"
#include "pipeline/checkpoint/header.h"

namespace pangea {

struct TemplateOptions {
  bool add_generation_prompt = true;
  std::string kwargs = "{}";      // chat_template_kwargs: a JSON object
  std::string override_template;  // a request's own, when the operator allows it
};

class Text {
 public:
  // From a checkpoint folder (tokenizer.json; tokenizer.model; vocab.json + merges.txt; PanGu's vocab.model) or GGUF
  // metadata; the template from chat_template.jinja, tokenizer_config.json, GGUF, or template_file when not empty.
  static absl::StatusOr<std::unique_ptr<Text>> Load(const CheckpointHeader& header, const std::string& template_file);
  virtual ~Text() = default;

  // Text as a client gave it. add_special: what the tokenizer adds (BOS, as its files say). Special tokens spelled out
  // in the text are recognised when parse_special. InvalidArgument: not UTF-8. OutOfRange: too long. Linear.
  virtual absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text, bool add_special,
                                                      bool parse_special) const = 0;
  // Messages (a JSON array of {role, content: string, …}) -> template -> ids. What spells a special token inside a
  // message's content is encoded as plain text. InvalidArgument: no template, or the template refused (its own words).
  // Bounded by fuel and size.
  virtual absl::StatusOr<std::vector<int32_t>> EncodeChat(std::string_view messages,
                                                          const TemplateOptions& options) const = 0;
  virtual bool has_template() const = 0;
  // {tokenizer_class, bos_token, eos_token, pad_token, …, chat_template}, as vLLM's /tokenizer_info; null: there is
  // none.
  virtual nlohmann::ordered_json Info() const = 0;
  virtual const std::vector<std::string>& warnings() const = 0;  // what is odd in the files and stops nothing
  virtual std::vector<int32_t> end_ids() const = 0;  // ends of a turn that the tokenizer's files name (eos, eot)
  virtual const PieceTable& pieces() const = 0;      // what each id stands for

  int vocab() const {
    return static_cast<int>(pieces().pieces.size());
  }  // ids the tokenizer knows; a model may have more
  bool IsSpecial(int32_t id) const;
  // Bytes that the id stands for, by itself (a byte-level or byte-fallback piece may be part of a character).
  std::string Bytes(int32_t id) const;
  // Whole decode; invalid UTF-8 becomes U+FFFD.
  std::string Decode(const std::vector<int32_t>& ids, bool skip_special) const;
};

// Ids of one sequence -> text as it grows: Push returns the longest new text that no later id can change, so that
// characters are never split; Flush what is left (a broken tail becomes U+FFFD). The concatenation equals Decode(all
// ids). Constant time per id.
class Detokenizer {
 public:
  Detokenizer(const Text& text, bool skip_special) : pieces_(&text.pieces()), skip_special_(skip_special) {}
  std::string Push(int32_t id);
  std::string Flush();

 private:
  const PieceTable* pieces_;
  bool skip_special_;
  bool at_start_ = true;  // the leading space of a SentencePiece tokenizer, which is dropped, has not been met yet
  std::string pending_;   // the beginning of a character, at most 3 bytes between calls
};

// Finds the earliest end of any stop string in a text that comes in pieces (of those that end there, the longest; empty
// ones are ignored). Linear time; holds back only what may be the start of a stop string. Copies share the compiled
// strings.
class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops);
  struct Piece {
    std::string text;      // may be given out now
    bool stopped = false;  // a stop string was completed: text ends before it
  };
  // may_stop false: what ends in this text is passed over; what begins in it may still end in the next.
  Piece Push(std::string_view text, bool may_stop = true);
  std::string Flush();  // what was held back

 private:
  struct Automaton;
  std::shared_ptr<const Automaton> automaton_;
  int state_ = 0;
  bool stopped_ = false;
  std::string held_;  // what is held back begins at held_[done_]
  size_t done_ = 0;
};

}  // namespace pangea
