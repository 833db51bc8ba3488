#include "clients/flags.h"

#include <charconv>
#include <cmath>

#include "absl/strings/str_format.h"

namespace pangea::clients {
namespace {

absl::StatusOr<int64_t> ToInteger(const std::string& text, Flags::Range range) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty() || value < range.min ||
      value > range.max) {
    return absl::InvalidArgumentError(
        absl::StrFormat("expected a whole number from %.15g to %.15g, not \"%s\"", range.min, range.max, text));
  }
  return value;
}

absl::StatusOr<double> ToReal(const std::string& text, Flags::Range range) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  // A comparison with NaN is false, so this refuses it too.
  if (error != std::errc() || end != text.data() + text.size() || !(value >= range.min && value <= range.max)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("expected a number from %.15g to %.15g, not \"%s\"", range.min, range.max, text));
  }
  return value;
}

std::string WithRange(const std::string& help, Flags::Range range) {
  return absl::StrFormat("%s (%.15g to %.15g)", help, range.min, range.max);
}

template <typename Out, typename Convert>
std::function<absl::Status(const std::string&)> Setter(Convert convert, Flags::Range range, Out* out) {
  return [=](const std::string& text) -> absl::Status {
    auto value = convert(text, range);
    if (!value.ok()) return value.status();
    *out = *value;
    return absl::OkStatus();
  };
}

}  // namespace

void Flags::Switch(std::string name, std::string help, bool* out) {
  flags_.push_back(
      {std::move(name), "", std::move(help), [out](const std::string&) { return *out = true, absl::OkStatus(); }});
}
void Flags::Text(std::string name, std::string placeholder, std::string help, std::string* out) {
  flags_.push_back({std::move(name), std::move(placeholder), std::move(help),
                    [out](const std::string& text) { return *out = text, absl::OkStatus(); }});
}
void Flags::List(std::string name, std::string placeholder, std::string help, std::vector<std::string>* out) {
  flags_.push_back({std::move(name), std::move(placeholder), std::move(help),
                    [out](const std::string& text) { return out->push_back(text), absl::OkStatus(); }});
}
void Flags::Integer(std::string name, std::string help, Range range, int64_t* out) {
  flags_.push_back({std::move(name), "N", WithRange(help, range), Setter(ToInteger, range, out)});
}
void Flags::Integer(std::string name, std::string help, Range range, std::optional<int64_t>* out) {
  flags_.push_back({std::move(name), "N", WithRange(help, range), Setter(ToInteger, range, out)});
}
void Flags::Real(std::string name, std::string help, Range range, double* out) {
  flags_.push_back({std::move(name), "X", WithRange(help, range), Setter(ToReal, range, out)});
}
void Flags::Real(std::string name, std::string help, Range range, std::optional<double>* out) {
  flags_.push_back({std::move(name), "X", WithRange(help, range), Setter(ToReal, range, out)});
}

absl::StatusOr<std::vector<std::string>> Flags::Parse(int argc, const char* const* argv) {
  std::vector<std::string> positional;
  bool flags_ended = false;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (flags_ended || word == "-" || !word.starts_with("-")) {
      positional.push_back(word);
      continue;
    }
    if (word == "--") {
      flags_ended = true;
      continue;
    }
    if (word == "--help" || word == "-h") {
      help_ = true;
      return positional;
    }
    const size_t equals = word.find('=');
    const std::string name = word.substr(0, equals);
    const Flag* flag = nullptr;
    for (const Flag& f : flags_) {
      if (f.name == name) flag = &f;
    }
    if (flag == nullptr) return absl::InvalidArgumentError("unknown option " + name + "; see --help");
    std::string value;
    if (flag->placeholder.empty()) {
      if (equals != std::string::npos) return absl::InvalidArgumentError(name + " takes no value; see --help");
    } else if (equals != std::string::npos) {
      value = word.substr(equals + 1);
    } else if (++i < argc) {
      value = argv[i];
    } else {
      return absl::InvalidArgumentError(name + " needs a value; see --help");
    }
    const absl::Status status = flag->set(value);
    if (!status.ok()) return absl::InvalidArgumentError(name + ": " + std::string(status.message()));
  }
  return positional;
}

std::string Flags::Help() const {
  std::string out = "Usage: " + usage_ + "\n\n" + intro_ + "\n\n";
  auto line = [&](const std::string& left, const std::string& help) {
    out += absl::StrFormat("  %-26s %s\n", left, help);
  };
  for (const Flag& flag : flags_) line(flag.name + (flag.placeholder.empty() ? "" : " " + flag.placeholder), flag.help);
  line("--help", "this text");
  return out;
}

}  // namespace pangea::clients
