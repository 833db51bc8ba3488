#include "configs/join_token.h"

#include <algorithm>
#include <fstream>

#include "configs/cat.h"

namespace pangea {
namespace {

constexpr size_t kLeastBytes = 8, kMostBytes = 4096;

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
  std::ifstream file(path, std::ios::binary);
  std::string text(kMostBytes + 2, '\0');  // with its line's end
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!file.is_open() || file.bad()) return absl::NotFoundError(Cat("cannot read ", path));
  text.resize(static_cast<size_t>(file.gcount()));
  auto token = CheckJoinToken(std::move(text));
  if (!token.ok()) return absl::InvalidArgumentError(Cat(path, ": ", token.status().message()));
  return token;
}

}  // namespace pangea
