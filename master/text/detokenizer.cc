#include "master/text/text.h"
#include "master/text/utf8.h"

namespace pangea {

std::string Detokenizer::Push(int32_t id) {
  std::string out;
  if (!pieces_->Known(id)) return out;
  const Piece& piece = pieces_->pieces[id];
  if (skip_special_ && piece.special) return out;
  std::string_view bytes = piece.bytes;
  if (at_start_ && pieces_->strip_first_space) {
    while (bytes.starts_with(' ')) {
      bytes.remove_prefix(1);
      if (!pieces_->strip_all_first_spaces && !pieces_->strip_first_piece) {
        at_start_ = false;
        break;
      }
    }
    if (pieces_->strip_first_piece) at_start_ = false;
  }
  if (!bytes.empty()) at_start_ = false;
  pending_.append(bytes);
  pending_.erase(0, AppendUtf8(&out, pending_));
  return out;
}

std::string Detokenizer::Flush() {
  // A beginning without an end is one maximal part of an ill-formed sequence.
  std::string out(pending_.empty() ? std::string_view() : kReplacement);
  pending_.clear();
  return out;
}

}  // namespace pangea
