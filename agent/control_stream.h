// The agent's two streams to its master. gRPC stays in the .cc.
#pragma once
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "protos/agent.pb.h"

namespace pangea {

class ControlStream {
 public:
  // master: HOST:PORT. Dials in the background; the first Write waits for the connection.
  ControlStream(const std::string& master, const std::string& token);
  ~ControlStream();
  ControlStream(const ControlStream&) = delete;

  // One thread. False: the stream has ended, Finish says why.
  bool Read(agent::v1::FromMaster* message);
  // Any thread. False: the stream has ended.
  bool Write(const agent::v1::FromAgent& message);
  // Any thread: written in order by a thread of its own, so that the caller can go on computing meanwhile.
  void Send(agent::v1::FromAgent message);
  // The reader's thread, after Read returned false.
  absl::Status Finish();
  // One thread (not the reader's): the second stream, opened by the first call for this agent.
  bool WriteProgress(int agent, const agent::v1::ProgressReport& report);
  // Any thread: everything pending and later returns false.
  void Cancel();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pangea
