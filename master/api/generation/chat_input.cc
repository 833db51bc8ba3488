#include "master/api/generation/chat_input.h"

#include "absl/strings/str_cat.h"
#include "master/api/generation/context.h"
#include "master/api/openai/api_error.h"
#include "master/api/openai/json_reader.h"
#include "master/api/openai/request.h"
#include "master/api/openai/response.h"
#include "nlohmann/json.hpp"

namespace pangea {
namespace {

namespace pb = google::protobuf;

// The text of a message. Of several parts, joined in *joined.
absl::StatusOr<std::string_view> CheckContent(const pb::Value& content, const std::string& path, std::string* joined) {
  if (content.kind_case() == pb::Value::kStringValue) return std::string_view(content.string_value());
  if (content.kind_case() != pb::Value::kListValue)
    return BadParam(path, absl::StrCat("'", path, "' must be a string or a list of text parts"));
  if (content.list_value().values_size() == 0)
    return BadParam(path, absl::StrCat("'", path, "' must not be an empty list"));
  for (int i = 0; i < content.list_value().values_size(); ++i) {
    const pb::Value& part = content.list_value().values(i);
    const std::string at = absl::StrCat(path, "[", i, "]");
    if (part.kind_case() != pb::Value::kStructValue)
      return BadParam(at, absl::StrCat("'", at, "' must be an object with 'type' and 'text'"));
    const auto& fields = part.struct_value().fields();
    const auto type = fields.find("type");
    if (type == fields.end() || type->second.kind_case() != pb::Value::kStringValue)
      return BadParam(at + ".type", absl::StrCat("'", at, ".type' must be a string"));
    if (type->second.string_value() != "text") {
      return BadParam(at + ".type", absl::StrCat("content parts of type '", type->second.string_value().substr(0, 32),
                                                 "' are not supported: only 'text'"));
    }
    const auto value = fields.find("text");
    if (value == fields.end() || value->second.kind_case() != pb::Value::kStringValue)
      return BadParam(at + ".text", absl::StrCat("'", at, ".text' must be a string"));
    absl::StrAppend(joined, i > 0 ? "\n" : "", value->second.string_value());
  }
  return std::string_view(*joined);
}

void AddMember(const char* name, std::string_view text, std::string* json) {
  absl::StrAppend(json, json->ends_with('{') ? "\"" : ",\"", name, "\":\"");
  AppendJsonText(text, json);
  *json += '"';
}

// Variables of a template by which a request could ask for what is refused elsewhere.
constexpr const char* kRefusedArguments[] = {"tools", "functions", "documents", "chat_template",
                                             "continue_final_message"};

template <class M>
absl::StatusOr<TemplateOptions> CheckOptions(const M& request, const ApiContext& context) {
  const std::string name = "chat_template_kwargs", spelled = name + "_json";
  if (request.has_chat_template_kwargs() && request.has_chat_template_kwargs_json())
    return BadParam(spelled, absl::StrCat("'", spelled, "' and '", name, "' must not both be given"));
  nlohmann::json kwargs = ToJson(request.chat_template_kwargs());
  std::string text;
  if (request.has_chat_template_kwargs_json()) {
    text = request.chat_template_kwargs_json();
    const auto& limits = context.deployment->limits;
    auto read = ReadJson(text, {.depth = limits.json_depth});
    if (!read.ok()) return BadParam(spelled, absl::StrCat("'", spelled, "': ", read.status().message()));
    kwargs = std::move(read->value);
    if (!kwargs.is_object()) return BadParam(spelled, absl::StrCat("'", spelled, "' must be an object"));
  } else {
    text = kwargs.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }
  for (const char* refused : kRefusedArguments) {
    const auto it = kwargs.find(refused);
    const std::string path = absl::StrCat(name, ".", refused);
    const bool asks = it != kwargs.end() && !it->empty() && *it != "" && *it != false;
    if (asks) return BadParam(path, absl::StrCat("'", path, "' is not supported"));
  }
  TemplateOptions options;
  options.add_generation_prompt = !request.has_add_generation_prompt() || request.add_generation_prompt();
  // As in vLLM, it may stand among the template's variables too, and then that one holds.
  const auto prompt = kwargs.find("add_generation_prompt");
  if (prompt != kwargs.end() && prompt->is_boolean()) options.add_generation_prompt = prompt->get<bool>();
  options.kwargs = std::move(text);
  return options;
}

}  // namespace

absl::StatusOr<ChatMessages> CheckMessages(const pb::RepeatedPtrField<v1::ChatMessage>& messages,
                                           const ApiContext& context) {
  if (messages.empty()) return BadParam("messages", "'messages' must have at least one message");
  const int limit = context.deployment->limits.messages;
  if (messages.size() > limit)
    return OverLimit("messages", BadParam("messages", absl::StrCat("'messages' may have at most ", limit,
                                                                   " messages, not ", messages.size())));
  ChatMessages out;
  out.json = "[";
  for (int i = 0; i < messages.size(); ++i) {
    const v1::ChatMessage& message = messages[i];
    const std::string path = absl::StrCat("messages[", i, "]");
    const std::string& role = message.role();
    if (role != "system" && role != "developer" && role != "user" && role != "assistant") {
      return BadParam(path + ".role",
                      role.empty()
                          ? absl::StrCat("'", path, ".role' is required")
                          : absl::StrCat("'", path, ".role' must be system, developer, user or assistant, not '",
                                         role.substr(0, 32), "'"));
    }
    std::string joined;
    const auto content = CheckContent(message.content(), path + ".content", &joined);
    if (!content.ok()) return content.status();
    out.content_bytes += content->size();
    out.json += i > 0 ? ",{" : "{";
    AddMember("role", role == "developer" ? "system" : role, &out.json);
    AddMember("content", *content, &out.json);
    if (message.has_reasoning() || message.has_reasoning_content()) {
      AddMember("reasoning", message.has_reasoning() ? message.reasoning() : message.reasoning_content(), &out.json);
      AddMember("reasoning_content",
                message.has_reasoning_content() ? message.reasoning_content() : message.reasoning(), &out.json);
    }
    if (message.has_name()) AddMember("name", message.name(), &out.json);
    out.json += '}';
  }
  out.json += ']';
  return out;
}

absl::StatusOr<TemplateOptions> CheckTemplateOptions(const v1::ChatCompletionRequest& request,
                                                     const ApiContext& context) {
  return CheckOptions(request, context);
}

absl::StatusOr<TemplateOptions> CheckTemplateOptions(const v1::TokenizeRequest& request, const ApiContext& context) {
  return CheckOptions(request, context);
}

}  // namespace pangea
