#include "configs/yaml_guard.h"

#include "absl/strings/str_format.h"
#include "configs/cat.h"
#include "configs/values.h"

namespace pangea {
namespace {

class Guard {
 public:
  explicit Guard(std::string_view text) : text_(text) {}

  std::vector<YamlFault> Run() {
    if (text_.starts_with("\xEF\xBB\xBF")) pos_ = 3;
    while (pos_ < text_.size() && faults_.size() < kMaxYamlFaults) {
      if (!CheckCharacter()) continue;
      switch (state_) {
        case State::kBetween:
          Between();
          break;
        case State::kPlain:
          Plain();
          break;
        case State::kSingle:
          Single();
          break;
        case State::kDouble:
          Double();
          break;
        case State::kComment:
          Advance(1);
          break;
      }
    }
    // yaml-cpp takes the end of the text for the end of the quote.
    if (state_ == State::kSingle || state_ == State::kDouble)
      faults_.push_back({quote_line_, quote_column_, "a quote is not closed"});
    return std::move(faults_);
  }

 private:
  enum class State { kBetween, kPlain, kSingle, kDouble, kComment };

  char At(size_t i) const { return i < text_.size() ? text_[i] : '\n'; }
  bool BlankAt(size_t i) const {
    const char c = At(i);
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
  }
  void Advance(size_t n) {
    pos_ += n;
    column_ += static_cast<int>(n);
  }
  void Fault(std::string what) { faults_.push_back({line_, column_, std::move(what)}); }

  // Line ends, control characters and encoding: alike in every state. False: consumed.
  bool CheckCharacter() {
    const unsigned char c = text_[pos_];
    if (c == '\n') {
      if (state_ == State::kComment || state_ == State::kPlain) state_ = State::kBetween;
      ++pos_, ++line_, column_ = 1;
      indent_ = true;
      return false;
    }
    if (c == '\r' && At(pos_ + 1) == '\n') return Advance(1), false;
    if (c == '\t') {
      if (state_ != State::kComment) Fault("a tab; YAML indents and separates with spaces");
      return Advance(1), false;
    }
    if (c < 0x20 || c == 0x7F) {
      Fault(c == 0 ? std::string("a NUL byte") : absl::StrFormat("a control character (0x%02X)", c));
      return Advance(1), false;
    }
    if (c >= 0x80) {
      const size_t length = Utf8Length(text_.substr(pos_, 4));
      if (length == 0) {
        Fault("not UTF-8");
        return Advance(1), false;
      }
      if (state_ == State::kBetween) Token();
      pos_ += length, column_ += 1;
      return false;
    }
    return true;
  }

  // The first character of a line's content is where indentation ends.
  void Token() {
    if (indent_ && column_ - 1 > kMaxYamlIndent) {
      Fault(Cat("nested or indented deeper than ", kMaxYamlIndent, " columns"));
    }
    indent_ = false;
    state_ = State::kPlain;
  }

  void Open() {
    if (++depth_ == kMaxYamlDepth + 1) Fault(Cat("nested deeper than ", kMaxYamlDepth, " levels"));
    Advance(1);
    state_ = State::kBetween;
  }

  void Between() {
    const char c = text_[pos_];
    const bool alone = BlankAt(pos_ + 1);
    if (c == ' ' || (c == '-' && alone)) return Advance(1);  // list markers count as indentation: "- - - x" nests
    if (c == '?' && alone) return Fault("complex keys (\"? \") are refused"), Advance(1);
    if (c == '#' && (pos_ == 0 || BlankAt(pos_ - 1))) return void(state_ = State::kComment);
    if (column_ == 1 && (text_.substr(pos_, 3) == "---" || text_.substr(pos_, 3) == "...") && BlankAt(pos_ + 3)) {
      return Advance(3);
    }
    if (column_ == 1 && c == '%') Fault("YAML directives are refused");
    Token();
    switch (c) {
      case '[':
      case '{':
        return Open();
      case ']':
      case '}':
        if (depth_ > 0) --depth_;
        [[fallthrough]];
      case ',':
        return void(state_ = State::kBetween), Advance(1);
      case ':':  // ":x" is text, "a" :b and "a":b are not
        if (EndsKey() || (pos_ > 0 && std::string_view("'\"]}").find(At(pos_ - 1)) != std::string_view::npos)) {
          state_ = State::kBetween;
        }
        break;
      case '\'':
      case '"':
        state_ = c == '"' ? State::kDouble : State::kSingle;
        quote_line_ = line_, quote_column_ = column_;
        return Advance(1);
      case '&':
        Fault("anchors (\"&\") are refused");
        break;
      case '*':
        Fault("aliases (\"*\") are refused");
        break;
      case '!':
        Fault("tags (\"!\") are refused");
        break;
      case '|':
      case '>':
        Fault("block scalars (\"|\" and \">\") are refused; write the text in quotes");
        break;
      case '<':
        if (IsMergeKey()) Fault("merge keys (\"<<\") are refused");
        break;
      default:
        break;
    }
    Advance(1);
  }

  bool IsMergeKey() const {
    if (text_.substr(pos_, 2) != "<<") return false;
    size_t i = pos_ + 2;
    while (At(i) == ' ') ++i;
    return At(i) == ':';
  }

  // Of a colon: what follows makes it an indicator.
  bool EndsKey() const {
    return BlankAt(pos_ + 1) || (depth_ > 0 && std::string_view(",[]{}").find(At(pos_ + 1)) != std::string_view::npos);
  }

  void Plain() {
    const char c = text_[pos_];
    if (c == ':' && EndsKey()) {
      state_ = State::kBetween;
    } else if (c == '#' && At(pos_ - 1) == ' ') {
      state_ = State::kComment;
    } else if (depth_ > 0 && (c == ',' || c == '[' || c == ']' || c == '{' || c == '}')) {
      state_ = State::kBetween;
      return;  // judged there
    }
    Advance(1);
  }

  void Single() {
    if (text_[pos_] != '\'') return Advance(1);
    if (At(pos_ + 1) == '\'') return Advance(2);
    state_ = State::kBetween;
    Advance(1);
  }

  void Double() {
    const char c = text_[pos_];
    if (c == '"') state_ = State::kBetween;
    // An escaped line end is left to CheckCharacter, which counts lines.
    Advance(c == '\\' && (At(pos_ + 1) == '"' || At(pos_ + 1) == '\\') ? 2 : 1);
  }

  std::string_view text_;
  size_t pos_ = 0;
  int line_ = 1, column_ = 1, depth_ = 0;
  int quote_line_ = 0, quote_column_ = 0;  // where the open quote is
  bool indent_ = true;                     // still before the first content of the line
  State state_ = State::kBetween;
  std::vector<YamlFault> faults_;
};

}  // namespace

std::vector<YamlFault> GuardYaml(std::string_view text) {
  if (text.size() > kMaxYamlBytes) {
    return {{0, 0, Cat("larger than ", kMaxYamlBytes, " bytes")}};
  }
  return Guard(text).Run();
}

}  // namespace pangea
