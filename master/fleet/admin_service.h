// The master's side of protos/admin.proto.
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "configs/deployment.h"
#include "protos/admin.pb.h"

namespace grpc {
class Service;
}

namespace pangea {

// Called on gRPC threads, several at once; must not wait.
struct AdminCalls {
  std::function<admin::v1::FleetStatus()> status;
  std::function<absl::StatusOr<uint64_t>(int agent)> restart_agent;  // -> the epoch that has ended
  // edited: what of a deployment is to be otherwise, or null. -> the epoch that has ended.
  std::function<absl::StatusOr<uint64_t>(int pipeline, int tensor, const Deployment* edited)> relayout;
  std::function<absl::Status(bool take)> take_requests;
};

// Calls without the token are refused.
std::unique_ptr<grpc::Service> MakeAdminService(std::string token, AdminCalls calls);

}  // namespace pangea
