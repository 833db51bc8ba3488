#include "master/fleet/fleet.h"

#include <sys/random.h>

#include <fstream>

#include "absl/strings/str_cat.h"
#include "configs/log.h"
#include "master/fleet/fleet_impl.h"

namespace pangea {
namespace {

constexpr size_t kMostTokenBytes = 4096, kLeastTokenBytes = 8;

bool IsWildcard(const std::string& host) { return host == "0.0.0.0" || host == "::"; }

// 256 bits, as text: for this run only.
absl::StatusOr<std::string> RandomToken() {
  unsigned char bytes[32];
  if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes)) return absl::ErrnoToStatus(errno, "getrandom");
  std::string token;
  for (unsigned char b : bytes) absl::StrAppend(&token, absl::Hex(b, absl::kZeroPad2));
  return token;
}

absl::StatusOr<std::string> TokenFromFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat("control.token_file: cannot read ", path));
  std::string token(kMostTokenBytes + 1, '\0');
  file.read(token.data(), token.size());
  token.resize(file.gcount());
  const size_t end = token.find_last_not_of(" \t\r\n");
  token.resize(end == std::string::npos ? 0 : end + 1);
  if (token.size() < kLeastTokenBytes || token.size() > kMostTokenBytes) {
    return absl::InvalidArgumentError(absl::StrCat("control.token_file: the token in ", path, " must have from ",
                                                   kLeastTokenBytes, " to ", kMostTokenBytes, " characters"));
  }
  for (unsigned char c : token) {
    if (c <= ' ' || c > '~') {
      return absl::InvalidArgumentError(
          absl::StrCat("control.token_file: the token in ", path, " must be printable ASCII without spaces"));
    }
  }
  return token;
}

}  // namespace

Fleet::~Fleet() = default;

absl::StatusOr<std::string> ControlToken(const Deployment& deployment) {
  return deployment.control.token_file.empty() ? RandomToken() : TokenFromFile(deployment.control.token_file);
}

absl::StatusOr<std::unique_ptr<Fleet>> Fleet::Start(const Deployment& deployment, const CheckpointHeader& header,
                                                    const ParallelPlan& plan, FleetOptions options) {
  const auto listen = ParseHostPort(deployment.control.listen);
  if (!listen.ok()) return absl::InvalidArgumentError(absl::StrCat("control.listen: ", listen.status().message()));
  const auto token = ControlToken(deployment);
  if (!token.ok()) return token.status();
  auto fleet = std::make_unique<FleetImpl>(deployment, header, plan, std::move(options));
  // Agents of this host cannot dial "any address".
  const std::string dial_host = listen->host == "::"                          ? "[::1]"
                                : IsWildcard(listen->host)                    ? "127.0.0.1"
                                : listen->host.find(':') != std::string::npos ? absl::StrCat("[", listen->host, "]")
                                                                              : listen->host;
  if (const absl::Status status = fleet->Open(dial_host, *token); !status.ok()) return status;
  return fleet;
}

}  // namespace pangea
