// Between pipeline/step.h and the messages of agent.proto, both ways.
#pragma once
#include "absl/status/statusor.h"
#include "pipeline/activity.h"
#include "pipeline/step.h"
#include "protos/agent.pb.h"

namespace pangea {

void EncodeStep(const Step& step, agent::v1::Step* message);
// As it came: the numbers are judged by Validate, not here.
Step DecodeStep(const agent::v1::Step& message);

void EncodeMask(const Mask& mask, agent::v1::Mask* message);
// InvalidArgument: it is longer than a vocabulary's mask can be, or words and bits do not match. The rest is for
// Validate.
absl::StatusOr<Mask> DecodeMask(const agent::v1::Mask& message, int32_t vocab);

void EncodeResult(const StepResult& result, agent::v1::StepResult* message);
StepResult DecodeResult(const agent::v1::StepResult& message);

// With the time at which it is called.
void EncodeActivity(const ActivityClock::Totals& in, agent::v1::Activity* out);

}  // namespace pangea
