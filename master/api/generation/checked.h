// A request that has passed every check that needs no token: what both doors' messages become. One set of messages for
// both.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "master/api/generation/chat_input.h"
#include "master/api/generation/gate.h"
#include "master/api/generation/structured_input.h"
#include "master/schedule/prefix_index.h"
#include "master/text/text.h"
#include "pipeline/step.h"
#include "protos/generation.pb.h"

namespace pangea {

struct ApiContext;

struct PromptInput {
  std::string text;
  std::vector<int32_t> ids;
  bool is_ids = false;
};

struct CheckedRequest {
  bool chat = false;
  std::string model;      // the name that was asked for
  ChatMessages messages;  // chat: for the template
  TemplateOptions options;
  std::vector<PromptInput> prompts;  // completion
  bool add_special_tokens = true;

  std::shared_ptr<const Sampling> sampling;  // not null; seed set; top_logprobs -1: none wanted; end_ids set
  int n = 1;
  std::optional<int> max_tokens;
  std::string max_tokens_name = "max_tokens";  // as the client spelled it
  std::vector<std::string> stops;
  std::vector<int32_t> stop_ids;  // end ids (unless ignored) and stop_token_ids
  std::optional<AnswerForm> form;
  int priority = 0;
  Caller caller;  // set by the door

  CacheSalt cache_salt = {};
  bool continuous_usage = false;  // in every chunk
  bool stream = false, include_usage = false, echo = false, return_token_ids = false, skip_special_tokens = true;
};

// Unavailable never; InvalidArgument naming the parameter; NotFound: the model. Thread safe.
absl::StatusOr<CheckedRequest> Check(const v1::ChatCompletionRequest& request, const ApiContext& context);
absl::StatusOr<CheckedRequest> Check(const v1::CompletionRequest& request, const ApiContext& context);
absl::Status CheckModel(const std::string& model, const ApiContext& context);  // empty: the one that is served
// Ids in the model's vocabulary, or the element that is not.
absl::StatusOr<std::vector<int32_t>> CheckIds(const google::protobuf::RepeatedField<int64_t>& ids,
                                              const std::string& name, const ApiContext& context);

}  // namespace pangea
