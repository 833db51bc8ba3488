// Typed, checked look-ups in a JSON object (config.json, or GGUF's scalar keys put into one). Every fault is collected,
// so that a user sees all of them at once; each names the file and the field. A JSON null counts as absent.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace pangea {

// Python writes NaN, Infinity and -Infinity into JSON and reads them back; the format has no such numbers. Here they
// become strings: a key that nobody reads may have them, one that needs a number is refused by name.
std::string QuoteNonNumbers(std::string_view text);

// InvalidArgument naming `what` when a JSON text is nested deeper than that: copying and writing a value recurse.
absl::Status CheckDepth(std::string_view text, const std::string& what, int max_depth);

// Parses JSON, Python's NaN and Infinity allowed, after its depth was checked; a name that occurs twice in one object
// is a fault. `what` names the text in errors.
absl::StatusOr<nlohmann::json> ParseJson(std::string_view text, const std::string& what, int max_depth);

class Fields {
 public:
  // The object must outlive this. `faults` is shared by the Fields of nested objects.
  Fields(const nlohmann::json& object, std::string where, std::vector<std::string>* faults);

  using Names = std::initializer_list<const char*>;  // the first that is present counts
  bool Has(Names names) const { return Find(names) != nullptr; }
  const nlohmann::json* Find(Names names, std::string* found = nullptr) const;
  // Missing without a fallback, of another type, or outside [low, high]: a fault, and `low` is returned.
  int64_t Int(Names names, int64_t low, int64_t high, std::optional<int64_t> fallback = std::nullopt);
  // Missing, of another type, not finite or outside (above, at_most]: a fault, and 1 is returned.
  double Real(Names names, double above, double at_most, std::optional<double> fallback = std::nullopt);
  bool Bool(Names names, std::optional<bool> fallback = std::nullopt);
  std::string String(Names names, std::optional<std::string> fallback = std::nullopt);
  void Fault(const std::string& field, const std::string& what);
  const std::string& where() const { return where_; }
  const nlohmann::json& object() const { return object_; }

 private:
  std::string Shown(const nlohmann::json& value) const;
  const nlohmann::json& object_;
  std::string where_;
  std::vector<std::string>* faults_;
};

// OK, or InvalidArgument with all faults joined.
absl::Status FaultsToStatus(const std::vector<std::string>& faults);

}  // namespace pangea
