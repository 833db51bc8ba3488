// The command line that `pangea serve` and `pangea check` share.
#pragma once
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace pangea {

struct ServeArgs {
  std::string target;                 // deployment file, model folder or .gguf file
  std::vector<std::string> settings;  // "key.path=value", in order: what LoadDeployment takes
  bool help = false;                  // --help: print ServeHelp and leave with 0
};

// argv[0] is the subcommand's name. InvalidArgument says what is wrong; the caller prints it and leaves with 64
// (EX_USAGE).
absl::StatusOr<ServeArgs> ParseServeArgs(int argc, const char* const* argv);
std::string ServeHelp(const std::string& command);  // "serve" or "check": usage, options, every key

inline constexpr int kUsageExitCode = 64;

}  // namespace pangea
