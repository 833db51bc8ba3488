#include "master/api/generation/text_calls.h"

#include "absl/strings/str_cat.h"
#include "master/api/generation/chat_input.h"
#include "master/api/generation/checked.h"
#include "master/api/generation/context.h"
#include "master/api/openai/api_error.h"

namespace pangea {
namespace {

// What the text library finds wrong is about this parameter.
absl::Status OfParameter(const absl::Status& status, const char* param) {
  const bool client = absl::IsInvalidArgument(status) || absl::IsOutOfRange(status);
  return client ? Unlogged(BadParam(param, std::string(status.message()))) : status;
}

absl::StatusOr<std::vector<int32_t>> Encode(const v1::TokenizeRequest& request, const ApiContext& context) {
  if (request.has_prompt()) {
    auto ids = context.text->Encode(request.prompt(), !request.has_add_special_tokens() || request.add_special_tokens(),
                                    /*parse_special=*/true);
    return ids.ok() ? std::move(ids) : OfParameter(ids.status(), "prompt");
  }
  auto messages = CheckMessages(request.messages(), context);
  if (!messages.ok()) return messages.status();
  if (!context.text->has_template()) return BadParam("messages", "this model has no chat template");
  const auto options = CheckTemplateOptions(request, context);
  if (!options.ok()) return options.status();
  auto ids = context.text->EncodeChat(messages->json, *options);
  return ids.ok() ? std::move(ids) : OfParameter(ids.status(), "messages");
}

}  // namespace

absl::StatusOr<v1::TokenizeResponse> Tokenize(const v1::TokenizeRequest& request, const ApiContext& context) {
  if (auto s = CheckModel(request.model(), context); !s.ok()) return s;
  if (request.has_prompt() == (request.messages_size() > 0))
    return BadParam("prompt", "exactly one of 'prompt' and 'messages' is required");
  const auto ids = Encode(request, context);
  if (!ids.ok()) return ids.status();
  v1::TokenizeResponse response;
  response.set_count(ids->size());
  response.set_max_model_len(context.context);
  for (const int32_t id : *ids) response.add_tokens(id);
  return response;
}

absl::StatusOr<v1::DetokenizeResponse> Detokenize(const v1::DetokenizeRequest& request, const ApiContext& context) {
  if (auto s = CheckModel(request.model(), context); !s.ok()) return s;
  const auto ids = CheckIds(request.tokens(), "tokens", context);
  if (!ids.ok()) return ids.status();
  v1::DetokenizeResponse response;
  response.set_prompt(context.text->Decode(*ids, /*skip_special=*/false));
  return response;
}

v1::Model ServedModel(const ApiContext& context, const std::string& name) {
  v1::Model model;
  model.set_id(name);
  model.set_object("model");
  model.set_created(context.created);
  model.set_owned_by("pangea");
  model.set_max_model_len(context.context);
  model.set_root(context.deployment->model);
  // vLLM's, word for word: older clients look at some of these.
  v1::ModelPermission* permission = model.add_permission();
  permission->set_id("modelperm-" + name);
  permission->set_object("model_permission");
  permission->set_created(context.created);
  permission->set_allow_sampling(true);
  permission->set_allow_logprobs(true);
  permission->set_allow_view(true);
  permission->set_organization("*");
  for (const auto& [parameter, set] : context.sampling) {
    v1::SamplingDefault& shown = (*model.mutable_sampling())[parameter];
    shown.set_value(set.value);
    shown.set_from(std::string(set.from));
  }
  return model;
}

v1::ListModelsResponse ListModels(const ApiContext& context) {
  v1::ListModelsResponse models;
  models.set_object("list");
  for (const std::string& name : context.names) *models.add_data() = ServedModel(context, name);
  return models;
}

}  // namespace pangea
