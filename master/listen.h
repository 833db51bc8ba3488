// What the HOST:PORT of a door means on this host: names and wildcards resolved, as binding them will.
#pragma once
#include <string>
#include <vector>

#include "configs/deployment.h"

namespace pangea {

// The host of an address to listen at that stands for every address of this machine.
inline constexpr char kEverywhere[] = "*";

// Which of rest.listen, grpc.listen and control.listen cannot be had together: one address and port twice, under
// whatever spelling (localhost and 127.0.0.1, ::ffff:127.0.0.1), or beside a wildcard that covers it. Ports of 0 do not
// collide, and what does not resolve only with its own like. May ask the name service, when ports are equal.
std::vector<DeploymentFault> ListenCollisions(const Deployment& deployment);

// Why the system lets nobody listen there: "Address already in use". "" when it would, now.
std::string WhyNotListen(const HostPort& at);

}  // namespace pangea
