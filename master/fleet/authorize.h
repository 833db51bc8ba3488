// Who may use the control port: whoever shows the join token.
#pragma once
#include <grpcpp/grpcpp.h>

#include <string>

#include "absl/status/status.h"

namespace pangea {

// Unauthenticated: the token in the call's metadata (`authorization: Bearer …`) is missing or wrong.
absl::Status Authorize(const grpc::CallbackServerContext& context, const std::string& token);

inline grpc::Status ToGrpc(const absl::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()));
}

}  // namespace pangea
