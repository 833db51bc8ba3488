#include "pipeline/checkpoint/fields.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace pangea {
namespace {

using nlohmann::json;

// Deepest nesting of brackets outside strings; the parser is only asked when this is small.
int Depth(std::string_view text) {
  int depth = 0, deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      deepest = std::max(deepest, ++depth);
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return deepest;
}

std::string First(Fields::Names names) { return *names.begin(); }

}  // namespace

std::string QuoteNonNumbers(std::string_view text) {
  std::string out;
  bool in_string = false;
  for (size_t i = 0; i < text.size();) {
    size_t length = 1;
    if (text[i] == '"') in_string = !in_string;
    if (in_string && text[i] == '\\') length = std::min<size_t>(2, text.size() - i);
    for (const std::string_view word : {"NaN", "Infinity", "-Infinity"}) {
      if (!in_string && text.substr(i).starts_with(word)) length = word.size();
    }
    const std::string_view part = text.substr(i, length);
    const bool quote = !in_string && length > 2;
    out.append(quote ? "\"" : "").append(part).append(quote ? "\"" : "");
    i += length;
  }
  return out;
}

absl::Status CheckDepth(std::string_view text, const std::string& what, int max_depth) {
  const int depth = Depth(text);
  if (depth <= max_depth) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(what, ": nested ", depth, " deep, at most ", max_depth));
}

absl::StatusOr<json> ParseJson(std::string_view text, const std::string& what, int max_depth) {
  if (const absl::Status shallow = CheckDepth(text, what, max_depth); !shallow.ok()) return shallow;
  std::vector<std::set<std::string>> open;
  std::string twice;
  const json::parser_callback_t watch = [&](int, json::parse_event_t event, json& value) {
    if (event == json::parse_event_t::object_start) {
      open.emplace_back();
    } else if (event == json::parse_event_t::object_end) {
      open.pop_back();
    } else if (event == json::parse_event_t::key) {
      const auto& key = value.get_ref<const std::string&>();
      if (!open.back().insert(key).second && twice.empty()) twice = key;
    }
    return true;
  };
  std::string quoted;
  if (text.find("NaN") != text.npos || text.find("Infinity") != text.npos) text = quoted = QuoteNonNumbers(text);
  json parsed = json::parse(text.begin(), text.end(), watch, /*allow_exceptions=*/false);
  if (parsed.is_discarded()) return absl::InvalidArgumentError(absl::StrCat(what, ": not valid JSON"));
  if (!twice.empty())
    return absl::InvalidArgumentError(absl::StrCat(what, ": the name \"", twice.substr(0, 200), "\" occurs twice"));
  return parsed;
}

Fields::Fields(const json& object, std::string where, std::vector<std::string>* faults)
    : object_(object), where_(std::move(where)), faults_(faults) {}

const json* Fields::Find(Names names, std::string* found) const {
  if (!object_.is_object()) return nullptr;
  for (const char* name : names) {
    const auto it = object_.find(name);
    if (it == object_.end() || it->is_null()) continue;
    if (found != nullptr) *found = name;
    return &*it;
  }
  return nullptr;
}

void Fields::Fault(const std::string& field, const std::string& what) {
  faults_->push_back(absl::StrCat(where_, ": ", field, ": ", what));
}

std::string Fields::Shown(const json& value) const {
  if (value.is_array()) return "an array";
  if (value.is_object()) return "an object";
  std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  if (text.size() > 80) text = text.substr(0, 80) + "…";
  return text;
}

int64_t Fields::Int(Names names, int64_t low, int64_t high, std::optional<int64_t> fallback) {
  std::string name = First(names);
  const json* value = Find(names, &name);
  if (value == nullptr) {
    if (fallback) return *fallback;
    Fault(name, "is missing");
    return low;
  }
  const bool fits = value->is_number_unsigned()
                        ? value->get<uint64_t>() <= static_cast<uint64_t>(std::max<int64_t>(high, 0))
                        : value->is_number_integer();
  if (value->is_number_integer() && fits && value->get<int64_t>() >= low && value->get<int64_t>() <= high) {
    return value->get<int64_t>();
  }
  Fault(name, absl::StrCat("is ", Shown(*value), ", must be a whole number from ", low, " to ", high));
  return low;
}

double Fields::Real(Names names, double above, double at_most, std::optional<double> fallback) {
  std::string name = First(names);
  const json* value = Find(names, &name);
  if (value == nullptr) {
    if (fallback) return *fallback;
    Fault(name, "is missing");
    return 1;
  }
  if (value->is_number()) {
    const double number = value->get<double>();
    if (std::isfinite(number) && number > above && number <= at_most) return number;
  }
  Fault(name, absl::StrCat("is ", Shown(*value), ", must be a number above ", above, " and at most ", at_most));
  return 1;
}

bool Fields::Bool(Names names, std::optional<bool> fallback) {
  std::string name = First(names);
  const json* value = Find(names, &name);
  if (value == nullptr) {
    if (fallback) return *fallback;
    Fault(name, "is missing");
    return false;
  }
  if (value->is_boolean()) return value->get<bool>();
  Fault(name, absl::StrCat("is ", Shown(*value), ", must be true or false"));
  return false;
}

std::string Fields::String(Names names, std::optional<std::string> fallback) {
  std::string name = First(names);
  const json* value = Find(names, &name);
  if (value == nullptr) {
    if (fallback) return *fallback;
    Fault(name, "is missing");
    return "";
  }
  if (value->is_string()) return value->get<std::string>();
  Fault(name, absl::StrCat("is ", Shown(*value), ", must be a string"));
  return "";
}

absl::Status FaultsToStatus(const std::vector<std::string>& faults) {
  if (faults.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrJoin(faults, "\n"));
}

}  // namespace pangea
