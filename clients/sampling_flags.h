// Flags that chat, generate and bench share.
#pragma once
#include "clients/client.h"
#include "configs/command_line.h"

namespace pangea::clients {

// An API key as a command is told it; Get looks at the first of: the key, the file, PANGEA_API_KEY, OPENAI_API_KEY.
struct KeyFlags {
  std::string key, file;
  void Add(CommandLine& line);              // --api-key, --api-key-file
  absl::StatusOr<std::string> Get() const;  // empty: none; NotFound, InvalidArgument: of the file
};
void AddEndpointFlags(CommandLine& line, Endpoint* endpoint);  // --grpc, --rest, --ca-file
void AddCaFileFlag(CommandLine& line, std::string* file);
void AddSamplingFlags(CommandLine& line, SamplingOptions* sampling);

// The same settings by the names of the OpenAI API (max_tokens, stop, …), for a chat that is under way.
std::vector<std::string> SettingNames();
// value "default" leaves it to the server. InvalidArgument: the value, NotFound: the name.
absl::Status ChangeSetting(const std::string& name, const std::string& value, SamplingOptions* sampling);
std::string Settings(const SamplingOptions& sampling);  // "name = value" by line, of those that are set

}  // namespace pangea::clients
