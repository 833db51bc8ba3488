// The OpenAI REST API: requests as JSON, answers and SSE chunks back. Pure functions but for RestGenerate and
// RestModels.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "clients/canceller.h"
#include "clients/http_loop.h"
#include "clients/request.h"

namespace pangea::clients {

struct RestEndpoint {
  HttpUrl url;
  std::string api_key;
  std::string ca_file;  // of https; empty: the system's authorities
};

// The whole HTTP request. stream: server-sent events with the usage in the last chunk.
HttpRequest MakeRestRequest(const RestEndpoint& endpoint, const GenerateRequest& request, bool stream);

// Collects a stream. Push takes the data of one event and returns the text that it brought (often empty).
class RestStream {
 public:
  absl::StatusOr<std::string> Push(const std::string& data);
  bool done() const { return done_; }  // [DONE] was seen
  const Answer& answer() const { return answer_; }

 private:
  Answer answer_;
  StreamClock clock_;
  bool done_ = false, thought_aloud_ = false;  // its reasoning is in the stream too
};

// OpenAI's error object, or the start of whatever came instead, under the status that fits the HTTP code.
absl::Status RestError(int http_status, const std::string& body);

// Blocking. on_text empty: one unary answer.
absl::StatusOr<Answer> RestGenerate(const RestEndpoint& endpoint, const GenerateRequest& request, const OnText& on_text,
                                    Canceller* canceller);
absl::StatusOr<std::vector<std::string>> RestModels(const RestEndpoint& endpoint, double timeout_seconds);

}  // namespace pangea::clients
