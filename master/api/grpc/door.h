// The gRPC door: the same requests and answers as REST, grpc.health.v1 and reflection. Callback API: no thread waits
// for a stream.
#pragma once
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "configs/deployment.h"
#include "master/api/generation/service.h"

namespace pangea {

class GrpcDoor {
 public:
  // post: runs a function on the I/O thread, where every call's state lives.
  static absl::StatusOr<std::unique_ptr<GrpcDoor>> Listen(const HostPort& at, Service* service, Service::Post post);
  virtual ~GrpcDoor() = default;
  virtual std::string address() const = 0;  // HOST:PORT with the port really bound
  virtual void Tick() = 0;                  // I/O thread, about once a second: slow readers, watchers of the health
  // No new calls; those that are open get `seconds`, then are cancelled. Needs a running I/O thread.
  virtual void Shutdown(double seconds) = 0;
};

}  // namespace pangea
