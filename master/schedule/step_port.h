// The engine's one way to the agents. Implemented by fleet/agent_port and by the simulator.
#pragma once
#include "absl/status/status.h"
#include "pipeline/step.h"

namespace pangea {

class StepPort {
 public:
  virtual ~StepPort() = default;
  // Sends a step to every rank of every stage; never blocks. The result comes back as an event of the engine.
  virtual void Send(const Step& step) = 0;
  // For a masked sequence of a step that was sent and is not answered: to the last stage, which waits for it before it
  // draws. Never blocks.
  virtual void SendMask(const Mask& mask) = 0;
};

}  // namespace pangea
