// The calls that need no engine, for both doors. Text threads (Tokenize, Detokenize) or any thread (models).
#pragma once
#include <string>

#include "absl/status/statusor.h"
#include "protos/generation.pb.h"

namespace pangea {

struct ApiContext;

absl::StatusOr<v1::TokenizeResponse> Tokenize(const v1::TokenizeRequest& request, const ApiContext& context);
absl::StatusOr<v1::DetokenizeResponse> Detokenize(const v1::DetokenizeRequest& request, const ApiContext& context);
v1::Model ServedModel(const ApiContext& context, const std::string& name);
v1::ListModelsResponse ListModels(const ApiContext& context);

}  // namespace pangea
