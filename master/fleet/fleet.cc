#include "master/fleet/fleet.h"

#include <sys/random.h>

#include "absl/strings/str_cat.h"
#include "configs/join_token.h"
#include "master/fleet/fleet_impl.h"

namespace pangea {
namespace {

bool IsWildcard(const std::string& host) { return host == "0.0.0.0" || host == "::"; }

// 256 bits, as text: for this run only.
absl::StatusOr<std::string> RandomToken() {
  unsigned char bytes[32];
  if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes)) return absl::ErrnoToStatus(errno, "getrandom");
  std::string token;
  for (unsigned char b : bytes) absl::StrAppend(&token, absl::Hex(b, absl::kZeroPad2));
  return token;
}

}  // namespace

Fleet::~Fleet() = default;

absl::StatusOr<std::string> ControlToken(const Deployment& deployment) {
  if (deployment.control.token_file.empty()) return RandomToken();
  auto token = ReadJoinToken(deployment.control.token_file);
  if (!token.ok())
    return absl::Status(token.status().code(), absl::StrCat("control.token_file: ", token.status().message()));
  return token;
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
