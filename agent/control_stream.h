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
  // What Run does after a message. kHold: it starts to read the next one only when it has written something, or after a
  // tenth of a second (and then does not hold again before it has written). Why: a read that waits makes gRPC send a
  // window update of its own; one that starts with a write sends it along with that.
  enum class After { kRead, kHold, kEnd };

  // master: HOST:PORT. Dials in the background; nothing is sent before Run.
  ControlStream(const std::string& master, const std::string& token);
  ~ControlStream();
  ControlStream(const ControlStream&) = delete;

  // Waits for the connection, sends `first`, then everything given to Send, and hands over what comes, all on this
  // thread. Bytes that cannot be read as a message are handed over as one without a kind. Returns how the stream ended
  // (Cancelled after kEnd or Cancel).
  absl::Status Run(const agent::v1::FromAgent& first,
                   const std::function<After(const agent::v1::FromMaster&)>& on_message);
  // Any thread; in order; does not block. Run's thread moves off the caller's core, where there are others, so that the
  // caller can go on computing.
  void Send(agent::v1::FromAgent message);
  // Any thread; does not block. Goes by the second stream, which the first call opens. False: dropped,
  // because the report before has not left yet (the master does not read), or the stream has ended.
  bool WriteProgress(const agent::v1::ProgressReport& report);
  // Any thread: ends both streams.
  void Cancel();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pangea
