#include "master/api/generation/structured_input.h"

#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "master/api/generation/context.h"
#include "master/api/openai/api_error.h"
#include "master/api/openai/json_reader.h"
#include "master/api/openai/request.h"

namespace pangea {
namespace {

namespace pb = google::protobuf;
using nlohmann::json;

constexpr char kAnyObject[] = R"({"type":"object"})";

std::string Dump(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

class FormReader {
 public:
  explicit FormReader(const Deployment::Limits& limits) : limits_(limits) {}

  absl::Status Add(const std::string& name, GrammarKind kind, std::string text) {
    if (form_) return BadParam(name, absl::StrCat("'", name, "' and '", form_->name, "' must not both be given"));
    if (static_cast<int64_t>(text.size()) > limits_.grammar_bytes) {
      return OverLimit("grammar_bytes",
                       BadParam(name, absl::StrCat("'", name, "' may have at most ", limits_.grammar_bytes,
                                                   " bytes, not ", text.size())));
    }
    form_ = AnswerForm{{kind, std::move(text)}, name};
    return absl::OkStatus();
  }

  absl::Status ResponseFormat(const std::string& name, const std::string& text) {
    auto read = Open(name, text);
    if (!read.ok()) return read.status();
    if (read->value.empty()) return absl::OkStatus();
    const auto type = read->value.find("type");
    if (type == read->value.end() || !type->is_string())
      return BadParam(name + ".type", absl::StrCat("'", name, ".type' must be a string"));
    const bool schema = *type == "json_schema";
    for (const auto& item : read->value.items()) {
      const bool known = item.key() == "type" || (schema && item.key() == "json_schema");
      if (!known && !item.value().is_null()) return Unknown(name, item.key());
    }
    if (*type == "text") return absl::OkStatus();
    if (*type == "json_object") return Add(name, GrammarKind::kSchema, kAnyObject);
    if (schema) return JsonSchema(name + ".json_schema", *read);
    return BadParam(name + ".type", absl::StrCat("'", name, ".type' must be text, json_object or json_schema, not '",
                                                 type->get<std::string>().substr(0, 64), "'"));
  }

  absl::Status StructuredOutputs(const std::string& name, const std::string& text) {
    auto read = Open(name, text);
    if (!read.ok()) return read.status();
    for (const auto& item : read->value.items()) {
      const json& value = item.value();
      const std::string &key = item.key(), path = absl::StrCat(name, ".", key);
      // There is nothing to fall back to; vLLM's other switches ask for nothing when false.
      const bool off = value == false && (key.starts_with("disable_") || key == "json_object");
      if (value.is_null() || off || key == "disable_fallback") continue;
      absl::Status s;
      if (key == "json") {
        s = Schema(path, value, read->members.at(key));
      } else if (key == "regex" || key == "grammar") {
        s = value.is_string()
                ? Add(path, key == "regex" ? GrammarKind::kRegex : GrammarKind::kLark, value.get<std::string>())
                : BadParam(path, absl::StrCat("'", path, "' must be a string"));
      } else if (key == "choice") {
        s = Choice(path, value);
      } else if (key == "json_object" && value == true) {
        s = Add(path, GrammarKind::kSchema, kAnyObject);
      } else {
        s = Unknown(name, key);
      }
      if (!s.ok()) return s;
    }
    return form_ || read->value.empty()
               ? absl::OkStatus()
               : BadParam(name,
                          absl::StrCat("'", name, "' must have one of json, regex, choice, grammar, json_object"));
  }

  absl::Status Choice(const std::string& name, const json& value) {
    bool words = value.is_array() && !value.empty();
    for (const json& word : value) words &= word.is_string() && word != "";
    if (!words) return BadParam(name, absl::StrCat("'", name, "' must be a list of strings, none of them empty"));
    return Add(name, GrammarKind::kChoice, Dump(value));
  }

  // A schema, or its text as a string.
  absl::Status Schema(const std::string& name, const json& value, std::string_view text) {
    if (value.is_string()) return Add(name, GrammarKind::kSchema, value.get<std::string>());
    if (!value.is_object() && !value.is_boolean())
      return BadParam(name, absl::StrCat("'", name, "' must be an object"));
    return Add(name, GrammarKind::kSchema, std::string(text));
  }

  std::optional<AnswerForm> Take() { return std::move(form_); }

 private:
  static absl::Status Unknown(const std::string& name, const std::string& key) {
    const std::string path = absl::StrCat(name, ".", key.substr(0, 64));
    return BadParam(path, absl::StrCat("'", path, "' is not supported"));
  }

  absl::StatusOr<JsonDocument> Open(const std::string& name, std::string_view text) const {
    auto read = ReadJson(text, {.depth = limits_.json_depth});
    if (!read.ok()) return BadParam(name, absl::StrCat("'", name, "': ", read.status().message()));
    if (!read->value.is_object()) return BadParam(name, absl::StrCat("'", name, "' must be an object"));
    return read;
  }

  // {"name": …, "description": …, "schema": …, "strict": …}: strict or not, the answer follows it.
  absl::Status JsonSchema(const std::string& name, const JsonDocument& outer) {
    const auto found = outer.members.find("json_schema");
    if (found == outer.members.end()) return BadParam(name, absl::StrCat("'", name, "' is required"));
    auto read = Open(name, found->second);
    if (!read.ok()) return read.status();
    for (const auto& [key, want] : {std::pair("name", json::value_t::string),
                                    {"description", json::value_t::string},
                                    {"strict", json::value_t::boolean}}) {
      const auto it = read->value.find(key);
      if (it != read->value.end() && !it->is_null() && it->type() != want) {
        return BadParam(
            absl::StrCat(name, ".", key),
            absl::StrCat("'", name, ".", key, "' must be a ", want == json::value_t::string ? "string" : "boolean"));
      }
    }
    const auto schema = read->value.find("schema");
    if (schema == read->value.end() || schema->is_null() || schema->is_string())
      return BadParam(name + ".schema", absl::StrCat("'", name, ".schema' must be an object"));
    return Schema(name + ".schema", *schema, read->members.at("schema"));
  }

  const Deployment::Limits& limits_;
  std::optional<AnswerForm> form_;
};

// As a JSON text where there is one; both together are one too many.
template <class Read>
absl::Status OneOf(const std::string& name, bool has_text, const std::string& text, bool has, const pb::Struct& value,
                   Read read) {
  if (has_text && has) return BadParam(name, absl::StrCat("'", name, "_json' and '", name, "' must not both be given"));
  if (has_text) return read(name, text);
  return has ? read(name, Dump(ToJson(value))) : absl::OkStatus();
}

template <class M>
absl::StatusOr<std::optional<AnswerForm>> Read(const M& m, const ApiContext& context) {
  FormReader reader(context.deployment->limits);
  absl::Status s =
      OneOf("response_format", m.has_response_format_json(), m.response_format_json(), m.has_response_format(),
            m.response_format(), [&](const auto& name, const auto& text) { return reader.ResponseFormat(name, text); });
  if (!s.ok()) return s;
  s = OneOf("structured_outputs", m.has_structured_outputs_json(), m.structured_outputs_json(),
            m.has_structured_outputs(), m.structured_outputs(),
            [&](const auto& name, const auto& text) { return reader.StructuredOutputs(name, text); });
  if (!s.ok()) return s;
  const auto given = [](bool has, const pb::Value& v) { return has && v.kind_case() != pb::Value::kNullValue; };
  if (given(m.has_guided_json(), m.guided_json())) {
    const json value = ToJson(m.guided_json());
    if (s = reader.Schema("guided_json", value, Dump(value)); !s.ok()) return s;
  }
  if (!m.guided_regex().empty()) {
    if (s = reader.Add("guided_regex", GrammarKind::kRegex, m.guided_regex()); !s.ok()) return s;
  }
  if (given(m.has_guided_choice(), m.guided_choice())) {
    if (s = reader.Choice("guided_choice", ToJson(m.guided_choice())); !s.ok()) return s;
  }
  if (!m.guided_grammar().empty()) {
    if (s = reader.Add("guided_grammar", GrammarKind::kLark, m.guided_grammar()); !s.ok()) return s;
  }
  std::optional<AnswerForm> form = reader.Take();
  if (form && m.ignore_eos()) {
    return BadParam("ignore_eos", absl::StrCat("'ignore_eos' and '", form->name,
                                               "' must not both be given: the form says where an answer ends"));
  }
  return form;
}

}  // namespace

absl::StatusOr<std::optional<AnswerForm>> CheckForm(const v1::ChatCompletionRequest& request,
                                                    const ApiContext& context) {
  return Read(request, context);
}
absl::StatusOr<std::optional<AnswerForm>> CheckForm(const v1::CompletionRequest& request, const ApiContext& context) {
  return Read(request, context);
}

}  // namespace pangea
