// A JSON text -> its value, in one pass that holds it to what it must be: RFC 8259 to the letter, valid UTF-8, no lone
// surrogates, bounded depth and number of values. Linear time but for the order of an object's names, no recursion.
// Thread safe.
//
// A name that occurs twice in an object is accepted (RFC 8259 allows it); the last one counts.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace pangea {

struct JsonLimits {
  int depth = 64;            // of arrays and objects
  int64_t values = 1 << 20;  // one takes up to 40 times its text
};

struct JsonDocument {
  nlohmann::json value;
  // Of the outermost object: its members as they are written, for whoever needs the order of names. Parts of the text
  // that was read.
  std::map<std::string, std::string_view, std::less<>> members;
};

// InvalidArgument naming the byte offset and the rule.
absl::StatusOr<JsonDocument> ReadJson(std::string_view text, const JsonLimits& limits);

}  // namespace pangea
