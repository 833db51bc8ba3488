#include "agent/group/make_group.h"

#include "absl/strings/str_cat.h"
#include "agent/group/gloo_group.h"
#include "agent/group/shm_group.h"
#include "agent/group/thread_group.h"

namespace pangea {

absl::StatusOr<std::unique_ptr<Group>> MakeGroup(const std::string& kind, const GroupSpec& spec,
                                                 Rendezvous& rendezvous) {
  if (spec.stages < 1 || spec.ranks < 1 || spec.agent < 0 || spec.agent >= spec.stages * spec.ranks) {
    return absl::InvalidArgumentError(
        absl::StrCat("agent ", spec.agent, " of ", spec.stages, " stages x ", spec.ranks, " ranks"));
  }
  if (spec.stages * spec.ranks == 1) return std::move(MakeThreadGroups(1, 1, spec.limit)[0]);
  if (kind == "shm") return FormShmGroup(spec, rendezvous);
  if (kind == "gloo") return FormGlooGroup(spec, rendezvous);
  return absl::InvalidArgumentError(absl::StrCat("transport \"", kind, "\" is not one of shm, gloo"));
}

}  // namespace pangea
