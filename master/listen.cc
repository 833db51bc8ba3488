#include "master/listen.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "configs/cat.h"

namespace pangea {
namespace {

constexpr int kPortTries = 16;
constexpr std::chrono::milliseconds kAcceptPause(100);
constexpr unsigned kUnacknowledgedMs = 20'000;  // that bytes may be, as the keepalive of the doors

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

struct Address {
  sockaddr_storage bytes{};
  socklen_t length = 0;
};

bool IsUnspecified(const Address& address) { return EndpointOf(reinterpret_cast<const sockaddr*>(&address.bytes)).any; }

uint16_t* PortOf(Address* address) {
  return address->bytes.ss_family == AF_INET6 ? &reinterpret_cast<sockaddr_in6*>(&address->bytes)->sin6_port
                                              : &reinterpret_cast<sockaddr_in*>(&address->bytes)->sin_port;
}

Address Everywhere(int family, int port) {
  Address address;
  address.bytes.ss_family = static_cast<sa_family_t>(family);
  address.length = family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  *PortOf(&address) = htons(static_cast<uint16_t>(port));
  return address;
}

// Each address that the host has, once.
absl::Status AddAddresses(const HostPort& at, std::vector<Address>* addresses) {
  std::string error;
  const Addresses found = at.host == kEverywhere ? Addresses(nullptr, freeaddrinfo) : Resolve(at, &error);
  if (!error.empty()) return absl::InvalidArgumentError(Cat("it has no address: ", error));
  const size_t before = addresses->size();
  bool everywhere = at.host == kEverywhere;
  for (const addrinfo* a = found.get(); a != nullptr; a = a->ai_next) {
    Address address;
    std::memcpy(&address.bytes, a->ai_addr, a->ai_addrlen);
    address.length = a->ai_addrlen;
    everywhere = everywhere || IsUnspecified(address);
    const bool known = std::any_of(addresses->begin(), addresses->end(), [&](const Address& other) {
      return other.length == address.length && std::memcmp(&other.bytes, &address.bytes, address.length) == 0;
    });
    if (!known) addresses->push_back(address);
  }
  if (everywhere) {
    addresses->resize(before);
    addresses->push_back(Everywhere(AF_INET6, at.port));
  }
  return absl::OkStatus();
}

// Null, or the system's reason in errno.
std::optional<Listening> Bound(const Address& address) {
  const auto* bytes = reinterpret_cast<const sockaddr*>(&address.bytes);
  Listening socket{.v6 = bytes->sa_family == AF_INET6};
  socket.descriptor = ::socket(bytes->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (socket.descriptor < 0) return std::nullopt;
  const auto set = [&](int level, int name, int value) {
    return setsockopt(socket.descriptor, level, name, &value, sizeof(value)) == 0;
  };
  bool well = set(SOL_SOCKET, SO_REUSEADDR, 1);
  if (socket.v6) {
    // A v4-mapped address is IPv4 in the clothes of IPv6: a socket for IPv6 alone cannot have it.
    const auto& v6 = reinterpret_cast<const sockaddr_in6*>(bytes)->sin6_addr;
    well = well && set(IPPROTO_IPV6, IPV6_V6ONLY, !IsUnspecified(address) && !IN6_IS_ADDR_V4MAPPED(&v6));
  }
  Address bound = address;
  well = well && bind(socket.descriptor, bytes, address.length) == 0 && listen(socket.descriptor, SOMAXCONN) == 0 &&
         getsockname(socket.descriptor, reinterpret_cast<sockaddr*>(&bound.bytes), &bound.length) == 0;
  if (!well) {
    const int error = errno;
    close(socket.descriptor);
    errno = error;
    return std::nullopt;
  }
  socket.port = ntohs(*PortOf(&bound));
  return socket;
}

void CloseAll(const std::vector<Listening>& sockets) {
  for (const Listening& socket : sockets) close(socket.descriptor);
}

// All on one port. Empty: *error is the reason of the system, why none could be had, or not all.
std::vector<Listening> BindAll(std::vector<Address> addresses, int* error) {
  std::vector<Listening> sockets;
  for (size_t i = 0; i < addresses.size(); ++i) {
    if (!sockets.empty()) *PortOf(&addresses[i]) = htons(static_cast<uint16_t>(sockets[0].port));
    if (const auto socket = Bound(addresses[i])) {
      sockets.push_back(*socket);
      continue;
    }
    *error = errno;
    // The host has no such address: a name may tell more than there are, and a host may have no IPv6.
    if (*error != EAFNOSUPPORT && *error != EADDRNOTAVAIL) {
      CloseAll(sockets);
      return {};
    }
    if (IsUnspecified(addresses[i]) && addresses[i].bytes.ss_family == AF_INET6)
      addresses.push_back(Everywhere(AF_INET, ntohs(*PortOf(&addresses[i]))));
  }
  return sockets;
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

absl::StatusOr<std::vector<Listening>> ListenAt(const std::vector<std::string>& hosts, int port) {
  std::vector<Address> addresses;
  for (const std::string& host : hosts) {
    if (auto s = AddAddresses({host, port}, &addresses); !s.ok()) return s;
  }
  int error = EADDRNOTAVAIL;
  std::vector<Listening> sockets;
  // A port that the system picked for one address may be taken at the next.
  for (int tries = port == 0 ? kPortTries : 1; tries > 0 && sockets.empty(); --tries)
    sockets = BindAll(addresses, &error);
  if (sockets.empty()) return absl::UnavailableError(std::strerror(error));
  return sockets;
}

Acceptor::Acceptor(std::vector<Listening> sockets, Take take) : sockets_(std::move(sockets)), take_(std::move(take)) {
  thread_ = std::thread([this] { Run(); });
}

Acceptor::~Acceptor() {
  closing_ = true;
  for (const Listening& socket : sockets_) shutdown(socket.descriptor, SHUT_RDWR);  // wakes poll
  thread_.join();
  CloseAll(sockets_);
}

void Acceptor::Run() {
  std::vector<pollfd> waiting;
  for (const Listening& socket : sockets_) waiting.push_back({.fd = socket.descriptor, .events = POLLIN, .revents = 0});
  while (!closing_) {
    if (poll(waiting.data(), waiting.size(), -1) < 0) continue;
    for (const pollfd& socket : waiting) {
      if (closing_ || socket.revents == 0) continue;
      const int connection = accept4(socket.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (connection >= 0) {
        const int one = 1;  // these two as gRPC's own: what is written goes at once
        setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        setsockopt(connection, IPPROTO_TCP, TCP_USER_TIMEOUT, &kUnacknowledgedMs, sizeof(kUnacknowledgedMs));
        take_(socket.fd, connection);
      } else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
        // Out of descriptors or memory: ends give some back; trying at once would only spin.
        std::this_thread::sleep_for(kAcceptPause);
      }
    }
  }
}

}  // namespace pangea
