#include "master/api/openai/api_error.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "configs/values.h"

namespace pangea {
namespace {

constexpr char kParam[] = "pangea/param";
constexpr char kCode[] = "pangea/code";
constexpr char kLimit[] = "pangea/limit";
constexpr char kRetry[] = "pangea/retry-after";
constexpr char kUnlogged[] = "pangea/unlogged";
constexpr size_t kQuoted = 64;     // bytes of a client's own text that a message repeats
constexpr size_t kCompared = 256;  // of a model's name that are compared with the served ones: none of those is longer

struct Row {
  absl::StatusCode status;
  int http;
  const char* type;
  const char* code;
  int retry_after;
  bool never_retry;
  int grpc;
};
// gRPC's numbers are absl's by design, but what is the client's fault must read so in both doors.
constexpr Row kErrors[] = {
    {absl::StatusCode::kInvalidArgument, 400, "invalid_request_error", "", 0, false, 3},
    {absl::StatusCode::kOutOfRange, 400, "invalid_request_error", "", 0, false, 3},
    {absl::StatusCode::kUnauthenticated, 401, "invalid_request_error", "invalid_api_key", 0, false, 16},
    {absl::StatusCode::kNotFound, 404, "invalid_request_error", "", 0, false, 5},
    {absl::StatusCode::kResourceExhausted, 429, "rate_limit_error", "rate_limit_exceeded", 1, false, 8},
    {absl::StatusCode::kUnavailable, 503, "service_unavailable_error", "service_unavailable", 2, false, 14},
    {absl::StatusCode::kDeadlineExceeded, 504, "server_error", "timeout", 0, true, 4},
    {absl::StatusCode::kCancelled, 499, "server_error", "cancelled", 0, true, 1},
};
constexpr Row kInternal = {absl::StatusCode::kInternal, 500, "server_error", "internal_error", 0, true, 13};

const Row& Find(const absl::Status& status) {
  for (const Row& row : kErrors) {
    if (row.status == status.code()) return row;
  }
  return kInternal;
}

std::string Payload(const absl::Status& status, const char* name) {
  const auto value = status.GetPayload(name);
  return value ? std::string(*value) : "";
}

nlohmann::json OrNull(const std::string& text) { return text.empty() ? nlohmann::json() : nlohmann::json(text); }

}  // namespace

absl::Status BadParam(const std::string& param, const std::string& message, const std::string& code) {
  absl::Status status = absl::InvalidArgumentError(message);
  if (!param.empty()) status.SetPayload(kParam, absl::Cord(param));
  if (!code.empty()) status.SetPayload(kCode, absl::Cord(code));
  return status;
}

absl::Status ContextOverflow(const std::string& param, bool chat, int context, const std::string& requested) {
  // LangChain looks for the code in the text too.
  return BadParam(param,
                  absl::StrCat("This model's maximum context length is ", context, " tokens. However, you requested ",
                               requested, ". Please reduce the length of the ", chat ? "messages" : "prompt",
                               " or completion. (context_length_exceeded)"),
                  "context_length_exceeded");
}

absl::Status ModelNotFound(const std::string& name, const std::vector<std::string>& served) {
  const bool cut = name.size() > kQuoted;
  std::string message = absl::StrCat("the model '", name.substr(0, kQuoted), cut ? "…" : "",
                                     "' does not exist; this server serves '", absl::StrJoin(served, "', '"), "'");
  if (served.size() > 1)
    absl::StrAppend(&message, "; the nearest is '", Nearest(std::string_view(name).substr(0, kCompared), served), "'");
  absl::Status status = absl::NotFoundError(message);
  status.SetPayload(kParam, absl::Cord("model"));
  status.SetPayload(kCode, absl::Cord("model_not_found"));
  return status;
}

absl::Status OverLimit(const char* limit, absl::Status status) {
  status.SetPayload(kLimit, absl::Cord(limit));
  return status;
}

std::string LimitOf(const absl::Status& status) { return Payload(status, kLimit); }

absl::Status RetryIn(absl::Status status, int seconds) {
  status.SetPayload(kRetry, absl::Cord(absl::StrCat(seconds)));
  return status;
}

absl::Status Unlogged(absl::Status status) {
  status.SetPayload(kUnlogged, absl::Cord("1"));
  return status;
}

std::string LogReason(const absl::Status& status) {
  if (Payload(status, kUnlogged).empty()) return std::string(status.message());
  return absl::StrCat("'", Payload(status, kParam), "' was refused by the model's chat template or tokenizer");
}

ErrorAnswer ToErrorAnswer(const absl::Status& status) {
  const Row& row = Find(status);
  ErrorAnswer answer{
      row.http,        row.type,       std::string(status.message()), Payload(status, kParam), Payload(status, kCode),
      row.retry_after, row.never_retry};
  if (answer.code.empty()) answer.code = row.code;
  if (int seconds = 0; absl::SimpleAtoi(Payload(status, kRetry), &seconds)) answer.retry_after = seconds;
  if (answer.message.empty()) answer.message = absl::StatusCodeToString(status.code());
  return answer;
}

std::string ErrorJson(const ErrorAnswer& error) {
  const nlohmann::ordered_json body = {{"error",
                                        {{"message", error.message},
                                         {"type", error.type},
                                         {"param", OrNull(error.param)},
                                         {"code", OrNull(error.code)}}}};
  return DumpJson(body);
}

std::string DumpJson(const nlohmann::ordered_json& json) {
  std::string text = json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  // They can only stand in strings. Their first bytes are rare enough to look for alone.
  if (text.find_first_of("\xC2\xE2") == std::string::npos) return text;
  return absl::StrReplaceAll(text, {{"\xC2\x85", "\\u0085"}, {"\xE2\x80\xA8", "\\u2028"}, {"\xE2\x80\xA9", "\\u2029"}});
}

int GrpcCode(const absl::Status& status) { return Find(status).grpc; }

}  // namespace pangea
