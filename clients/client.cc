#include "clients/client.h"

#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/str_join.h"
#include "clients/grpc_client.h"
#include "clients/rest_client.h"
#include "clients/text.h"

namespace pangea::clients {

struct Client::State {
  std::optional<GrpcClient> grpc;
  std::optional<RestEndpoint> rest;
};

namespace {

// gRPC itself would say nothing before the first call, and then speak of name resolution.
absl::Status CheckGrpcAddress(const std::string& address) {
  const size_t scheme = address.find("://");
  const bool http = address.starts_with("http");
  if (scheme != std::string::npos && (http || address.starts_with("grpc"))) {
    const std::string rest = address.substr(scheme + 3);
    return absl::InvalidArgumentError("a gRPC address has no " + address.substr(0, scheme + 3) + "; write --grpc " +
                                      rest.substr(0, rest.find('/')) +
                                      (http ? ", or --rest " + address + " when it is the REST door's" : ""));
  }
  if (address.find(':') == std::string::npos)
    return absl::InvalidArgumentError("expected HOST:PORT, such as 127.0.0.1:8001, not \"" + address + "\"");
  return absl::OkStatus();
}

// Some servers list a model as "llama3:latest" or "models/gemini-2.0" and also take "llama3" or "gemini-2.0".
bool SameModel(std::string_view a, std::string_view b) {
  constexpr std::string_view kLatest = ":latest";
  if (a.ends_with(kLatest)) a.remove_suffix(kLatest.size());
  if (b.ends_with(kLatest)) b.remove_suffix(kLatest.size());
  if (a.size() < b.size()) std::swap(a, b);
  return a == b || (!b.empty() && a.ends_with(b) && a[a.size() - b.size() - 1] == '/');
}

}  // namespace

bool IsContextFull(const absl::Status& status) {
  if (!absl::IsInvalidArgument(status)) return false;
  const auto code = status.GetPayload(kErrorCode);
  if (code && *code == "context_length_exceeded") return true;
  const std::string text(status.message());
  for (const char* words : {"context_length_exceeded", "context length", "context size"}) {
    if (text.find(words) != text.npos) return true;
  }
  return false;
}

Client::Client() : state_(std::make_unique<State>()) {}
Client::~Client() = default;

absl::StatusOr<std::unique_ptr<Client>> Client::Create(const Endpoint& endpoint) {
  std::unique_ptr<Client> client(new Client());
  if (endpoint.rest.empty()) {
    const absl::Status address = CheckGrpcAddress(endpoint.grpc);
    if (!address.ok()) return address;
    if (!endpoint.ca_file.empty()) return absl::InvalidArgumentError("--ca-file needs --rest https://…");
    client->state_->grpc.emplace(endpoint.grpc, endpoint.api_key);
    return client;
  }
  auto url = ParseHttpUrl(endpoint.rest);
  if (!url.ok()) return url.status();
  client->state_->rest = RestEndpoint{*std::move(url), endpoint.api_key, endpoint.ca_file};
  return client;
}

absl::StatusOr<Answer> Client::Generate(const GenerateRequest& request, const OnText& on_text, Canceller* canceller) {
  for (const Message& message : request.messages) {
    if (!ValidUtf8(message.content)) return absl::InvalidArgumentError("the message is not UTF-8");
  }
  if (!ValidUtf8(request.prompt)) return absl::InvalidArgumentError("the prompt is not UTF-8");
  if (state_->grpc) return state_->grpc->Generate(request, on_text, canceller);
  return RestGenerate(*state_->rest, request, on_text, canceller);
}

absl::StatusOr<std::vector<std::string>> Client::Models(double timeout_seconds) {
  return state_->grpc ? state_->grpc->Models(timeout_seconds) : RestModels(*state_->rest, timeout_seconds);
}

absl::StatusOr<std::string> Client::Model(const std::string& wanted) {
  auto models = Models();
  const bool no_list = absl::IsNotFound(models.status()) || absl::IsUnimplemented(models.status());
  if (!models.ok() && !(no_list && !wanted.empty())) return models.status();
  if (!models.ok()) return wanted;
  if (models->empty()) return absl::NotFoundError("the server has no model");
  if (wanted.empty()) return models->front();
  for (const std::string& name : *models) {
    if (SameModel(name, wanted)) return wanted;
  }
  return absl::NotFoundError("the server has no model '" + wanted + "'; it serves " + absl::StrJoin(*models, ", "));
}

}  // namespace pangea::clients
