// What a JSON text must be before a parser may recurse into it: RFC 8259 to the letter, valid UTF-8, no lone
// surrogates, bounded depth and number of values. Linear time, memory of the depth only. Thread safe.
//
// A name that occurs twice in an object is accepted (RFC 8259 allows it); the last one counts.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "absl/status/status.h"

namespace pangea {

struct JsonLimits {
  int depth = 64;            // of arrays and objects
  int64_t values = 1 << 20;  // a parsed value takes up to 40 times its text
};

// InvalidArgument naming the byte offset and the rule.
absl::Status CheckJson(std::string_view text, const JsonLimits& limits);

// The text of an object's member; of two with the name the last; empty: there is none. REQUIRES CheckJson, an object.
std::string_view JsonMember(std::string_view object, std::string_view name);

// Bytes of the UTF-8 character that starts at text[at]; 0: none does (overlong, surrogate, beyond U+10FFFF, cut).
int Utf8CharBytes(std::string_view text, size_t at);
int64_t CodePoints(std::string_view utf8);

}  // namespace pangea
