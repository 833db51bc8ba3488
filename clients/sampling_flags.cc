#include "clients/sampling_flags.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>

namespace pangea::clients {

void AddEndpointFlags(Flags& flags, Endpoint* endpoint) {
  flags.Text("--grpc", "HOST:PORT", "gRPC server (default " + endpoint->grpc + ")", &endpoint->grpc);
  flags.Text("--rest", "URL", "REST server instead, such as http://127.0.0.1:8000", &endpoint->rest);
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

void KeyFlags::Add(Flags& flags) {
  flags.Text("--api-key", "KEY", "bearer token; other users see it, --api-key-file's they do not", &key);
  flags.Text("--api-key-file", "FILE",
             "holds the bearer token (default: the environment variable PANGEA_API_KEY, or OPENAI_API_KEY)", &file);
}

absl::StatusOr<std::string> KeyFlags::Get() const {
  if (!key.empty()) return key;
  if (file.empty()) {
    for (const char* name : {"PANGEA_API_KEY", "OPENAI_API_KEY"}) {
      if (const char* value = std::getenv(name); value != nullptr && *value != '\0') return std::string(value);
    }
    return "";
  }
  std::ifstream stream(file);
  std::string first;
  if (!std::getline(stream, first)) return absl::NotFoundError("--api-key-file: cannot read a key from " + file);
  while (!first.empty() && (first.back() == '\r' || first.back() == ' ')) first.pop_back();
  const auto odd = [](unsigned char c) { return c <= 0x20 || c >= 0x7f; };
  if (first.empty() || first.size() > 4096 || std::any_of(first.begin(), first.end(), odd))
    return absl::InvalidArgumentError("--api-key-file: the first line of " + file + " is no key");
  return first;
}

}  // namespace pangea::clients
