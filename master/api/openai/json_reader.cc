#include "master/api/openai/json_reader.h"

#include <charconv>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "master/api/openai/api_error.h"
#include "master/text/ascii.h"
#include "master/text/utf8.h"

namespace pangea {
namespace {

using Json = nlohmann::json;

// A pushdown automaton with an explicit stack, so that depth costs a pointer and never the machine's stack.
class Reader {
 public:
  Reader(std::string_view text, const JsonLimits& limits) : text_(text), limits_(limits) {}

  absl::StatusOr<JsonDocument> Run() {
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
          if (open_.empty()) return End();
          After();
          break;
      }
    }
    return too_deep_ ? OverLimit("json_depth", Error(fault_)) : Error(fault_);
  }

 private:
  enum class State { kValue, kKey, kAfter };

  absl::StatusOr<JsonDocument> End() {
    if (!AtEnd()) return Error("more text after the JSON value");
    if (out_of_range_) return absl::InvalidArgumentError("the body is not valid JSON: a number is out of range");
    return std::move(document_);
  }
  absl::Status Error(const char* what) const {
    return absl::InvalidArgumentError(absl::StrCat("the body is not valid JSON: ", what, " at byte ", at_));
  }
  void Fail(const char* what) {
    if (fault_ == nullptr) fault_ = what;
  }
  char Peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  bool AtEnd() const { return at_ >= text_.size(); }
  void Space() {
    while (!AtEnd() && (Peek() == ' ' || Peek() == '\t' || Peek() == '\n' || Peek() == '\r')) ++at_;
  }

  void Value() {
    if (++values_ > limits_.values) return Fail("too many values");
    if (AtEnd()) return Fail("unexpected end");
    if (OfOutermostObject()) begin_ = at_;
    state_ = State::kAfter;
    switch (Peek()) {
      case '{':
      case '[':
        return Open();
      case '"':
        return Put(String());
      case 't':
        return Literal("true", true);
      case 'f':
        return Literal("false", false);
      case 'n':
        return Literal("null", nullptr);
      default:
        return Number();
    }
  }

  // Where the value that is read next belongs.
  Json& Place() {
    if (open_.empty()) return document_.value;
    Json& in = *open_.back();
    return in.is_array() ? in.emplace_back() : in[key_];
  }
  void Put(Json value) {
    Place() = std::move(value);
    Ended();
  }
  bool OfOutermostObject() const { return open_.size() == 1 && open_.back()->is_object(); }
  // A value was read to its end.
  void Ended() {
    if (OfOutermostObject()) document_.members[member_] = text_.substr(begin_, at_ - begin_);
  }

  void Open() {
    if (static_cast<int>(open_.size()) >= limits_.depth) {
      too_deep_ = true;
      return Fail("arrays and objects nested too deeply");
    }
    const bool object = text_[at_++] == '{';
    Json& place = Place();
    place = object ? Json::object() : Json::array();
    open_.push_back(&place);  // it stays there: what it is in does not grow before it is closed
    Space();
    if (Peek() == (object ? '}' : ']')) {
      Close();
    } else {
      state_ = object ? State::kKey : State::kValue;
    }
  }
  void Close() {
    ++at_;
    open_.pop_back();
    Ended();
  }

  void Key() {
    if (Peek() != '"') return Fail("expected a name in double quotes");
    key_ = String();
    if (open_.size() == 1) member_ = key_;
    Space();
    if (Peek() != ':') return Fail("expected ':'");
    ++at_;
    state_ = State::kValue;
  }

  void After() {
    const bool object = open_.back()->is_object();
    if (Peek() == ',') {
      ++at_;
      state_ = object ? State::kKey : State::kValue;
    } else if (!AtEnd() && Peek() == (object ? '}' : ']')) {
      Close();
    } else {
      Fail(object ? "expected ',' or '}'" : "expected ',' or ']'");
    }
  }

  void Literal(std::string_view word, Json value) {
    if (text_.substr(at_, word.size()) != word) return Fail("unexpected character");
    at_ += word.size();
    Put(std::move(value));
  }

  void Number() {
    const size_t begin = at_;
    if (Peek() == '-') ++at_;
    if (!absl::ascii_isdigit(Peek())) return Fail("unexpected character");
    if (Peek() == '0') {
      ++at_;
    } else {
      Digits();
    }
    bool whole = true;
    if (Peek() == '.') {
      whole = false;
      ++at_;
      if (!absl::ascii_isdigit(Peek())) return Fail("expected a digit");
      Digits();
    }
    if (Peek() == 'e' || Peek() == 'E') {
      whole = false;
      ++at_;
      if (Peek() == '+' || Peek() == '-') ++at_;
      if (!absl::ascii_isdigit(Peek())) return Fail("expected a digit");
      Digits();
    }
    Put(NumberOf(text_.substr(begin, at_ - begin), whole));
  }
  void Digits() {
    while (absl::ascii_isdigit(Peek())) ++at_;
  }
  // A whole number of 64 bits stays one; any other is the nearest double.
  Json NumberOf(std::string_view digits, bool whole) {
    const char *first = digits.data(), *last = first + digits.size();
    int64_t negative = 0;
    uint64_t positive = 0;
    if (whole && *first == '-' && std::from_chars(first, last, negative).ec == std::errc()) return negative;
    if (whole && *first != '-' && std::from_chars(first, last, positive).ec == std::errc()) return positive;
    double real = 0;
    if (!absl::SimpleAtod(absl::string_view(first, digits.size()), &real) || !std::isfinite(real)) out_of_range_ = true;
    return real;
  }

  std::string String() {
    std::string out;
    size_t begin = ++at_;  // of what stands for itself
    while (fault_ == nullptr) {
      const unsigned char c = Peek();
      if (AtEnd()) {
        Fail("unterminated string");
      } else if (c == '"') {
        out.append(text_, begin, at_++ - begin);
        return out;
      } else if (c < 0x20) {
        Fail("control character in a string");
      } else if (c == '\\') {
        out.append(text_, begin, at_ - begin);
        Escape(&out);
        begin = at_;
      } else if (c < 0x80) {
        ++at_;
      } else {
        const size_t bytes = CharacterBytes(text_.substr(at_));
        if (bytes == 0) Fail("invalid UTF-8");
        at_ += bytes;
      }
    }
    return out;
  }

  void Escape(std::string* out) {
    constexpr std::string_view kNames = "\"\\/bfnrt", kMeant = "\"\\/\b\f\n\r\t";
    ++at_;
    const char c = Peek();
    if (c != 'u') {
      const size_t which = AtEnd() ? std::string_view::npos : kNames.find(c);
      if (which == std::string_view::npos) return Fail("invalid escape");
      *out += kMeant[which];
      ++at_;
      return;
    }
    const int unit = Unit();
    if (unit < 0) return Fail("invalid \\u escape");
    if (unit >= 0xDC00 && unit <= 0xDFFF) return Fail("lone surrogate");
    if (unit < 0xD800 || unit > 0xDBFF) {
      *out += Utf8(static_cast<char32_t>(unit));
      return;
    }
    if (Peek() != '\\' || Peek(1) != 'u') return Fail("lone surrogate");
    ++at_;
    const int low = Unit();
    if (low < 0xDC00 || low > 0xDFFF) return Fail("lone surrogate");
    *out += Utf8(static_cast<char32_t>(0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00)));
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
  std::vector<Json*> open_;  // arrays and objects, the innermost last
  std::string key_;          // of the value that is read next
  std::string member_;       // of the outermost object, likewise
  size_t begin_ = 0;         // where its text begins
  JsonDocument document_;
  const char* fault_ = nullptr;
  bool too_deep_ = false, out_of_range_ = false;
};

}  // namespace

absl::StatusOr<JsonDocument> ReadJson(std::string_view text, const JsonLimits& limits) {
  return Reader(text, limits).Run();
}

}  // namespace pangea
