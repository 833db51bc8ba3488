// The command line that `pangea serve` and `pangea check` share, and what of it other subcommands take too.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "configs/command_line.h"
#include "configs/deployment.h"

namespace pangea {

struct ServeArgs {
  std::string target;                 // deployment file, model folder or .gguf file
  std::vector<std::string> settings;  // "key.path=value", in order
  RestAddress at;                     // --host, --port
  bool every_key = false;             // --help-all
};

// command: "serve" or "check". args must outlive Parse.
CommandLine ServeCommandLine(const std::string& command, ServeArgs* args);
// --pipeline, --tensor, --device and --set: of every subcommand that plans a deployment.
void AddLayoutOptions(CommandLine& line, ServeArgs* args);
// Parses; the only word is the target. Without one InvalidArgument, unless help was asked for.
absl::Status ParseTarget(CommandLine& line, int argc, const char* const* argv, ServeArgs* args);
// What a main function does next, as CommandLine::Exit; with --help-all the keys of a deployment file are told too.
std::optional<int> ServeExit(const CommandLine& line, const absl::Status& parsed, const ServeArgs& args);
// Keys of a deployment file with default, range and meaning.
std::string KeysHelp();

}  // namespace pangea
