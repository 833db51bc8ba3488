#include "master/api/text_calls.h"

#include "absl/strings/str_cat.h"
#include "master/api/api.h"
#include "master/api/api_error.h"
#include "master/api/chat_input.h"
#include "master/api/checked.h"

namespace pangea {
namespace {

absl::StatusOr<std::vector<int32_t>> Encode(const v1::TokenizeRequest& request, const ApiContext& context) {
  if (request.has_prompt()) {
    auto ids = context.text->Encode(request.prompt(), !request.has_add_special_tokens() || request.add_special_tokens(),
                                    /*parse_special=*/true);
    return ids.ok() || !absl::IsInvalidArgument(ids.status()) ? std::move(ids)
                                                              : BadParam("prompt", std::string(ids.status().message()));
  }
  auto messages = CheckMessages(request.messages(), context);
  if (!messages.ok()) return messages.status();
  if (!context.text->has_template()) return BadParam("messages", "this model has no chat template");
  TemplateOptions options;
  options.add_generation_prompt = !request.has_add_generation_prompt() || request.add_generation_prompt();
  auto kwargs = CheckTemplateArguments(request, context);
  if (!kwargs.ok()) return kwargs.status();
  options.kwargs = *std::move(kwargs);
  auto ids = context.text->EncodeChat(messages->json, options);
  return ids.ok() || !absl::IsInvalidArgument(ids.status()) ? std::move(ids)
                                                            : BadParam("messages", std::string(ids.status().message()));
}

}  // namespace

absl::StatusOr<v1::TokenizeResponse> Tokenize(const v1::TokenizeRequest& request, const ApiContext& context) {
  if (!request.model().empty()) {  // optional here, as in vLLM
    if (auto s = CheckModel(request.model(), context); !s.ok()) return s;
  }
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
  if (!request.model().empty()) {
    if (auto s = CheckModel(request.model(), context); !s.ok()) return s;
  }
  const auto ids = CheckIds(request.tokens(), "tokens", context);
  if (!ids.ok()) return ids.status();
  v1::DetokenizeResponse response;
  response.set_prompt(context.text->Decode(*ids, /*skip_special=*/false));
  return response;
}

v1::Model ServedModel(const ApiContext& context) {
  v1::Model model;
  model.set_id(context.name);
  model.set_object("model");
  model.set_created(context.created);
  model.set_owned_by("pangea");
  model.set_max_model_len(context.context);
  return model;
}

v1::ListModelsResponse ListModels(const ApiContext& context) {
  v1::ListModelsResponse models;
  models.set_object("list");
  *models.add_data() = ServedModel(context);
  return models;
}

}  // namespace pangea
