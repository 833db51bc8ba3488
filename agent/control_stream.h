// The agent's two streams to its master. gRPC stays in the .cc.
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "protos/agent.pb.h"

namespace pangea {

class ControlStream {
 public:
  // What Run does after a message. kHold: reads on once it has written something, or after a tenth of a second (and
  // then holds no more until it writes). gRPC answers every message that it waited for with a window update, which then
  // travels with what is written.
  enum class After { kRead, kHold, kEnd };

  // master: HOST:PORT. Dials in the background; nothing is sent before Run.
  ControlStream(const std::string& master, const std::string& token);
  ~ControlStream();
  ControlStream(const ControlStream&) = delete;

  // Waits for the connection, sends `first`, then everything given to Send, and hands over what comes, all on this
  // thread; what is no message of this protocol comes as one of no kind. Returns how the stream ended (Cancelled after
  // kEnd or Cancel).
  absl::Status Run(const agent::v1::FromAgent& first,
                   const std::function<After(const agent::v1::FromMaster&)>& on_message);
  // Any thread; in order; does not block. The caller computes: Run's thread leaves it its core, where there are others.
  void Send(agent::v1::FromAgent message);
  // Any thread; does not block: while the report before is still on its way (a master that does not read), this one is
  // dropped. The second stream; the first call opens it, for this agent. False: dropped.
  bool WriteProgress(int agent, const agent::v1::ProgressReport& report);
  // Any thread: ends both streams.
  void Cancel();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pangea
