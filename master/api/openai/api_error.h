// One table for what an error is to a client: absl::Status -> HTTP status, OpenAI error object, gRPC code. Thread safe.
#pragma once
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "nlohmann/json.hpp"

namespace pangea {

// InvalidArgument that names the request's field; code is OpenAI's (e.g. context_length_exceeded), empty: null.
absl::Status BadParam(const std::string& param, const std::string& message, const std::string& code = "");
// What does not fit the context, in the words by which clients know it (they cut messages, or take another model):
// "This model's maximum context length is N tokens. However, you requested …".
absl::Status ContextOverflow(const std::string& param, bool chat, int context, const std::string& requested);
// NotFound, code model_not_found. The name is cut before it is repeated to its sender; those that are served are told.
absl::Status ModelNotFound(const std::string& name, const std::vector<std::string>& served);

// Marks a status as the doing of a limit, by the name that it has in the deployment file less `limits.`; for the
// metrics.
absl::Status OverLimit(const char* limit, absl::Status status);
std::string LimitOf(const absl::Status& status);  // empty: of none
// The status, with the seconds after which its sender may try again.
absl::Status RetryIn(absl::Status status, int seconds);

// Its message may hold what the client wrote (a chat template's own words, say): the log is told the parameter alone.
absl::Status Unlogged(absl::Status status);
std::string LogReason(const absl::Status& status);

struct ErrorAnswer {
  int http = 500;
  std::string type, message;
  std::string param, code;   // empty: null
  int retry_after = 0;       // seconds; 0: no header
  bool never_retry = false;  // x-should-retry: false (official clients retry 5xx)
};
ErrorAnswer ToErrorAnswer(const absl::Status& status);
// As JSON of one line, whatever a client takes for the end of one: what is no UTF-8 becomes U+FFFD, and the line ends
// of Unicode (U+0085, U+2028, U+2029), at which Python's str.splitlines cuts, are escaped.
std::string DumpJson(const nlohmann::ordered_json& json);
// {"error":{"message","type","param","code"}}
std::string ErrorJson(const ErrorAnswer& error);
// The grpc::StatusCode as an integer; the text is the status's message in both doors.
int GrpcCode(const absl::Status& status);

}  // namespace pangea
