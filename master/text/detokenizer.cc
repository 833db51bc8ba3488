#include "master/text/text.h"
#include "master/text/text_state.h"
#include "master/text/utf8.h"

namespace pangea {

struct Detokenizer::State {
  const PieceTable* pieces;
  bool skip_special;
  bool at_start;        // the leading space has not been met yet
  std::string pending;  // the beginning of a character, at most 3 bytes between calls
};

Detokenizer::Detokenizer(const Text& text, bool skip_special, bool continues)
    : state_(new State{&text.state().tokenizer->pieces(), skip_special, !continues, {}}) {}
Detokenizer::~Detokenizer() = default;
Detokenizer::Detokenizer(Detokenizer&&) noexcept = default;

std::string Detokenizer::Push(int32_t id) {
  State& s = *state_;
  std::string out;
  if (!s.pieces->Known(id)) return out;
  const Piece& piece = s.pieces->pieces[id];
  if (s.skip_special && piece.special) return out;
  std::string_view bytes = piece.bytes;
  if (s.at_start && s.pieces->strip_first_space) {
    while (bytes.starts_with(' ')) {
      bytes.remove_prefix(1);
      if (!s.pieces->strip_all_first_spaces && !s.pieces->strip_first_piece) {
        s.at_start = false;
        break;
      }
    }
    if (s.pieces->strip_first_piece) s.at_start = false;
  }
  if (!bytes.empty()) s.at_start = false;
  s.pending.append(bytes);
  s.pending.erase(0, AppendUtf8(&out, s.pending));
  return out;
}

std::string Detokenizer::Flush() {
  // A beginning without an end is one maximal part of an ill-formed sequence.
  std::string out(state_->pending.empty() ? std::string_view() : kReplacement);
  state_->pending.clear();
  return out;
}

}  // namespace pangea
