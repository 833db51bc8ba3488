// Flags that chat, generate and bench share.
#pragma once
#include "clients/client.h"
#include "clients/flags.h"

namespace pangea::clients {

// An API key as a command is told it; Get looks at the first of: the key, the file, PANGEA_API_KEY, OPENAI_API_KEY.
struct KeyFlags {
  std::string key, file;
  void Add(Flags& flags);                   // --api-key, --api-key-file
  absl::StatusOr<std::string> Get() const;  // empty: none; NotFound, InvalidArgument: of the file
};
void AddEndpointFlags(Flags& flags, Endpoint* endpoint);  // --grpc, --rest
void AddSamplingFlags(Flags& flags, SamplingOptions* sampling);

}  // namespace pangea::clients
