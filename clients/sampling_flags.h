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
void AddEndpointFlags(Flags& flags, Endpoint* endpoint);  // --grpc, --rest, --ca-file
void AddCaFileFlag(Flags& flags, std::string* file);
void AddSamplingFlags(Flags& flags, SamplingOptions* sampling);

// The same settings by the names of the OpenAI API (max_tokens, stop, …), for a chat that is under way.
std::vector<std::string> SettingNames();
// value "default" leaves it to the server. InvalidArgument: the value, NotFound: the name.
absl::Status ChangeSetting(const std::string& name, const std::string& value, SamplingOptions* sampling);
std::string Settings(const SamplingOptions& sampling);  // "name = value" by line, of those that are set

}  // namespace pangea::clients
