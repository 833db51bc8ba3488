// The token that agents join with: the same rules for the master that asks for it and the agent that shows it.
#pragma once
#include <string>

#include "absl/status/statusor.h"

namespace pangea {

// From 8 to 4096 printable characters without spaces; white space behind them is cut off. A fault does not show it.
absl::StatusOr<std::string> CheckJoinToken(std::string text);
// The same from a file, which is named in a fault.
absl::StatusOr<std::string> ReadJoinToken(const std::string& path);

}  // namespace pangea
