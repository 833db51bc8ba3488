#include "configs/keys.h"

#include <cmath>

#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "configs/cat.h"
#include "configs/device.h"
#include "configs/values.h"

namespace pangea {
namespace {

template <typename T>
absl::Status Store(absl::StatusOr<T> value, T* field) {
  if (!value.ok()) return value.status();
  *field = *value;
  return absl::OkStatus();
}

std::string FormatLimit(const ConfigKey& key, double limit) {
  if (key.kind == KeyKind::kBytes) return FormatBytes(static_cast<uint64_t>(limit));
  return FormatSeconds(limit);
}

std::string CheckRange(const ConfigKey& key, double value) {
  if (value >= key.min && value <= key.max) return "";
  return Cat("must be ", RangeText(key));
}

constexpr char kAuto[] = "auto";

absl::Status SetOptional(const ConfigKey& key, const std::string& text, std::optional<double>* field) {
  field->reset();
  if (text == kAuto) return absl::OkStatus();
  const bool negative = text.starts_with("-");
  const auto number = ParseNumber(negative ? text.substr(1) : text);
  const bool whole = key.kind == KeyKind::kOptionalInteger;
  if (!number.ok() || (whole && *number != std::floor(*number)))
    return absl::InvalidArgumentError(Cat("expected auto or a ", whole ? "whole " : "", "number"));
  *field = negative ? -*number : *number;
  return absl::OkStatus();
}

std::string CheckText(const ConfigKey& key, const std::string& text) {
  // Agents and clients are told names and paths as UTF-8 text.
  if (!WellFormedUtf8(text)) return Cat("\"", Printable(text), "\" is not UTF-8");
  for (unsigned char c : text) {
    if (c < 0x20 || c == 0x7F) return "has a control character in it";
  }
  if (text.size() > 4096) return "is longer than 4096 bytes";
  if (key.kind == KeyKind::kAddress) {
    const auto parsed = ParseHostPort(text);
    if (!parsed.ok()) return std::string(parsed.status().message());
  }
  if (key.kind == KeyKind::kChoice) {
    for (const std::string& choice : std::vector<std::string>(absl::StrSplit(std::string(key.choices), ", "))) {
      if (text == choice) return "";
    }
    if (key.name == "agents.device" && GpuOf(text) >= 0) return "";
    return Cat(QuoteYaml(text), " is none of ", key.choices);
  }
  return "";
}

}  // namespace

const ConfigKey* FindKey(std::string_view name) {
  for (const ConfigKey& key : ConfigKeys()) {
    if (key.name == name) return &key;
  }
  return nullptr;
}

bool IsSection(std::string_view name) {
  for (const ConfigKey& key : ConfigKeys()) {
    if (!name.empty() && key.section() == name) return true;
  }
  return false;
}

std::vector<std::string> KeyNames() {
  std::vector<std::string> names;
  for (const ConfigKey& key : ConfigKeys()) names.emplace_back(key.name);
  return names;
}

absl::Status SetKey(const ConfigKey& key, const std::string& text, bool quoted, KeyField field) {
  if (quoted && (key.kind == KeyKind::kInteger || key.kind == KeyKind::kBoolean)) {
    return absl::InvalidArgumentError(key.kind == KeyKind::kInteger ? "expected a whole number, without quotes"
                                                                    : "expected true or false, without quotes");
  }
  switch (key.kind) {
    case KeyKind::kText:
    case KeyKind::kChoice:
    case KeyKind::kAddress:
      if (!quoted && (text == "true" || text == "false"))
        return absl::InvalidArgumentError("expected text, not true or false");
      *std::get<std::string*>(field) = text;
      return absl::OkStatus();
    case KeyKind::kTexts:
      std::get<std::vector<std::string>*>(field)->push_back(text);
      return absl::OkStatus();
    case KeyKind::kInteger: {
      auto value = ParseInteger(text);
      if (!value.ok()) return value.status();
      if (*value < key.min || *value > key.max) return absl::OutOfRangeError(Cat("must be ", RangeText(key)));
      *std::get<int*>(field) = static_cast<int>(*value);
      return absl::OkStatus();
    }
    case KeyKind::kBytes:
      return Store(ParseBytes(text), std::get<uint64_t*>(field));
    case KeyKind::kSeconds:
      return Store(ParseSeconds(text), std::get<double*>(field));
    case KeyKind::kNumber:
      return Store(ParseNumber(text), std::get<double*>(field));
    case KeyKind::kOptionalNumber:
    case KeyKind::kOptionalInteger:
      return SetOptional(key, text, std::get<std::optional<double>*>(field));
    case KeyKind::kBoolean:
      return Store(ParseBoolean(text), std::get<bool*>(field));
  }
  return absl::InternalError("key kind");
}

std::string GetKey(const ConfigKey& key, KeyField field) {
  switch (key.kind) {
    case KeyKind::kText:
    case KeyKind::kAddress:
      return QuoteYaml(*std::get<std::string*>(field));
    case KeyKind::kTexts: {
      std::string list;
      for (const std::string& text : *std::get<std::vector<std::string>*>(field))
        Append(list, list.empty() ? "" : ", ", QuoteYaml(text));
      return Cat("[", list, "]");
    }
    case KeyKind::kChoice:
      return *std::get<std::string*>(field);
    case KeyKind::kInteger:
      return Cat(*std::get<int*>(field));
    case KeyKind::kBytes:
      return FormatBytes(*std::get<uint64_t*>(field));
    case KeyKind::kSeconds:
    case KeyKind::kNumber:
      return FormatSeconds(*std::get<double*>(field));
    case KeyKind::kOptionalNumber:
    case KeyKind::kOptionalInteger: {
      const std::optional<double>& value = *std::get<std::optional<double>*>(field);
      return value ? FormatSeconds(*value) : kAuto;
    }
    case KeyKind::kBoolean:
      return *std::get<bool*>(field) ? "true" : "false";
  }
  return "";
}

std::string CheckKey(const ConfigKey& key, KeyField field) {
  if (auto* text = std::get_if<std::string*>(&field)) return CheckText(key, **text);
  if (auto* list = std::get_if<std::vector<std::string>*>(&field)) {
    for (const std::string& text : **list) {
      if (std::string what = CheckText(key, text); !what.empty()) return what;
    }
  }
  if (auto* integer = std::get_if<int*>(&field)) return CheckRange(key, **integer);
  if (auto* bytes = std::get_if<uint64_t*>(&field)) return CheckRange(key, static_cast<double>(**bytes));
  if (auto* seconds = std::get_if<double*>(&field)) return CheckRange(key, **seconds);
  if (auto* optional = std::get_if<std::optional<double>*>(&field))
    return **optional ? CheckRange(key, ***optional) : "";
  return "";
}

std::string RangeText(const ConfigKey& key) {
  const bool optional = key.kind == KeyKind::kOptionalNumber || key.kind == KeyKind::kOptionalInteger;
  switch (key.kind) {
    case KeyKind::kText:
      return "text";
    case KeyKind::kTexts:
      return "a list of texts";
    case KeyKind::kAddress:
      return "HOST:PORT";
    case KeyKind::kBoolean:
      return "true or false";
    case KeyKind::kChoice:
      return std::string(key.choices);
    default:
      return Cat(optional ? "auto, or " : "", FormatLimit(key, key.min), " to ", FormatLimit(key, key.max),
                 key.kind == KeyKind::kSeconds ? " seconds" : "");
  }
}

std::string ReferenceRow(const ConfigKey& key) {
  Deployment defaults;
  std::string value =
      key.name == "model" ? "none: must be given" : Cat("`", GetKey(key, key.field(defaults, defaults.agents)), "`");
  return Cat("| `", key.name, "` | ", value, " | ", RangeText(key), " | ", key.doc, " |");
}

}  // namespace pangea
