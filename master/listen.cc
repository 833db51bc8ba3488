#include "master/listen.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "configs/cat.h"

namespace pangea {
namespace {

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

// Null with *error, a text, when the host has no address.
Addresses Resolve(const HostPort& at, std::string* error) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  const int code = getaddrinfo(at.host.c_str(), std::to_string(at.port).c_str(), &hints, &found);
  if (code != 0) *error = gai_strerror(code);
  return Addresses(code == 0 ? found : nullptr, freeaddrinfo);
}

// One address, or every one: doors listen on both families when they are given the wildcard of either.
struct Endpoint {
  bool any = false;
  std::string address;  // bytes, with the scope of IPv6
  bool Collides(const Endpoint& other) const { return any || other.any || address == other.address; }
};

Endpoint EndpointOf(const sockaddr* address) {
  if (address->sa_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in*>(address)->sin_addr;
    return {v4.s_addr == htonl(INADDR_ANY), std::string(reinterpret_cast<const char*>(&v4), sizeof(v4))};
  }
  const auto& v6 = *reinterpret_cast<const sockaddr_in6*>(address);
  const std::string_view bytes(reinterpret_cast<const char*>(&v6.sin6_addr), sizeof(v6.sin6_addr));
  if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) return {false, std::string(bytes.substr(12))};  // ::ffff:a.b.c.d
  return {IN6_IS_ADDR_UNSPECIFIED(&v6.sin6_addr) != 0, Cat(bytes, "%", uint32_t{v6.sin6_scope_id})};
}

std::vector<Endpoint> Endpoints(const HostPort& at) {
  std::vector<Endpoint> endpoints;
  std::string ignored;
  const Addresses found = Resolve(at, &ignored);
  for (const addrinfo* a = found.get(); a != nullptr; a = a->ai_next) endpoints.push_back(EndpointOf(a->ai_addr));
  return endpoints;
}

}  // namespace

std::vector<DeploymentFault> ListenCollisions(const Deployment& deployment) {
  struct Door {
    const char* key;
    const std::string* listen;
    HostPort at;
  };
  std::vector<Door> doors;
  for (Door door : {Door{"rest.listen", &deployment.rest.listen},
                    {"grpc.listen", &deployment.grpc.listen},
                    {"control.listen", &deployment.control.listen}}) {
    const auto at = ParseHostPort(*door.listen);
    if (at.ok()) door.at = *at;
    if (door.at.port != 0) doors.push_back(door);
  }
  std::vector<DeploymentFault> faults;
  for (size_t i = 0; i < doors.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (doors[i].at.port != doors[j].at.port) continue;
      const auto mine = Endpoints(doors[i].at), others = Endpoints(doors[j].at);
      const bool same = std::any_of(mine.begin(), mine.end(), [&](const Endpoint& a) {
        return std::any_of(others.begin(), others.end(), [&](const Endpoint& b) { return a.Collides(b); });
      });
      if (!same && doors[i].at.host != doors[j].at.host) continue;
      faults.push_back({doors[i].key,
                        Cat(*doors[i].listen, " is taken by ", doors[j].key, ", which listens on ", *doors[j].listen),
                        doors[j].key});
      break;
    }
  }
  return faults;
}

std::string WhyNotListen(const HostPort& at) {
  std::string error;
  const Addresses found = Resolve(at, &error);
  for (const addrinfo* a = found.get(); a != nullptr && error.empty(); a = a->ai_next) {
    const int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 && errno == EAFNOSUPPORT) continue;
    const int one = 1;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
        bind(fd, a->ai_addr, a->ai_addrlen) != 0 || listen(fd, 1) != 0)
      error = std::strerror(errno);
    if (fd >= 0) close(fd);
  }
  return error;
}

}  // namespace pangea
