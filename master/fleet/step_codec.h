// Between pipeline/step.h and the wire's messages, on the master's side.
#pragma once
#include "pipeline/step.h"
#include "protos/agent.pb.h"

namespace pangea {

void EncodeStep(const Step& step, agent::v1::Step* message);
void EncodeMask(const Mask& mask, agent::v1::Mask* message);
StepResult DecodeResult(const agent::v1::StepResult& message);

}  // namespace pangea
