// Small files, read whole: configuration, tokens, keys, templates. (Weights are mapped:
// pipeline/checkpoint/mapped_file.)
#pragma once
#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/statusor.h"

namespace pangea {

// All bytes of a file of at most `limit` bytes. Refused, with the path and why: what is missing (NotFound), larger (it
// is not read), no plain file (a pipe would block), or gets another length while it is read.
absl::StatusOr<std::string> ReadFile(const std::string& path, uint64_t limit);

// A plain file, opened to be read, and its size. The caller closes it.
absl::StatusOr<std::pair<int, uint64_t>> OpenPlainFile(const std::string& path);

}  // namespace pangea
