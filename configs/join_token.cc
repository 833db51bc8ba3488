#include "configs/join_token.h"

#include <algorithm>
#include <utility>

#include "configs/cat.h"
#include "configs/read_file.h"

namespace pangea {
namespace {

constexpr size_t kLeastBytes = 8, kMostBytes = 4096, kMostFileBytes = 1 << 16;  // of the file: white space too

}  // namespace

absl::StatusOr<std::string> CheckJoinToken(std::string text) {
  text.resize(text.find_last_not_of(" \t\r\n") + 1);  // npos + 1 is 0
  if (text.size() < kLeastBytes || text.size() > kMostBytes)
    return absl::InvalidArgumentError(
        Cat("the join token must have from ", kLeastBytes, " to ", kMostBytes, " characters"));
  if (std::any_of(text.begin(), text.end(), [](unsigned char c) { return c <= ' ' || c > '~'; }))
    return absl::InvalidArgumentError("the join token must be printable ASCII without spaces");
  return text;
}

absl::StatusOr<std::string> ReadJoinToken(const std::string& path) {
  auto text = ReadFile(path, kMostFileBytes);
  if (!text.ok()) return text;
  auto token = CheckJoinToken(*std::move(text));
  if (!token.ok()) return absl::InvalidArgumentError(Cat(path, ": ", token.status().message()));
  return token;
}

}  // namespace pangea
