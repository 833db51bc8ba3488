// `pangea serve`: wiring only; reads as the architecture.
#pragma once
#include <string>

#include "configs/deployment.h"
#include "pipeline/checkpoint/header.h"

namespace pangea {

// Exit codes: 0 after a signal and a drain, 1 when serving failed, 78 for a deployment that is refused.
int ServeMain(int argc, char** argv);

// FORMAT-PLAN-HASH: equal hashes promise equal bytes. The hash covers build, definition of the arithmetic, weights (by
// samples, checkpoint/content_hash.h), activation bits, ISA class, KV type, and the context where RoPE scaling depends
// on it; on CPU bytes do not depend on the plan, so the plan is told but not hashed.
std::string SystemFingerprint(const Deployment& deployment, const CheckpointHeader& header,
                              const std::string& content_hash, int context, const std::string& isa);

}  // namespace pangea
