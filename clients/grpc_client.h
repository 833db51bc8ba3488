// The same calls over gRPC (protos/generation.proto). grpcpp stays in the .cc.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "clients/canceller.h"
#include "clients/request.h"

namespace pangea::clients {

// Thread safe: calls may run at once.
class GrpcClient {
 public:
  GrpcClient(const std::string& address, std::string api_key);  // dials on first use
  ~GrpcClient();
  // Blocking. on_text empty: one unary answer. The deadline is the request's timeout; Cancelled after
  // canceller->Cancel().
  absl::StatusOr<Answer> Generate(const GenerateRequest& request, const OnText& on_text, Canceller* canceller);
  absl::StatusOr<std::vector<std::string>> Models(double timeout_seconds);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pangea::clients
