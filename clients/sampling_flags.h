// Flags that chat, generate and bench share.
#pragma once
#include "clients/client.h"
#include "clients/flags.h"

namespace pangea::clients {

void AddEndpointFlags(Flags& flags, Endpoint* endpoint);  // --grpc, --rest, --api-key
void AddSamplingFlags(Flags& flags, SamplingOptions* sampling);
// The key of --api-key, or else of the environment variable PANGEA_API_KEY.
void FillApiKey(std::string* api_key);

}  // namespace pangea::clients
