// The C++ client: chat and completion, streamed or whole, over gRPC or REST.
//
//   auto client = Client::Create({.grpc = "127.0.0.1:8001"});
//   GenerateRequest request{.model = "smollm2", .messages = {{"user", "Hello"}}};
//   auto answer = (*client)->Generate(request, [](const std::string& text) { std::cout << text; });
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "clients/canceller.h"
#include "clients/request.h"

namespace pangea::clients {

struct Endpoint {
  std::string grpc = "127.0.0.1:8001";
  std::string rest;     // http://HOST:PORT or https://…; not empty: REST instead of gRPC
  std::string api_key;  // sent as a bearer token when not empty
  std::string ca_file;  // of https: trusted authorities (PEM); empty: the system's
};

// The server refused a request because prompt and answer do not fit in the model's context: Pangea, OpenAI's servers,
// vLLM and llama-server are recognised.
bool IsContextFull(const absl::Status& status);

// Thread safe.
class Client {
 public:
  static absl::StatusOr<std::unique_ptr<Client>> Create(const Endpoint& endpoint);  // connects on first use
  ~Client();
  // Blocking, in this thread on_text too. on_text null: one unary answer. InvalidArgument: a text is not UTF-8, or the
  // server's own refusal; Cancelled after canceller->Cancel(); DeadlineExceeded; Unavailable. What on_text got before
  // an error stays valid.
  absl::StatusOr<Answer> Generate(const GenerateRequest& request, const OnText& on_text = nullptr,
                                  Canceller* canceller = nullptr);
  absl::StatusOr<std::vector<std::string>> Models(double timeout_seconds = 10);
  // `wanted`, or when that is empty the first model that the server has. NotFound, which names what is served: `wanted`
  // is not in the server's list (a ":latest" at the end or a prefix "…/" makes no difference). A server that has no
  // list is believed to have `wanted`.
  absl::StatusOr<std::string> Model(const std::string& wanted);

 private:
  Client();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pangea::clients
