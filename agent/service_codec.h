// Between the wire's messages and pipeline/step.h, on the agent's side.
#pragma once
#include "absl/status/statusor.h"
#include "pipeline/activity.h"
#include "pipeline/step.h"
#include "protos/agent.pb.h"

namespace pangea {

// As it came: the numbers are judged by Validate, not here.
Step DecodeStep(const agent::v1::Step& message);
// InvalidArgument: it is longer than a vocabulary's mask can be, or words and bits do not match. The rest is for
// Validate.
absl::StatusOr<Mask> DecodeMask(const agent::v1::Mask& message, int32_t vocab);
// With the time at which it is called.
void EncodeActivity(const ActivityClock::Totals& in, agent::v1::Activity* out);
void EncodeResult(const StepResult& result, agent::v1::StepResult* message);

}  // namespace pangea
