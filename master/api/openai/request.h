// A REST body -> the message that a gRPC client would have sent. Types are exact: a boolean is not a number, 0.5 is not
// an integer (5.0 is one), null is the same as absent. Ranges are not looked at here (generation/checked.h does, for
// both doors). Thread safe.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "google/protobuf/message.h"
#include "google/protobuf/struct.pb.h"
#include "master/api/openai/json_reader.h"
#include "nlohmann/json.hpp"

namespace pangea {

// Names that no field has: those that would change the answer are refused (request_fields.h), the others are listed in
// `ignored`. InvalidArgument names the field. `seed` may be any integer of 64 bits, signed or not: what is above
// 2^63 - 1 wraps. -1 draws a new one, and so does what wraps to it.
absl::Status ParseOpenAi(std::string_view body, const JsonLimits& limits, google::protobuf::Message* message,
                         std::vector<std::string>* ignored);

// The value of an x-pangea-ignored-fields header: only names that are safe in a header, bounded.
std::string IgnoredHeader(const std::vector<std::string>& ignored);

nlohmann::json ToJson(const google::protobuf::Value& value);
nlohmann::json ToJson(const google::protobuf::Struct& value);

}  // namespace pangea
