// What the HOST:PORT of a door means on this host: names and wildcards resolved, and the sockets that listen there.
#pragma once
#include <atomic>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "configs/deployment.h"

namespace pangea {

// The host of an address to listen at that stands for every address of this machine.
inline constexpr char kEverywhere[] = "*";

// Which of rest.listen, grpc.listen and control.listen cannot be had together: one address and port twice, under
// whatever spelling (localhost and 127.0.0.1, ::ffff:127.0.0.1), or beside a wildcard that covers it. Ports of 0 do not
// collide, and what does not resolve only with its own like. May ask the name service, when ports are equal.
std::vector<DeploymentFault> ListenCollisions(const Deployment& deployment);

// A TCP socket that listens, non-blocking; whoever holds it closes it.
struct Listening {
  int descriptor = -1;
  bool v6 = false;  // and IPv4 too, if it is the wildcard
  int port = 0;
};
// Listens at every address that these hosts have, on one port: with port 0 one that is free at each. A wildcard is one
// socket for IPv6 and IPv4. An address that this machine has not is left out. None is left, or one is taken: the
// system's reason ("Address already in use").
absl::StatusOr<std::vector<Listening>> ListenAt(const std::vector<std::string>& hosts, int port);

// Accepts connections for a gRPC server, which is built with an external acceptor. gRPC's own sockets listen no more
// after one accept that fails (tcp_server_posix.cc of 1.51): a moment without descriptors, and nobody ever gets in
// again. Here whoever comes meanwhile waits in the system's queue.
class Acceptor {
 public:
  // take(socket that listens, connection, which is its own): called by a thread, one at a time.
  using Take = std::function<void(int listening, int connection)>;
  Acceptor(std::vector<Listening> sockets, Take take);  // at least one
  ~Acceptor();                                          // then nothing is taken any more, and nobody listens
  int port() const { return sockets_[0].port; }

 private:
  void Run();
  const std::vector<Listening> sockets_;
  const Take take_;
  std::atomic<bool> closing_{false};
  std::thread thread_;
};

}  // namespace pangea
