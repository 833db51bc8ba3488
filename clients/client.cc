#include "clients/client.h"

#include <optional>
#include <utility>

#include "clients/grpc_client.h"
#include "clients/rest_client.h"
#include "clients/text.h"

namespace pangea::clients {

struct Client::State {
  std::optional<GrpcClient> grpc;
  std::optional<RestEndpoint> rest;
};

Client::Client() : state_(std::make_unique<State>()) {}
Client::~Client() = default;

absl::StatusOr<std::unique_ptr<Client>> Client::Create(const Endpoint& endpoint) {
  std::unique_ptr<Client> client(new Client());
  if (endpoint.rest.empty()) {
    if (endpoint.grpc.find(':') == std::string::npos)
      return absl::InvalidArgumentError("expected HOST:PORT, not \"" + endpoint.grpc + "\"");
    client->state_->grpc.emplace(endpoint.grpc, endpoint.api_key);
    return client;
  }
  auto url = ParseHttpUrl(endpoint.rest);
  if (!url.ok()) return url.status();
  client->state_->rest = RestEndpoint{*std::move(url), endpoint.api_key};
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
  if (!wanted.empty()) return wanted;
  auto models = Models();
  if (!models.ok()) return models.status();
  if (models->empty()) return absl::NotFoundError("the server has no model");
  return models->front();
}

}  // namespace pangea::clients
