#include "master/api/openai/response.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "absl/strings/str_format.h"
#include "master/api/openai/api_error.h"
#include "master/text/utf8.h"

namespace pangea {
namespace {

namespace pb = google::protobuf;
using OrderedJson = nlohmann::ordered_json;

template <class Ids>
OrderedJson Integers(const Ids& ids) {
  OrderedJson list = OrderedJson::array();
  for (const auto id : ids) list.push_back(id);
  return list;
}

template <class M>
OrderedJson Head(const M& m) {
  return {{"id", m.id()},
          {"object", m.object()},
          {"created", m.created()},
          {"model", m.model()},
          {"system_fingerprint", m.system_fingerprint()}};
}

OrderedJson UsageJson(const v1::Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens()},
          {"completion_tokens", usage.completion_tokens()},
          {"total_tokens", usage.total_tokens()},
          {"prompt_tokens_details", {{"cached_tokens", usage.prompt_tokens_details().cached_tokens()}}}};
}

template <class M>
void AddUsage(const M& m, bool null, OrderedJson* json) {
  if (m.has_usage()) {
    (*json)["usage"] = UsageJson(m.usage());
  } else if (null) {
    (*json)["usage"] = nullptr;
  }
}

template <class M>
OrderedJson TokenJson(const M& token) {
  return {{"token", token.token()}, {"logprob", token.logprob()}, {"bytes", Integers(token.bytes())}};
}

template <class Choice>
OrderedJson ChatLogprobsJson(const Choice& choice) {
  if (!choice.has_logprobs()) return nullptr;
  OrderedJson content = OrderedJson::array();
  for (const v1::TokenLogprob& token : choice.logprobs().content()) {
    OrderedJson entry = TokenJson(token);
    entry["top_logprobs"] = OrderedJson::array();
    for (const v1::TopLogprob& top : token.top_logprobs()) entry["top_logprobs"].push_back(TokenJson(top));
    content.push_back(std::move(entry));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

OrderedJson NumberOrNull(const pb::Value& value) {
  return value.kind_case() == pb::Value::kNumberValue ? OrderedJson(value.number_value()) : OrderedJson();
}

OrderedJson CompletionLogprobsJson(const v1::CompletionChoice& choice) {
  if (!choice.has_logprobs()) return nullptr;
  const v1::CompletionLogprobs& logprobs = choice.logprobs();
  OrderedJson tokens = OrderedJson::array(), values = OrderedJson::array(), tops = OrderedJson::array();
  for (const auto& token : logprobs.tokens()) tokens.push_back(token);
  for (const auto& value : logprobs.token_logprobs().values()) values.push_back(NumberOrNull(value));
  for (const auto& value : logprobs.top_logprobs().values()) {
    if (value.kind_case() != pb::Value::kStructValue) {
      tops.push_back(nullptr);
      continue;
    }
    nlohmann::json top = nlohmann::json::object();  // sorted by name: the order in a proto map is not defined
    for (const auto& [name, number] : value.struct_value().fields()) top[name] = number.number_value();
    tops.push_back(OrderedJson(top));
  }
  return {{"tokens", std::move(tokens)},
          {"token_logprobs", std::move(values)},
          {"top_logprobs", std::move(tops)},
          {"text_offset", Integers(logprobs.text_offset())}};
}

OrderedJson PermissionJson(const v1::ModelPermission& permission) {
  return {{"id", permission.id()},
          {"object", permission.object()},
          {"created", permission.created()},
          {"allow_create_engine", permission.allow_create_engine()},
          {"allow_sampling", permission.allow_sampling()},
          {"allow_logprobs", permission.allow_logprobs()},
          {"allow_search_indices", permission.allow_search_indices()},
          {"allow_view", permission.allow_view()},
          {"allow_fine_tuning", permission.allow_fine_tuning()},
          {"organization", permission.organization()},
          {"group", permission.has_group() ? OrderedJson(permission.group()) : OrderedJson()},
          {"is_blocking", permission.is_blocking()}};
}

OrderedJson ModelJson(const v1::Model& model) {
  OrderedJson permissions = OrderedJson::array(), sampling = OrderedJson::object();
  for (const auto& permission : model.permission()) permissions.push_back(PermissionJson(permission));
  const std::map<std::string, v1::SamplingDefault> sorted(model.sampling().begin(), model.sampling().end());
  for (const auto& [name, set] : sorted) {
    const bool whole = set.value() == std::floor(set.value());
    sampling[name] = {{"value", whole ? OrderedJson(static_cast<int64_t>(set.value())) : OrderedJson(set.value())},
                      {"from", set.from()}};
  }
  return {{"id", model.id()},
          {"object", model.object()},
          {"created", model.created()},
          {"owned_by", model.owned_by()},
          {"root", model.root()},
          {"parent", model.has_parent() ? OrderedJson(model.parent()) : OrderedJson()},
          {"max_model_len", model.max_model_len()},
          {"permission", std::move(permissions)},
          {"sampling", std::move(sampling)}};
}

template <class Choice>
OrderedJson FinishJson(const Choice& choice) {
  return choice.has_finish_reason() ? OrderedJson(choice.finish_reason()) : OrderedJson();
}

// Of a line end of Unicode beyond ASCII, which DumpJson escapes; 0: the text begins with none.
size_t LineEndBytes(std::string_view text) {
  if (text.starts_with("\xC2\x85")) return 2;
  return text.starts_with("\xE2\x80\xA8") || text.starts_with("\xE2\x80\xA9") ? 3 : 0;
}

}  // namespace

std::string ToOpenAi(const v1::ChatCompletionResponse& answer, const AnswerShape& shape) {
  OrderedJson json = Head(answer);
  json["choices"] = OrderedJson::array();
  for (const v1::ChatChoice& choice : answer.choices()) {
    OrderedJson entry = {
        {"index", choice.index()},
        {"message", {{"role", choice.message().role()}, {"content", choice.message().content()}, {"refusal", nullptr}}},
        {"logprobs", ChatLogprobsJson(choice)},
        {"finish_reason", choice.finish_reason()}};
    if (shape.token_ids) entry["token_ids"] = Integers(choice.token_ids());
    json["choices"].push_back(std::move(entry));
  }
  AddUsage(answer, false, &json);
  if (shape.token_ids) json["prompt_token_ids"] = Integers(answer.prompt_token_ids());
  return DumpJson(json);
}

std::string ToOpenAi(const v1::ChatCompletionChunk& chunk, const AnswerShape& shape) {
  OrderedJson json = Head(chunk);
  json["choices"] = OrderedJson::array();
  for (const v1::ChatChunkChoice& choice : chunk.choices()) {
    OrderedJson delta = OrderedJson::object();
    if (choice.delta().has_role()) delta["role"] = choice.delta().role();
    if (choice.delta().has_content()) delta["content"] = choice.delta().content();
    OrderedJson entry = {{"index", choice.index()},
                         {"delta", std::move(delta)},
                         {"logprobs", ChatLogprobsJson(choice)},
                         {"finish_reason", FinishJson(choice)}};
    if (shape.token_ids) entry["token_ids"] = Integers(choice.token_ids());
    json["choices"].push_back(std::move(entry));
  }
  AddUsage(chunk, shape.usage_null, &json);
  if (chunk.prompt_token_ids_size() > 0) json["prompt_token_ids"] = Integers(chunk.prompt_token_ids());
  return DumpJson(json);
}

std::string ToOpenAi(const v1::CompletionResponse& answer, const AnswerShape& shape, bool stream) {
  OrderedJson json = Head(answer);
  json["choices"] = OrderedJson::array();
  for (const v1::CompletionChoice& choice : answer.choices()) {
    OrderedJson entry = {{"index", choice.index()},
                         {"text", choice.text()},
                         {"logprobs", CompletionLogprobsJson(choice)},
                         {"finish_reason", FinishJson(choice)}};
    if (shape.token_ids) {
      entry["token_ids"] = Integers(choice.token_ids());
      if (!stream || choice.prompt_token_ids_size() > 0)
        entry["prompt_token_ids"] = Integers(choice.prompt_token_ids());
    }
    json["choices"].push_back(std::move(entry));
  }
  AddUsage(answer, stream && shape.usage_null, &json);
  return DumpJson(json);
}

std::string ToOpenAi(const v1::Model& model) { return DumpJson(ModelJson(model)); }

std::string ToOpenAi(const v1::ListModelsResponse& models) {
  OrderedJson json = {{"object", models.object()}, {"data", OrderedJson::array()}};
  for (const v1::Model& model : models.data()) json["data"].push_back(ModelJson(model));
  return DumpJson(json);
}

std::string ToOpenAi(const v1::TokenizeResponse& answer) {
  return DumpJson(
      {{"count", answer.count()}, {"max_model_len", answer.max_model_len()}, {"tokens", Integers(answer.tokens())}});
}

std::string ToOpenAi(const v1::DetokenizeResponse& answer) { return DumpJson({{"prompt", answer.prompt()}}); }

void AppendJsonText(std::string_view text, std::string* out) {
  if (std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c != '"' && c != '\\' && c <= '~'; })) {
    out->append(text);  // nearly every token
    return;
  }
  if (!IsUtf8(text)) {
    const std::string quoted = DumpJson(OrderedJson(std::string(text)));
    out->append(quoted, 1, quoted.size() - 2);
    return;
  }
  constexpr std::string_view kShort = "\"\\\b\f\n\r\t", kNames = "\"\\bfnrt";
  size_t begin = 0;  // of what stands for itself
  for (size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    const size_t which = kShort.find(c), line_end = LineEndBytes(text.substr(at));
    if (which == std::string_view::npos && line_end == 0 && !(c >= 0 && c < ' ')) continue;
    out->append(text, begin, at - begin);
    if (which != std::string_view::npos) {
      out->append({'\\', kNames[which]});
    } else {
      size_t bytes = 0;
      absl::StrAppendFormat(out, "\\u%04x", static_cast<unsigned>(FirstCharacter(text.substr(at), &bytes)));
      at += bytes - 1;
    }
    begin = at + 1;
  }
  out->append(text, begin);
}

}  // namespace pangea
