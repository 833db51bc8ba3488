#include "agent/own_address.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include "configs/deployment.h"

namespace pangea {

std::string OwnAddressToward(const std::string& master) {
  const auto target = ParseHostPort(master);
  if (!target.ok()) return "";
  // Connecting a datagram socket sends nothing.
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_DGRAM;
  if (getaddrinfo(target->host.c_str(), std::to_string(target->port).c_str(), &hints, &found) != 0) return "";
  std::string address;
  for (const addrinfo* a = found; a != nullptr && address.empty(); a = a->ai_next) {
    const int fd = socket(a->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) continue;
    sockaddr_storage own{};
    socklen_t length = sizeof(own);
    char text[NI_MAXHOST];
    if (connect(fd, a->ai_addr, a->ai_addrlen) == 0 &&
        getsockname(fd, reinterpret_cast<sockaddr*>(&own), &length) == 0 &&
        getnameinfo(reinterpret_cast<sockaddr*>(&own), length, text, sizeof(text), nullptr, 0, NI_NUMERICHOST) == 0) {
      address = text;
    }
    close(fd);
  }
  freeaddrinfo(found);
  return address;
}

}  // namespace pangea
