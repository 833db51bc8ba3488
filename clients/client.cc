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

// gRPC's own answer to a wrong address is about name resolution, or does not come before a call.
absl::Status CheckGrpcAddress(const std::string& address) {
  const size_t scheme = address.find("://");
  if (scheme != std::string::npos && address.starts_with("http")) {
    const std::string rest = address.substr(scheme + 3);
    return absl::InvalidArgumentError("a gRPC address has no http://; write --grpc " + rest.substr(0, rest.find('/')) +
                                      ", or --rest " + address + " when it is the REST door's");
  }
  if (address.find(':') == std::string::npos)
    return absl::InvalidArgumentError("expected HOST:PORT, such as 127.0.0.1:8001, not \"" + address + "\"");
  return absl::OkStatus();
}

// "llama3" is "llama3:latest", and "gemini-2.0" is "models/gemini-2.0": servers list the one and accept both.
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
  // The last three: of Pangea's doors, where the code did not come along.
  for (const char* words : {"context_length_exceeded", "context length", "context size", "model's context",
                            "of this model can stand for", "that this server takes"}) {
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
