// The master's side of protos/agent.proto: sessions of agents, their token checked before anything is read; and of
// protos/admin.proto. gRPC stays in the .cc.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "master/fleet/admin_service.h"
#include "protos/agent.pb.h"

namespace pangea {

class ControlServer {
 public:
  using SessionId = uint64_t;
  // Called on gRPC threads; of one session, one after the other. They may compute, as the engine does for a result, but
  // must not wait for anything.
  struct Callbacks {
    std::function<void(SessionId, const agent::v1::FromAgent&)> on_message;
    std::function<void(SessionId)> on_end;  // once a session, after its last message
    std::function<void(const agent::v1::ProgressReport&)> on_progress;
    AdminCalls admin;
  };

  // listen: HOST:PORT, port 0 picks one.
  static absl::StatusOr<std::unique_ptr<ControlServer>> Start(const std::string& listen, const std::string& token,
                                                              Callbacks callbacks);
  ~ControlServer();  // Shutdown
  ControlServer(const ControlServer&) = delete;

  int port() const;
  // Serialises once and queues for each of them; never blocks. A session that does not read for long is closed.
  void Send(const std::vector<SessionId>& sessions, const agent::v1::FromMaster& message);
  // Ends a session with this status, after what is queued for it.
  void Close(SessionId session, const absl::Status& status);
  // Ends all sessions; no callback runs after it has returned.
  void Shutdown();

  struct State;  // of the implementation

 private:
  explicit ControlServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace pangea
