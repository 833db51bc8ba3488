// The form that a request wants its answers to have.
#pragma once
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "master/text/grammar.h"
#include "protos/generation.pb.h"

namespace pangea {

struct ApiContext;

struct AnswerForm {
  GrammarSource grammar;
  std::string name;  // of the parameter, for errors
};

// response_format, structured_outputs and guided_*, of which one may be given. nullopt: none is, or plain text.
absl::StatusOr<std::optional<AnswerForm>> CheckForm(const v1::ChatCompletionRequest& request,
                                                    const ApiContext& context);
absl::StatusOr<std::optional<AnswerForm>> CheckForm(const v1::CompletionRequest& request, const ApiContext& context);

}  // namespace pangea
