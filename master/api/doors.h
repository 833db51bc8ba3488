// The doors. REST and gRPC become the same message in the first function they reach, and one Generation serves both.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "master/api/generation/context.h"
#include "master/schedule/engine.h"

namespace pangea {

// Both doors on one set of threads. Engine outputs are handed in by Deliver (called by whoever does the engine's work).
class Doors {
 public:
  static absl::StatusOr<std::unique_ptr<Doors>> Open(ApiContext* context);  // binds; ports 0 are chosen
  virtual ~Doors() = default;
  virtual std::string rest_url() const = 0;  // http://HOST:PORT
  virtual std::string grpc_address() const = 0;
  virtual void Deliver(std::vector<Output> outputs) = 0;
  virtual int open_requests() const = 0;
  // No new connections or requests (503); then waits up to `seconds` for the open ones, ends the rest with a final
  // error event.
  virtual void Drain(double seconds, const absl::Status& why) = 0;
  // From any thread: a Drain under way, or to come, waits for nobody any more.
  virtual void Hurry() = 0;
};

}  // namespace pangea
