// What a chat template gets of a request, as JSON texts: the members of objects keep their order, numbers their kind.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "google/protobuf/repeated_ptr_field.h"
#include "master/text/text.h"
#include "protos/generation.pb.h"

namespace pangea {

struct ApiContext;

struct ChatMessages {
  std::string json = "[]";   // [{role, content: string, reasoning?, reasoning_content?, name?}, …]
  size_t content_bytes = 0;  // of all contents together
};

// Several text parts are joined by a newline; `developer` is today's name of `system`, which is what published
// templates know; of `reasoning` and `reasoning_content` either stands for both, as in vLLM.
absl::StatusOr<ChatMessages> CheckMessages(const google::protobuf::RepeatedPtrField<v1::ChatMessage>& messages,
                                           const ApiContext& context);

// add_generation_prompt, and chat_template_kwargs as the client wrote them where their text is there (a REST body's, or
// chat_template_kwargs_json). What is refused at the top of a request is refused in there as well.
absl::StatusOr<TemplateOptions> CheckTemplateOptions(const v1::ChatCompletionRequest& request,
                                                     const ApiContext& context);
absl::StatusOr<TemplateOptions> CheckTemplateOptions(const v1::TokenizeRequest& request, const ApiContext& context);

}  // namespace pangea
