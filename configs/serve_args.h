// The command line that `pangea serve` and `pangea check` share.
#pragma once
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "configs/deployment.h"

namespace pangea {

struct ServeArgs {
  std::string target;                    // deployment file, model folder or .gguf file
  std::vector<std::string> settings;     // "key.path=value", in order
  RestAddress at;                        // --host, --port
  bool help = false, every_key = false;  // --help, --help-all: print ServeHelp and leave with 0
};

// argv[0] is the subcommand's name. InvalidArgument says what is wrong; the caller prints it and leaves with 64
// (EX_USAGE).
absl::StatusOr<ServeArgs> ParseServeArgs(int argc, const char* const* argv);
// command: "serve" or "check". Usage and options, on one screen; with every_key also the keys of a deployment file.
std::string ServeHelp(const std::string& command, bool every_key);

inline constexpr int kUsageExitCode = 64;

}  // namespace pangea
