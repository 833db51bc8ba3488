#include "clients/sampling_flags.h"

#include <cstdlib>

namespace pangea::clients {

void AddEndpointFlags(Flags& flags, Endpoint* endpoint) {
  flags.Text("--grpc", "HOST:PORT", "gRPC server (default " + endpoint->grpc + ")", &endpoint->grpc);
  flags.Text("--rest", "URL", "REST server instead, such as http://127.0.0.1:8000", &endpoint->rest);
  flags.Text("--api-key", "KEY", "bearer token (default: the environment variable PANGEA_API_KEY)", &endpoint->api_key);
}

void AddSamplingFlags(Flags& flags, SamplingOptions* sampling) {
  flags.Integer("--max-tokens", "tokens to generate at most", {1, 1 << 24}, &sampling->max_tokens);
  flags.Integer("--min-tokens", "tokens before an end token may come", {0, 1 << 24}, &sampling->min_tokens);
  flags.Real("--temperature", "0 is greedy", {0, 100}, &sampling->temperature);
  flags.Real("--top-p", "nucleus sampling", {0, 1}, &sampling->top_p);
  flags.Integer("--top-k", "sample among the best k; 0 is off", {0, 1 << 24}, &sampling->top_k);
  flags.Real("--min-p", "least probability, as a share of the best", {0, 1}, &sampling->min_p);
  flags.Integer("--seed", "the same seed gives the same text", {-9.2e18, 9.2e18}, &sampling->seed);
  flags.Real("--presence-penalty", "for tokens already generated", {-2, 2}, &sampling->presence_penalty);
  flags.Real("--frequency-penalty", "for each time a token was generated", {-2, 2}, &sampling->frequency_penalty);
  flags.Real("--repetition-penalty", "for tokens of prompt and answer", {1e-2, 100}, &sampling->repetition_penalty);
  flags.List("--stop", "TEXT", "end before this text; may be repeated", &sampling->stop);
}

void FillApiKey(std::string* api_key) {
  const char* value = std::getenv("PANGEA_API_KEY");
  if (api_key->empty() && value != nullptr) *api_key = value;
}

}  // namespace pangea::clients
