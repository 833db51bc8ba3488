// Answers that must follow a form: which ids may come next. Behind this wall is the library that knows grammars
// (model_grammars.h); who generates needs these words alone.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "pipeline/step.h"

namespace pangea {

// The numbers are pangea_text.h's.
enum class GrammarKind : int {
  kSchema = 0,  // a JSON schema, as a JSON text: members keep their order, and answers have it
  kRegex = 1,   // the whole answer, in the syntax of Rust's regex crate
  kChoice = 2,  // a JSON text: a list of strings, of which the answer is one
  kLark = 3     // Lark's syntax as llguidance has it
};

struct GrammarSource {
  GrammarKind kind = GrammarKind::kSchema;
  std::string text;
  bool operator==(const GrammarSource&) const = default;
};

// How far one answer has come in its grammar. One thread at a time.
class Guide {
 public:
  virtual ~Guide() = default;
  virtual std::unique_ptr<Guide> Copy() const = 0;
  // An id that was drawn, and that the last mask allowed. What it, or a mask, takes has bounds: InvalidArgument.
  virtual absl::Status Take(int32_t id) = 0;
  virtual absl::StatusOr<AllowedIds> Mask() = 0;  // some id is allowed: where the grammar has ended, those that end
};

// Thread safe.
class Grammars {
 public:
  virtual ~Grammars() = default;
  // Of an answer that has not begun. InvalidArgument: no grammar, one that asks for what cannot be honoured (it says
  // which keyword), or one that takes too much.
  virtual absl::StatusOr<std::unique_ptr<Guide>> Start(const GrammarSource& source) = 0;
};

}  // namespace pangea
