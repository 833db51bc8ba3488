#include "configs/values.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "configs/cat.h"

namespace pangea {
namespace {

struct Unit {
  std::string_view name;
  uint64_t factor;
};
// Largest binary unit first: FormatBytes takes the first that divides.
constexpr Unit kByteUnits[] = {{"TiB", 1ull << 40},
                               {"GiB", 1ull << 30},
                               {"MiB", 1ull << 20},
                               {"KiB", 1ull << 10},
                               {"TB", 1000000000000ull},
                               {"GB", 1000000000},
                               {"MB", 1000000},
                               {"KB", 1000},
                               {"B", 1}};

// A plain decimal: digits, at most one point, no sign, no exponent. The unit is what follows.
bool SplitNumber(std::string_view text, std::string_view& number, std::string_view& unit) {
  size_t i = 0, points = 0;
  while (i < text.size() && (absl::ascii_isdigit(text[i]) || text[i] == '.')) points += text[i++] == '.';
  number = text.substr(0, i);
  unit = text.substr(i);
  while (!unit.empty() && unit.front() == ' ') unit.remove_prefix(1);
  return points <= 1 && !number.empty() && number.front() != '.' && number.back() != '.' && number.size() <= 32;
}

double ToDouble(std::string_view number) {
  double value = 0;
  std::from_chars(number.data(), number.data() + number.size(), value);
  return value;
}

}  // namespace

absl::StatusOr<int64_t> ParseInteger(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::result_out_of_range) return absl::InvalidArgumentError("too large a number");
  if (error != std::errc() || end != text.data() + text.size())
    return absl::InvalidArgumentError("expected a whole number");
  return value;
}

absl::StatusOr<bool> ParseBoolean(std::string_view text) {
  if (text == "true") return true;
  if (text == "false") return false;
  return absl::InvalidArgumentError("expected true or false");
}

absl::StatusOr<uint64_t> ParseBytes(std::string_view text) {
  std::string_view number, name;
  const absl::Status expected = absl::InvalidArgumentError("expected bytes, such as 268435456, 256MiB or 1GB");
  if (!SplitNumber(text, number, name)) return expected;
  uint64_t factor = name.empty() ? 1 : 0;
  for (const Unit& unit : kByteUnits) {
    if (absl::EqualsIgnoreCase(std::string(name), std::string(unit.name))) factor = unit.factor;
  }
  if (factor == 0) return expected;
  if (number.find('.') != std::string_view::npos) {
    const double bytes = ToDouble(number) * static_cast<double>(factor);
    if (bytes >= 0x1p63) return absl::InvalidArgumentError("too large a number");
    if (bytes != std::floor(bytes)) return absl::InvalidArgumentError("not a whole number of bytes");
    return static_cast<uint64_t>(bytes);
  }
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
  uint64_t bytes = 0;
  if (error != std::errc() || __builtin_mul_overflow(value, factor, &bytes) || bytes >= 1ull << 63) {
    return absl::InvalidArgumentError("too large a number");
  }
  return bytes;
}

absl::StatusOr<double> ParseNumber(std::string_view text) {
  if (text.empty() || text.find_first_not_of("0123456789.") != text.npos)
    return absl::InvalidArgumentError("expected a number, such as 2 or 1.5");
  return ParseSeconds(text);
}

absl::StatusOr<double> ParseSeconds(std::string_view text) {
  std::string_view number, name;
  const absl::Status expected = absl::InvalidArgumentError("expected seconds, such as 30, 0.5, 30s or 500ms");
  if (!SplitNumber(text, number, name)) return expected;
  const double value = ToDouble(number);
  if (name.empty() || name == "s") return value;
  if (name == "ms") return value / 1000;
  if (name == "us") return value / 1e6;
  if (name == "m") return value * 60;
  if (name == "h") return value * 3600;
  return expected;
}

std::string FormatBytes(uint64_t bytes) {
  for (const Unit& unit : kByteUnits) {
    if (bytes != 0 && unit.name.size() == 3 && bytes % unit.factor == 0) return Cat(bytes / unit.factor, unit.name);
  }
  return Cat(bytes);
}

std::string FormatSeconds(double seconds) {
  char buffer[400];
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof(buffer), seconds, std::chars_format::fixed);
  return error == std::errc() ? std::string(buffer, end) : "0";
}

std::string QuoteYaml(std::string_view text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
      constexpr char kHex[] = "0123456789abcdef";
      Append(out, "\\x", std::string(1, kHex[(c >> 4) & 15]), std::string(1, kHex[c & 15]));
    } else {
      out += c;
    }
  }
  return out + "\"";
}

size_t Utf8Length(std::string_view s) {
  auto byte = [&](size_t i) { return i < s.size() ? static_cast<unsigned char>(s[i]) : 0u; };
  auto tail = [&](size_t i) { return (byte(i) & 0xC0) == 0x80; };
  const unsigned a = byte(0), b = byte(1);
  if (a < 0x80) return 1;
  if (a >= 0xC2 && a < 0xE0) return tail(1) ? 2 : 0;
  if (a >= 0xE0 && a < 0xF0) {
    if (!tail(1) || !tail(2) || (a == 0xE0 && b < 0xA0) || (a == 0xED && b >= 0xA0)) return 0;
    return 3;
  }
  if (a >= 0xF0 && a < 0xF5) {
    if (!tail(1) || !tail(2) || !tail(3) || (a == 0xF0 && b < 0x90) || (a == 0xF4 && b >= 0x90)) return 0;
    return 4;
  }
  return 0;
}

bool WellFormedUtf8(std::string_view text) {
  for (size_t length; !text.empty(); text.remove_prefix(length)) {
    if ((length = Utf8Length(text)) == 0) return false;
  }
  return true;
}

std::string Printable(std::string_view text) {
  std::string out;
  for (size_t bytes; !text.empty(); text.remove_prefix(bytes)) {
    const size_t length = Utf8Length(text);
    bytes = std::max<size_t>(length, 1);
    uint32_t code = static_cast<unsigned char>(text[0]) & (0xFFu >> (length > 1 ? length + 1 : 0));
    for (size_t i = 1; i < length; ++i) code = code << 6 | (static_cast<unsigned char>(text[i]) & 0x3F);
    const auto within = [&](uint32_t first, uint32_t last) { return code >= first && code <= last; };
    if (length == 0 || within(0, 0x1F) || within(0x7F, 0x9F) || code == 0x61C || within(0x200E, 0x200F) ||
        within(0x2028, 0x202E) || within(0x2066, 0x2069)) {
      for (size_t i = 0; i < bytes; ++i) out += absl::StrFormat("\\x%02x", static_cast<unsigned char>(text[i]));
    } else {
      out += text.substr(0, bytes);
    }
  }
  return out;
}

absl::StatusOr<std::string> ExpandEnvironment(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '$' || i + 1 == text.size()) {
      out += text[i];
      continue;
    }
    if (text[i + 1] == '$') {
      out += '$';
      ++i;
      continue;
    }
    if (text[i + 1] != '{') {
      out += '$';
      continue;
    }
    const size_t end = text.find('}', i);
    if (end == std::string_view::npos)
      return absl::InvalidArgumentError("\"${\" without \"}\"; a literal $ is written $$");
    const std::string name(text.substr(i + 2, end - i - 2));
    const bool valid = !name.empty() && !absl::ascii_isdigit(name[0]) &&
                       std::all_of(name.begin(), name.end(), [](char c) { return absl::ascii_isalnum(c) || c == '_'; });
    if (!valid)
      return absl::InvalidArgumentError(
          Cat("\"${", name, "}\" is no name of an environment variable; a literal $ is written $$"));
    const char* value = std::getenv(name.c_str());
    if (value == nullptr) return absl::NotFoundError(Cat("the environment variable ", name, " is not set"));
    out += value;
    i = end;
  }
  return out;
}

int EditDistance(std::string_view a, std::string_view b) {
  a = a.substr(0, 64), b = b.substr(0, 64);
  std::vector<int> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = static_cast<int>(j);
  for (size_t i = 0; i < a.size(); ++i) {
    int diagonal = row[0]++;
    for (size_t j = 0; j < b.size(); ++j) {
      const int change = diagonal + (a[i] != b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({change, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row[b.size()];
}

std::string Nearest(std::string_view name, const std::vector<std::string>& candidates) {
  const std::string_view last = name.substr(name.rfind('.') + 1);
  std::pair<int, int> best{1 << 20, 0};
  std::string nearest;
  for (const std::string& candidate : candidates) {
    const std::string_view tail = std::string_view(candidate).substr(candidate.rfind('.') + 1);
    const int whole = EditDistance(name, candidate);
    const int tails = EditDistance(last, tail);  // "memory" is near to "cache.memory"; but "x" is not to "limits.n"
    const std::pair<int, int> score{2 * tails <= static_cast<int>(tail.size()) ? std::min(whole, tails) : whole, whole};
    if (score < best) best = score, nearest = candidate;
  }
  return nearest;
}

}  // namespace pangea
