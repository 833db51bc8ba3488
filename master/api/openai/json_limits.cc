#include "master/api/openai/json_limits.h"

#include <algorithm>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "master/api/openai/api_error.h"
#include "master/api/openai/ascii.h"
#include "nlohmann/json.hpp"

namespace pangea {
namespace {

// A pushdown automaton with an explicit stack, so that depth costs a byte and never the machine's stack.
class Scanner {
 public:
  Scanner(std::string_view text, const JsonLimits& limits) : text_(text), limits_(limits) {}

  absl::Status Run() {
    while (fault_ == nullptr) {
      Space();
      switch (state_) {
        case State::kValue:
          Value();
          break;
        case State::kKey:
          Key();
          break;
        case State::kAfter:
          if (open_.empty()) return at_ == text_.size() ? absl::OkStatus() : Error("more text after the JSON value");
          After();
          break;
      }
    }
    return too_deep_ ? OverLimit("json_depth", Error(fault_)) : Error(fault_);
  }

 private:
  enum class State { kValue, kKey, kAfter };

  absl::Status Error(const char* what) const {
    return absl::InvalidArgumentError(absl::StrCat("the body is not valid JSON: ", what, " at byte ", at_));
  }
  void Fail(const char* what) {
    if (fault_ == nullptr) fault_ = what;
  }
  char Peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  bool End() const { return at_ >= text_.size(); }
  void Space() {
    while (!End() && (Peek() == ' ' || Peek() == '\t' || Peek() == '\n' || Peek() == '\r')) ++at_;
  }

  void Value() {
    if (++values_ > limits_.values) return Fail("too many values");
    if (End()) return Fail("unexpected end");
    state_ = State::kAfter;
    switch (Peek()) {
      case '{':
      case '[':
        return Open();
      case '"':
        return String();
      case 't':
        return Literal("true");
      case 'f':
        return Literal("false");
      case 'n':
        return Literal("null");
      default:
        return Number();
    }
  }

  void Open() {
    if (static_cast<int>(open_.size()) >= limits_.depth) {
      too_deep_ = true;
      return Fail("arrays and objects nested too deeply");
    }
    const char kind = text_[at_++];
    open_.push_back(kind);
    Space();
    if (Peek() == (kind == '{' ? '}' : ']')) {
      ++at_;
      open_.pop_back();
    } else {
      state_ = kind == '{' ? State::kKey : State::kValue;
    }
  }

  void Key() {
    if (Peek() != '"') return Fail("expected a name in double quotes");
    String();
    Space();
    if (Peek() != ':') return Fail("expected ':'");
    ++at_;
    state_ = State::kValue;
  }

  void After() {
    const bool object = open_.back() == '{';
    if (Peek() == ',') {
      ++at_;
      state_ = object ? State::kKey : State::kValue;
    } else if (!End() && Peek() == (object ? '}' : ']')) {
      ++at_;
      open_.pop_back();
    } else {
      Fail(object ? "expected ',' or '}'" : "expected ',' or ']'");
    }
  }

  void Literal(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return Fail("unexpected character");
    at_ += word.size();
  }

  void Number() {
    if (Peek() == '-') ++at_;
    if (!absl::ascii_isdigit(Peek())) return Fail("unexpected character");
    if (Peek() == '0') {
      ++at_;
    } else {
      Digits();
    }
    if (Peek() == '.') {
      ++at_;
      if (!absl::ascii_isdigit(Peek())) return Fail("expected a digit");
      Digits();
    }
    if (Peek() == 'e' || Peek() == 'E') {
      ++at_;
      if (Peek() == '+' || Peek() == '-') ++at_;
      if (!absl::ascii_isdigit(Peek())) return Fail("expected a digit");
      Digits();
    }
  }
  void Digits() {
    while (absl::ascii_isdigit(Peek())) ++at_;
  }

  void String() {
    ++at_;
    while (fault_ == nullptr) {
      if (End()) return Fail("unterminated string");
      const unsigned char c = text_[at_];
      if (c == '"') {
        ++at_;
        return;
      }
      if (c < 0x20) return Fail("control character in a string");
      if (c == '\\') {
        Escape();
      } else if (c < 0x80) {
        ++at_;
      } else {
        const int bytes = Utf8CharBytes(text_, at_);
        if (bytes == 0) return Fail("invalid UTF-8");
        at_ += bytes;
      }
    }
  }

  void Escape() {
    ++at_;
    const char c = Peek();
    if (c != 'u') {
      if (End() || std::string_view("\"\\/bfnrt").find(c) == std::string_view::npos) return Fail("invalid escape");
      ++at_;
      return;
    }
    const int unit = Unit();
    if (unit < 0) return Fail("invalid \\u escape");
    if (unit >= 0xDC00 && unit <= 0xDFFF) return Fail("lone surrogate");
    if (unit < 0xD800 || unit > 0xDBFF) return;
    if (Peek() != '\\' || Peek(1) != 'u') return Fail("lone surrogate");
    ++at_;
    const int low = Unit();
    if (low < 0xDC00 || low > 0xDFFF) return Fail("lone surrogate");
  }

  // At the u of \uXXXX; -1: not four hexadecimal digits.
  int Unit() {
    int value = 0;
    for (int i = 1; i <= 4; ++i) {
      const int digit = HexValue(Peek(i));
      if (digit < 0) return -1;
      value = value * 16 + digit;
    }
    at_ += 5;
    return value;
  }

  const std::string_view text_;
  const JsonLimits& limits_;
  size_t at_ = 0;
  int64_t values_ = 0;
  State state_ = State::kValue;
  std::string open_;
  const char* fault_ = nullptr;
  bool too_deep_ = false;
};

}  // namespace

std::string_view JsonMember(std::string_view object, std::string_view name) {
  size_t at = 0;
  const auto space = [&] { at = std::min(object.find_first_not_of(" \t\n\r", at), object.size()); };
  // To the end of the value or name that begins at `at`.
  const auto pass = [&] {
    const size_t begin = at;
    int open = 0;
    bool quoted = false;
    for (; at < object.size(); ++at) {
      const char c = object[at];
      if (quoted) {
        at += c == '\\';
        quoted = c != '"';
        if (!quoted && open == 0) return object.substr(begin, ++at - begin);
      } else if (c == '"') {
        quoted = true;
      } else if (c == '{' || c == '[') {
        ++open;
      } else if (open == 0 && std::string_view(",:}] \t\n\r").find(c) != std::string_view::npos) {
        break;
      } else if ((c == '}' || c == ']') && --open == 0) {
        return object.substr(begin, ++at - begin);
      }
    }
    return object.substr(begin, at - begin);
  };
  std::string_view found;
  for (space(), ++at; at < object.size(); ++at) {
    space();
    const std::string_view key = pass();
    space();
    ++at;  // the colon
    space();
    const std::string_view value = pass();
    const bool escaped = key.find('\\') != std::string_view::npos;
    if (key.size() >= 2 &&
        (escaped ? nlohmann::json::parse(key).get<std::string>() == name : key.substr(1, key.size() - 2) == name)) {
      found = value;
    }
    space();  // a comma, or the end
  }
  return found;
}

absl::Status CheckJson(std::string_view text, const JsonLimits& limits) { return Scanner(text, limits).Run(); }

int Utf8CharBytes(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) -> unsigned {
    return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0u;
  };
  const auto tail = [&](size_t i) { return (byte(i) & 0xC0) == 0x80; };
  const unsigned c = byte(0);
  if (at >= text.size()) return 0;
  if (c < 0x80) return 1;
  if (c >= 0xC2 && c <= 0xDF) return tail(1) ? 2 : 0;
  if (c >= 0xE0 && c <= 0xEF) {
    // Unicode table 3-7: E0 would be overlong below A0, ED would be a surrogate from A0 on.
    if ((c == 0xE0 && byte(1) < 0xA0) || (c == 0xED && byte(1) > 0x9F)) return 0;
    return tail(1) && tail(2) ? 3 : 0;
  }
  if (c >= 0xF0 && c <= 0xF4) {
    if ((c == 0xF0 && byte(1) < 0x90) || (c == 0xF4 && byte(1) > 0x8F)) return 0;
    return tail(1) && tail(2) && tail(3) ? 4 : 0;
  }
  return 0;
}

int64_t CodePoints(std::string_view utf8) {
  int64_t count = 0;
  for (const char c : utf8) count += (c & 0xC0) != 0x80;
  return count;
}

}  // namespace pangea
