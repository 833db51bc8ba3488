#include "agent/assignment.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "configs/log.h"
#include "configs/model_path.h"

namespace pangea {

absl::Status ReadAssignment(const agent::v1::Assign& assign, const std::string& own_model, Assignment* out) {
  auto deployment = ParseDeployment(assign.deployment(), "the master's deployment");
  if (!deployment.ok()) return deployment.status();
  out->deployment = *std::move(deployment);
  auto model = FindModel(own_model.empty() ? assign.model() : own_model);
  if (!model.ok()) return model.status();
  out->deployment.model = *std::move(model);
  SetLogLevel(out->deployment.log.level);
  auto header = ReadCheckpointHeader(out->deployment.model);
  if (!header.ok()) return header.status();
  out->header = *std::move(header);
  if (out->header.hash != assign.header_hash()) {
    return absl::FailedPreconditionError(absl::StrCat(out->deployment.model,
                                                      " is another checkpoint than the master's: hash ",
                                                      out->header.hash, ", not ", assign.header_hash()));
  }
  PlanResult plan = MakePlan(out->header, out->deployment);
  if (!plan.faults.empty()) return absl::FailedPreconditionError(plan.faults.front().Text());
  if (plan.plan.Hash() != assign.plan_hash() || plan.plan.kv_blocks != assign.kv_blocks()) {
    return absl::FailedPreconditionError("this agent makes another plan of the deployment than its master");
  }
  out->plan = std::move(plan.plan);
  out->plan.spin = assign.spin();
  out->agent = assign.agent();
  if (out->agent < 0 || out->agent >= static_cast<int>(out->plan.agents.size())) {
    return absl::InvalidArgumentError(absl::StrCat("agent ", out->agent, " is not in the plan"));
  }
  const RankPlan& place = out->place();
  SetLogProcess(absl::StrCat("agent ", out->agent, " (stage ", place.stage, ", rank ", place.rank, ")"));
  const auto isa = IsaFromName(assign.isa());
  if (!isa || *isa > BestIsa()) {
    return absl::FailedPreconditionError(absl::StrCat("this CPU lacks ISA class \"", assign.isa(), "\""));
  }
  out->isa = *isa;
  return absl::OkStatus();
}

}  // namespace pangea
