#include "clients/rest_client.h"

#include <optional>
#include <utility>

#include "nlohmann/json.hpp"

namespace pangea::clients {
namespace {

using nlohmann::json;

// Null for what is absent or of another type: servers differ in what they leave out.
const json& Member(const json& object, const char* name) {
  static const json* null = new json();
  if (!object.is_object()) return *null;
  const auto at = object.find(name);
  return at == object.end() ? *null : *at;
}
std::string Text(const json& value) { return value.is_string() ? value.get<std::string>() : std::string(); }
int64_t Count(const json& value) { return value.is_number() ? value.get<int64_t>() : 0; }

const json& FirstChoice(const json& root) {
  const json& choices = Member(root, "choices");
  return choices.is_array() && !choices.empty() ? choices.front() : Member(root, "");
}

void ReadCommon(const json& root, Answer& answer) {
  const json& usage = Member(root, "usage");
  if (usage.is_object()) {
    answer.prompt_tokens = Count(Member(usage, "prompt_tokens"));
    answer.completion_tokens = Count(Member(usage, "completion_tokens"));
    answer.hidden_tokens = Count(Member(Member(usage, "completion_tokens_details"), "reasoning_tokens"));
  }
  if (Member(root, "model").is_string()) answer.model = Text(Member(root, "model"));
  if (Member(root, "system_fingerprint").is_string()) answer.fingerprint = Text(Member(root, "system_fingerprint"));
  const std::string reason = Text(Member(FirstChoice(root), "finish_reason"));
  if (!reason.empty()) answer.finish_reason = reason;
}

template <typename T>
void Put(json& body, const char* name, const std::optional<T>& value) {
  if (value) body[name] = *value;
}

json Body(const GenerateRequest& request, bool stream) {
  json body;
  body["model"] = request.model;
  if (request.chat()) {
    body["messages"] = json::array();
    for (const Message& m : request.messages) body["messages"].push_back({{"role", m.role}, {"content", m.content}});
  } else if (!request.prompt_ids.empty()) {
    body["prompt"] = request.prompt_ids;
  } else {
    body["prompt"] = request.prompt;
  }
  const SamplingOptions& s = request.sampling;
  Put(body, "max_tokens", s.max_tokens);
  Put(body, "min_tokens", s.min_tokens);
  Put(body, "temperature", s.temperature);
  Put(body, "top_p", s.top_p);
  Put(body, "top_k", s.top_k);
  Put(body, "min_p", s.min_p);
  Put(body, "seed", s.seed);
  Put(body, "presence_penalty", s.presence_penalty);
  Put(body, "frequency_penalty", s.frequency_penalty);
  Put(body, "repetition_penalty", s.repetition_penalty);
  if (!s.stop.empty()) body["stop"] = s.stop;
  if (s.ignore_eos) body["ignore_eos"] = true;
  if (stream) {
    body["stream"] = true;
    body["stream_options"] = {{"include_usage", true}};
  }
  return body;
}

absl::Status ErrorObject(absl::StatusCode code, const json& error, const std::string& otherwise) {
  std::string message = error.is_string() ? Text(error) : Text(Member(error, "message"));
  if (message.empty()) message = otherwise;
  const std::string param = Text(Member(error, "param"));
  if (!param.empty()) message += " (" + param + ")";
  absl::Status status(code, message);
  const std::string name = Text(Member(error, "code"));
  if (!name.empty()) status.SetPayload(kErrorCode, absl::Cord(name));
  return status;
}

absl::StatusCode CodeOf(int http_status) {
  switch (http_status) {
    case 401:
      return absl::StatusCode::kUnauthenticated;
    case 403:
      return absl::StatusCode::kPermissionDenied;
    case 404:
      return absl::StatusCode::kNotFound;
    case 405:
    case 501:
      return absl::StatusCode::kUnimplemented;
    case 408:
    case 504:
      return absl::StatusCode::kDeadlineExceeded;
    case 429:
      return absl::StatusCode::kResourceExhausted;
    case 502:
    case 503:
      return absl::StatusCode::kUnavailable;
    default:
      return http_status >= 400 && http_status < 500 ? absl::StatusCode::kInvalidArgument : absl::StatusCode::kInternal;
  }
}

std::string Authorization(const RestEndpoint& endpoint) {
  return endpoint.api_key.empty() ? "" : "Bearer " + endpoint.api_key;
}

// One request on a loop of its own, in the calling thread.
absl::StatusOr<HttpResponse> Call(HttpRequest request, HttpLoop::OnEvent on_event, Canceller* canceller) {
  HttpLoop loop;
  absl::StatusOr<HttpResponse> result = absl::InternalError("no answer");
  loop.Start(std::move(request), std::move(on_event), [&](const absl::StatusOr<HttpResponse>& r) { result = r; });
  if (canceller != nullptr) canceller->Set([&loop] { loop.Post([&loop] { loop.CancelAll(); }); });
  loop.Run();
  if (canceller != nullptr) canceller->Clear();
  return result;
}

absl::StatusOr<Answer> ParseRestAnswer(const std::string& body) {
  const json root = json::parse(body, nullptr, false);
  const json& choice = FirstChoice(root);
  if (!choice.is_object()) return absl::InternalError("the server's answer has no choices");
  Answer answer;
  ReadCommon(root, answer);
  const json& message = Member(choice, "message");
  answer.text = Text(message.is_object() ? Member(message, "content") : Member(choice, "text"));
  return answer;
}

absl::StatusOr<std::vector<std::string>> ParseRestModels(const std::string& body) {
  const json root = json::parse(body, nullptr, false);
  const json& data = Member(root, "data");
  if (!data.is_array()) return absl::InternalError("the server's list of models has no data");
  std::vector<std::string> names;
  for (const json& model : data) names.push_back(Text(Member(model, "id")));
  return names;
}

}  // namespace

HttpRequest MakeRestRequest(const RestEndpoint& endpoint, const GenerateRequest& request, bool stream) {
  HttpRequest http;
  http.url = endpoint.url;
  http.target = request.chat() ? "/v1/chat/completions" : "/v1/completions";
  http.authorization = Authorization(endpoint);
  http.ca_file = endpoint.ca_file;
  http.timeout_seconds = request.timeout_seconds;
  http.body = Body(request, stream).dump(-1, ' ', false, json::error_handler_t::replace);
  return http;
}

absl::StatusOr<std::string> RestStream::Push(const std::string& data) {
  if (data == "[DONE]") {
    done_ = true;
    return "";
  }
  const json root = json::parse(data, nullptr, false);
  if (root.is_discarded()) return absl::InternalError("the server sent an event that is not JSON");
  const json& error = Member(root, "error");
  if (!error.is_null()) return ErrorObject(absl::StatusCode::kInternal, error, "the server reported an error");
  ReadCommon(root, answer_);
  const json& choice = FirstChoice(root);
  if (choice.is_object()) clock_.Arrived(answer_);
  const json& delta = Member(choice, "delta");
  for (const char* name : {"reasoning_content", "reasoning"})
    thought_aloud_ = thought_aloud_ || !Text(Member(delta, name)).empty();
  if (thought_aloud_) answer_.hidden_tokens = 0;
  const std::string text = Text(delta.is_object() ? Member(delta, "content") : Member(choice, "text"));
  answer_.text += text;
  return text;
}

absl::Status RestError(int http_status, const std::string& body) {
  const json root = json::parse(body, nullptr, false);
  return ErrorObject(CodeOf(http_status), Member(root, "error"),
                     "HTTP " + std::to_string(http_status) + ": " + body.substr(0, 200));
}

absl::StatusOr<Answer> RestGenerate(const RestEndpoint& endpoint, const GenerateRequest& request, const OnText& on_text,
                                    Canceller* canceller) {
  const bool stream = on_text != nullptr;
  RestStream collected;
  absl::Status broken;
  auto response = Call(
      MakeRestRequest(endpoint, request, stream),
      [&](const std::string& data) {
        if (!broken.ok()) return;
        auto text = collected.Push(data);
        if (!text.ok()) {
          broken = text.status();
        } else if (!text->empty()) {
          on_text(*text);
        }
      },
      canceller);
  if (!broken.ok()) return broken;
  if (!response.ok() && !(collected.done() && !absl::IsCancelled(response.status()))) return response.status();
  if (response.ok() && response->status != 200) return RestError(response->status, response->body);
  if (!stream) return ParseRestAnswer(response->body);
  if (!collected.done()) return absl::UnavailableError("the stream ended before [DONE]");
  return collected.answer();
}

absl::StatusOr<std::vector<std::string>> RestModels(const RestEndpoint& endpoint, double timeout_seconds) {
  HttpRequest http;
  http.url = endpoint.url;
  http.method = "GET";
  http.target = "/v1/models";
  http.authorization = Authorization(endpoint);
  http.ca_file = endpoint.ca_file;
  http.timeout_seconds = timeout_seconds;
  auto response = Call(std::move(http), nullptr, nullptr);
  if (!response.ok()) return response.status();
  if (response->status != 200) return RestError(response->status, response->body);
  return ParseRestModels(response->body);
}

}  // namespace pangea::clients
