#include "master/text/score_bpe.h"

#include <algorithm>
#include <queue>

#include "master/text/pieces.h"
#include "master/text/utf8.h"

namespace pangea {
namespace {

// A run of the text that is one piece so far; a list linked both ways. length 0: joined to the one before.
struct Symbol {
  size_t begin = 0, length = 0;
  int previous = -1, next = -1;
};

// Two neighbours whose joint text is a piece.
struct Pair {
  float score;
  int left, right;
  size_t length;
  // The highest score is on top, of equal ones the leftmost.
  bool operator<(const Pair& o) const { return score < o.score || (score == o.score && left > o.left); }
};

std::string ByteToken(int byte) {
  constexpr char kHex[] = "0123456789ABCDEF";
  return std::string("<0x") + kHex[byte >> 4] + kHex[byte & 15] + ">";
}

}  // namespace

ScoreBpe::ScoreBpe(std::vector<Piece> pieces, std::optional<int32_t> unknown)
    : pieces_(std::move(pieces)), unknown_(unknown) {
  std::unordered_map<std::string_view, int32_t> all;
  for (size_t id = 0; id < pieces_.size(); ++id) {
    const Piece& piece = pieces_[id];
    all.emplace(piece.text, static_cast<int32_t>(id));
    if (!piece.plain || piece.text.empty()) continue;
    ids_.emplace(piece.text, static_cast<int32_t>(id));
    longest_ = std::max(longest_, piece.text.size());
  }
  for (int byte = 0; byte < 256; ++byte) {
    const auto it = all.find(ByteToken(byte));
    bytes_[byte] = it == all.end() ? -1 : it->second;
  }
}

bool ScoreBpe::has_all_bytes() const { return std::find(bytes_.begin(), bytes_.end(), -1) == bytes_.end(); }

int32_t ScoreBpe::Find(std::string_view text) const {
  if (text.size() > longest_) return -1;
  const auto it = ids_.find(text);
  return it == ids_.end() ? -1 : it->second;
}

void ScoreBpe::Encode(std::string_view text, bool space, std::vector<int32_t>* ids) const {
  constexpr std::string_view kSpace = "\xE2\x96\x81";
  const std::string escaped = std::string(space ? kSpace : "") + ReplaceAll(text, " ", kSpace);
  std::vector<Symbol> symbols;
  for (size_t at = 0; at < escaped.size(); at += symbols.back().length) {
    size_t length = 0;
    FirstCharacter(std::string_view(escaped).substr(at), &length);
    const int i = static_cast<int>(symbols.size());
    symbols.push_back({at, length, i - 1, at + length < escaped.size() ? i + 1 : -1});
  }
  std::priority_queue<Pair> queue;
  const auto join = [&](int left, int right) {
    if (left < 0 || right < 0) return;
    const size_t length = symbols[left].length + symbols[right].length;
    const int32_t id = Find(std::string_view(escaped).substr(symbols[left].begin, length));
    if (id >= 0) queue.push({pieces_[id].score, left, right, length});
  };
  for (int i = 1; i < static_cast<int>(symbols.size()); ++i) join(i - 1, i);
  while (!queue.empty()) {
    const Pair pair = queue.top();
    queue.pop();
    Symbol &left = symbols[pair.left], &right = symbols[pair.right];
    if (left.length == 0 || right.length == 0 || left.length + right.length != pair.length) continue;  // joined since
    left.length = pair.length;
    right.length = 0;
    left.next = right.next;
    if (right.next >= 0) symbols[right.next].previous = pair.left;
    join(left.previous, pair.left);
    join(pair.left, left.next);
  }
  bool was_unknown = false;  // a run of unknown characters is one id, as in SentencePiece
  for (int i = symbols.empty() ? -1 : 0; i >= 0; i = symbols[i].next) {
    const std::string_view run = std::string_view(escaped).substr(symbols[i].begin, symbols[i].length);
    const int32_t id = Find(run);
    const auto missing = [&](char c) { return bytes_[static_cast<unsigned char>(c)] < 0; };
    const bool unknown = id < 0 && std::any_of(run.begin(), run.end(), missing);
    if (id >= 0) {
      ids->push_back(id);
    } else if (!unknown) {
      for (const unsigned char byte : run) ids->push_back(bytes_[byte]);
    } else if (unknown_ && !was_unknown) {
      ids->push_back(*unknown_);
    }
    was_unknown = unknown;
  }
}

}  // namespace pangea
