// The one table of keys of a deployment file: what drives reading, dumping, validation, the nearest name in an error,
// the settings list of `pangea serve --help` and the reference page.
#pragma once
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "configs/deployment.h"

namespace pangea {

enum class KeyKind : uint8_t {
  kText,
  kTexts,
  kChoice,
  kInteger,
  kBytes,
  kSeconds,
  kNumber,
  kOptionalNumber,   // or `auto`: nothing is said
  kOptionalInteger,  // likewise
  kBoolean,
  kAddress
};

using KeyField =
    std::variant<std::string*, std::vector<std::string>*, int*, uint64_t*, double*, std::optional<double>*, bool*>;

struct ConfigKey {
  std::string_view name;  // "cache.memory"; for agents "agents.threads", in both forms of `agents`
  KeyKind kind;
  KeyField (*field)(Deployment&, AgentConfig&);           // agents.* look at the second, all others at the first
  double min = 0, max = std::numeric_limits<int>::max();  // of numbers
  std::string_view choices = {};                          // kChoice: "a, b"
  std::string_view doc;

  bool per_agent() const { return name.starts_with("agents."); }
  std::string_view section() const {
    return name.find('.') == name.npos ? std::string_view() : name.substr(0, name.find('.'));
  }
  std::string_view last() const { return name.substr(name.rfind('.') + 1); }
};

std::span<const ConfigKey> ConfigKeys();
std::span<const ConfigKey> ServiceKeys();  // the second half of them  // in the order of the reference page
const ConfigKey* FindKey(std::string_view name);
bool IsSection(std::string_view name);
std::vector<std::string> KeyNames();

// Text of a scalar -> the field. quoted: it stood in quotes, which numbers and booleans must not. kTexts: one more
// entry of the list.
absl::Status SetKey(const ConfigKey& key, const std::string& text, bool quoted, KeyField field);
std::string GetKey(const ConfigKey& key, KeyField field);  // a YAML scalar that SetKey reads back
// The rule of the key alone: "" or what is wrong with the field's value.
std::string CheckKey(const ConfigKey& key, KeyField field);
std::string RangeText(const ConfigKey& key);  // "1 to 64", "a, b", "HOST:PORT"
// One line of the reference page: "| `cache.memory` | 256MiB | … | … |".
std::string ReferenceRow(const ConfigKey& key);

}  // namespace pangea
