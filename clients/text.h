// Text on its way to and from a terminal.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace pangea::clients {

bool ValidUtf8(std::string_view text);  // RFC 3629: no overlong forms, no surrogates

// Text that a model wrote, safe to print on a terminal: control characters but for line feed and tab become U+FFFD, so
// that no escape sequence of a model's making reaches it. C1 controls (U+0080 to U+009F) too.
std::string ForTerminal(std::string_view text);

// Breaks streamed text between words, so that none is cut at the margin of a terminal: a word that has begun to be
// printed is taken back and printed on the next line. columns: of the terminal; 0: not known, text passes as it is.
class WordWrap {
 public:
  explicit WordWrap(int columns) : columns_(columns) {}
  // What to print for the next piece of text, which ForTerminal has been over.
  std::string Push(std::string_view text);

 private:
  void Put(std::string_view character, int width, std::string& out);
  int columns_, column_ = 0, word_width_ = 0;
  std::string word_;  // the unbroken run before the cursor
};

// The name that is most like a mistyped one, empty when none is near.
std::string Nearest(const std::string& typed, const std::vector<std::string>& names);

}  // namespace pangea::clients
