#include "configs/command_line.h"

#include <algorithm>
#include <charconv>
#include <iostream>
#include <string_view>
#include <type_traits>

#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "configs/cat.h"
#include "configs/values.h"

namespace pangea {
namespace {

constexpr size_t kColumns = 80;

template <typename T>
struct ValueOf {
  using Type = T;
};
template <typename T>
struct ValueOf<std::optional<T>> {
  using Type = T;
};

std::string RangeText(CommandLine::Range range) { return absl::StrFormat("%.15g to %.15g", range.min, range.max); }

// Words of the text, in lines that end at kColumns; each but the first is indented.
void Wrap(std::string_view text, size_t indent, std::string* out) {
  size_t column = indent;
  bool first = true;
  for (const std::string& word : std::vector<std::string>(absl::StrSplit(std::string(text), ' '))) {
    if (!first && column + 1 + word.size() > kColumns) {
      Append(*out, "\n", std::string(indent, ' '));
      column = indent;
    } else if (!first) {
      *out += ' ';
      ++column;
    }
    *out += word;
    column += word.size();
    first = false;
  }
  *out += '\n';
}

}  // namespace

void CommandLine::Switch(std::string name, std::string help, bool* out) {
  rows_.push_back({Kind::kSwitch, std::move(name), "", std::move(help),
                   [out](const std::string&) { return *out = true, absl::OkStatus(); }});
}
void CommandLine::Text(std::string name, std::string placeholder, std::string help, std::string* out) {
  Value(std::move(name), std::move(placeholder), std::move(help),
        [out](const std::string& text) { return *out = text, absl::OkStatus(); });
}
void CommandLine::List(std::string name, std::string placeholder, std::string help, std::vector<std::string>* out) {
  Value(
      std::move(name), std::move(placeholder), std::move(help),
      [out](const std::string& text) { return out->push_back(text), absl::OkStatus(); }, /*repeats=*/true);
}
void CommandLine::Choice(std::string name, std::string choices, std::string help, std::string* out) {
  const std::vector<std::string> list = absl::StrSplit(choices, ", ");
  std::string shown = list[0];
  for (size_t i = 1; i < list.size(); ++i) Append(shown, "|", list[i]);
  Value(std::move(name), std::move(shown), std::move(help), [=](const std::string& text) -> absl::Status {
    *out = text;
    if (std::find(list.begin(), list.end(), text) != list.end()) return absl::OkStatus();
    return absl::InvalidArgumentError(Cat("expected one of ", choices, ", not \"", Printable(text), "\""));
  });
}
void CommandLine::Value(std::string name, std::string placeholder, std::string help, Setter set, bool repeats) {
  rows_.push_back(
      {repeats ? Kind::kList : Kind::kValue, std::move(name), std::move(placeholder), std::move(help), std::move(set)});
}
void CommandLine::Word(std::string name, std::string help) {
  rows_.push_back({Kind::kWord, std::move(name), "", std::move(help)});
}
void CommandLine::Heading(std::string text) { rows_.push_back({Kind::kHeading, "", "", std::move(text)}); }

template <typename T>
void CommandLine::Number(std::string name, std::string help, Range range, T* out) {
  using Type = typename ValueOf<T>::Type;
  constexpr bool whole = std::is_integral_v<Type>;
  Value(std::move(name), whole ? "N" : "X", Cat(help, " (", RangeText(range), ")"),
        [=](const std::string& text) -> absl::Status {
          Type value = 0;
          const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
          // A comparison with NaN is false, so this refuses it too.
          if (error == std::errc() && end == text.data() + text.size() && value >= range.min && value <= range.max)
            return *out = value, absl::OkStatus();
          return absl::InvalidArgumentError(Cat("expected a ", whole ? "whole " : "", "number from ", RangeText(range),
                                                ", not \"", Printable(text), "\""));
        });
}
template void CommandLine::Number(std::string, std::string, Range, int*);
template void CommandLine::Number(std::string, std::string, Range, int64_t*);
template void CommandLine::Number(std::string, std::string, Range, uint64_t*);
template void CommandLine::Number(std::string, std::string, Range, double*);
template void CommandLine::Number(std::string, std::string, Range, std::optional<int64_t>*);
template void CommandLine::Number(std::string, std::string, Range, std::optional<double>*);

// With the nearest option, when it is near.
std::string CommandLine::Unknown(const std::string& name) const {
  std::vector<std::string> names = {"--help"};
  for (const Row& row : rows_) {
    if (row.option() && !row.help.empty()) names.push_back(row.name);
  }
  std::string nearest = Nearest(name, names);
  for (const std::string& known : names) {
    if (name.size() > 3 && known.starts_with(name)) nearest = known;
  }
  const bool near = (name.size() > 3 && nearest.starts_with(name)) ||
                    3 * EditDistance(name, nearest) <= static_cast<int>(name.size());
  return Cat("unknown option ", Printable(name), near ? Cat("; did you mean ", nearest, "?") : "; see --help");
}

// value: null when there is none.
absl::Status CommandLine::Take(Row& row, const std::string* value) {
  if (row.kind != Kind::kSwitch && (value == nullptr || value->empty()))
    return absl::InvalidArgumentError(row.name + " needs a value; see --help");
  if (row.kind == Kind::kSwitch && value != nullptr)
    return absl::InvalidArgumentError(row.name + " takes no value; see --help");
  if (row.given && row.kind != Kind::kList) return absl::InvalidArgumentError(row.name + " is given twice");
  row.given = true;
  const absl::Status set = row.set(value == nullptr ? "" : *value);
  return set.ok() ? set : absl::InvalidArgumentError(Cat(row.name, ": ", set.message()));
}

absl::StatusOr<std::vector<std::string>> CommandLine::Parse(int argc, const char* const* argv) {
  std::vector<std::string> words;
  bool options_ended = false;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (options_ended || word == "-" || !word.starts_with("-")) {
      words.push_back(word);
      continue;
    }
    if (word == "--") {
      options_ended = true;
      continue;
    }
    if (word == "--help" || word == "-h") {
      help_ = true;
      return words;
    }
    const size_t equals = word.find('=');
    const std::string name = word.substr(0, equals);
    const auto row =
        std::find_if(rows_.begin(), rows_.end(), [&](const Row& r) { return r.option() && r.name == name; });
    if (row == rows_.end()) return absl::InvalidArgumentError(Unknown(name));
    std::optional<std::string> value;
    if (equals != std::string::npos) {
      value = word.substr(equals + 1);
    } else if (row->kind != Kind::kSwitch && i + 1 < argc) {
      value = argv[++i];
    }
    if (absl::Status s = Take(*row, value ? &*value : nullptr); !s.ok()) return s;
  }
  return words;
}

absl::StatusOr<std::vector<std::string>> CommandLine::Parse(int argc, const char* const* argv, size_t most_words) {
  auto words = Parse(argc, argv);
  if (!words.ok() || help_ || words->size() <= most_words) return words;
  return absl::InvalidArgumentError(Cat("unexpected \"", Printable((*words)[most_words]), "\"; see --help"));
}

bool CommandLine::given(const std::string& name) const {
  return std::any_of(rows_.begin(), rows_.end(), [&](const Row& row) { return row.given && row.name == name; });
}

std::string CommandLine::Help() const {
  std::string out = Cat("Usage: pangea ", name_, words_.empty() ? "" : " ", words_, "\n\n", intro_, "\n\n");
  std::vector<Row> rows = rows_;
  rows.push_back({Kind::kSwitch, "--help", "", "this text"});
  const auto left = [](const Row& row) { return Cat(row.name, row.placeholder.empty() ? "" : " ", row.placeholder); };
  size_t width = 0;
  for (const Row& row : rows) width = std::max(width, row.help.empty() ? 0 : left(row).size());
  for (const Row& row : rows) {
    if (row.kind == Kind::kHeading) {
      Append(out, row.help, "\n");
    } else if (!row.help.empty()) {
      const std::string name = left(row);
      Append(out, "  ", name, std::string(width + 2 - name.size(), ' '));
      Wrap(row.help, width + 4, &out);
    }
  }
  return out;
}

std::optional<int> CommandLine::Exit(const absl::Status& parsed) const {
  if (!parsed.ok()) {
    std::cerr << "pangea " << name_ << ": " << parsed.message() << "\n";
    return kUsageExitCode;
  }
  if (!help_) return std::nullopt;
  std::cout << Help() << std::flush;
  return 0;
}

}  // namespace pangea
