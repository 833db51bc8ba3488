// Splits a text at the tokens that are spelled out in it.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pangea {

// A token that is recognised in a text before anything else (Hugging Face's AddedToken; SentencePiece's control
// pieces).
struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool special = true;
  bool lstrip = false, rstrip = false;  // takes the white space before, after it along
  bool single_word = false;             // only where no word character is next to it
  bool normalized = false;              // found in the normalised text (a tokenizer.json's own matter)
};

// Text, or one token where id >= 0.
struct Stretch {
  std::string_view text;
  int32_t id = -1;
};

// Immutable; leftmost, longest match (as the tokenizers library's). Time: text length x the longest token's length at
// worst, in practice one look at each byte.
class SpecialTokens {
 public:
  SpecialTokens() = default;
  explicit SpecialTokens(std::vector<AddedToken> tokens);
  // A token right before `mark` (when not empty) is text.
  std::vector<Stretch> Split(std::string_view text, bool special, bool not_special, std::string_view mark = {}) const;
  // Length of the longest special token that begins at text[at]; 0: none.
  size_t SpecialAt(std::string_view text, size_t at) const;
  // Length of the longest end of text that is a proper beginning of a special token's spelling.
  size_t OpenEnd(std::string_view text) const;
  const std::vector<AddedToken>& tokens() const { return tokens_; }

 private:
  struct Node {
    std::vector<std::pair<unsigned char, int>> next;  // sorted
    int token = -1;
  };
  int Step(int node, unsigned char byte) const;
  const AddedToken* Longest(std::string_view text, size_t at, bool special, bool not_special) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;
  std::vector<bool> first_ = std::vector<bool>(256, false);
  size_t longest_ = 0;
};

}  // namespace pangea
