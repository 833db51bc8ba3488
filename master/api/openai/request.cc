#include "master/api/openai/request.h"

#include <malloc.h>

#include <cmath>
#include <limits>
#include <set>

#include "absl/strings/str_cat.h"
#include "master/api/openai/api_error.h"
#include "master/api/openai/request_fields.h"

namespace pangea {
namespace {

namespace pb = google::protobuf;
using Json = nlohmann::json;

constexpr size_t kIgnoredNames = 32, kNameBytes = 64;
constexpr size_t kLargeBody = 1 << 20;

const char* TypeName(const Json& value) {
  if (value.is_number_integer()) return "an integer";
  if (value.is_number()) return "a number";
  if (value.is_object()) return "an object";
  if (value.is_array()) return "an array";
  if (value.is_string()) return "a string";
  return value.is_boolean() ? "a boolean" : "null";
}

absl::Status WrongType(const std::string& path, const char* want, const Json& got) {
  return BadParam(path, absl::StrCat("'", path, "' must be ", want, ", not ", TypeName(got)));
}

absl::Status ToInteger(const std::string& path, const Json& value, int64_t* out) {
  if (value.is_number_unsigned()) {
    const uint64_t u = value.get<uint64_t>();
    if (u > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) && path != "seed") {
      return BadParam(path, absl::StrCat("'", path, "' is too large"));
    }
    *out = static_cast<int64_t>(u);
    return absl::OkStatus();
  }
  if (value.is_number_integer()) {
    *out = value.get<int64_t>();
    return absl::OkStatus();
  }
  if (!value.is_number()) return WrongType(path, "an integer", value);
  const double d = value.get<double>();
  if (d != std::floor(d)) return BadParam(path, absl::StrCat("'", path, "' must be an integer"));
  // Also JSON integers beyond 64 bits come as doubles.
  if (!(d >= -9223372036854775808.0 && d < 9223372036854775808.0))
    return BadParam(path, absl::StrCat("'", path, "' is too large"));
  *out = static_cast<int64_t>(d);
  return absl::OkStatus();
}

// Texts are moved out of the tree: a prompt is long.
void ToValue(Json& json, pb::Value* value);

void ToStruct(Json& json, pb::Struct* out) {
  auto& fields = *out->mutable_fields();
  for (const auto& item : json.items()) ToValue(item.value(), &fields[item.key()]);
}

// Recursion is bounded by the depth limit that the text was read with.
void ToValue(Json& json, pb::Value* value) {
  if (json.is_string()) {
    value->set_string_value(std::move(json.get_ref<std::string&>()));
  } else if (json.is_boolean()) {
    value->set_bool_value(json.get<bool>());
  } else if (json.is_number()) {
    value->set_number_value(json.get<double>());
  } else if (json.is_array()) {
    auto* list = value->mutable_list_value();
    list->mutable_values()->Reserve(static_cast<int>(json.size()));
    for (auto& element : json) ToValue(element, list->add_values());
  } else if (json.is_object()) {
    ToStruct(json, value->mutable_struct_value());
  } else {
    value->set_null_value(pb::NULL_VALUE);
  }
}

class Filler {
 public:
  explicit Filler(std::vector<std::string>* ignored) : ignored_(ignored) {}

  absl::Status Fill(Json& object, const std::string& prefix, pb::Message* message) {
    const pb::Descriptor* type = message->GetDescriptor();
    for (const auto& item : object.items()) {
      const std::string path = prefix.empty() ? item.key() : absl::StrCat(prefix, ".", item.key());
      const pb::FieldDescriptor* field = type->FindFieldByName(item.key());
      absl::Status status;
      if (field == nullptr) {
        bool refusable = false;
        status = CheckUnserved(item.key(), path, item.value(), &refusable);
        if (!refusable) Ignore(item.key());
      } else if (!item.value().is_null()) {
        if (item.key() == "user" && prefix.empty()) Ignore("user");
        status = field->is_map()        ? Map(item.value(), path, field, message)
                 : field->is_repeated() ? Repeated(item.value(), path, field, message)
                                        : Single(item.value(), path, field, message);
      }
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

 private:
  void Ignore(const std::string& name) {
    if (ignored_->size() < kIgnoredNames && seen_.insert(name).second) ignored_->push_back(name);
  }

  absl::Status Single(Json& value, const std::string& path, const pb::FieldDescriptor* field, pb::Message* message) {
    const pb::Reflection* r = message->GetReflection();
    switch (field->cpp_type()) {
      case pb::FieldDescriptor::CPPTYPE_INT64: {
        int64_t n = 0;
        if (auto s = ToInteger(path, value, &n); !s.ok()) return s;
        r->SetInt64(message, field, n);
        return absl::OkStatus();
      }
      case pb::FieldDescriptor::CPPTYPE_DOUBLE:
        if (!value.is_number()) return WrongType(path, "a number", value);
        r->SetDouble(message, field, value.get<double>());
        return absl::OkStatus();
      case pb::FieldDescriptor::CPPTYPE_BOOL:
        if (!value.is_boolean()) return WrongType(path, "a boolean", value);
        r->SetBool(message, field, value.get<bool>());
        return absl::OkStatus();
      case pb::FieldDescriptor::CPPTYPE_STRING:
        if (!value.is_string()) return WrongType(path, "a string", value);
        r->SetString(message, field, std::move(value.get_ref<std::string&>()));
        return absl::OkStatus();
      default:
        return SubMessage(value, path, r->MutableMessage(message, field));
    }
  }

  absl::Status SubMessage(Json& value, const std::string& path, pb::Message* message) {
    if (auto* any = dynamic_cast<pb::Value*>(message)) {
      ToValue(value, any);
      return absl::OkStatus();
    }
    if (!value.is_object()) return WrongType(path, "an object", value);
    if (auto* fields = dynamic_cast<pb::Struct*>(message)) {
      ToStruct(value, fields);
      return absl::OkStatus();
    }
    return Fill(value, path, message);
  }

  absl::Status Repeated(Json& value, const std::string& path, const pb::FieldDescriptor* field, pb::Message* message) {
    if (!value.is_array()) return WrongType(path, "an array", value);
    const pb::Reflection* r = message->GetReflection();
    for (size_t i = 0; i < value.size(); ++i) {
      const std::string element = absl::StrCat(path, "[", i, "]");
      absl::Status status;
      if (field->cpp_type() == pb::FieldDescriptor::CPPTYPE_INT64) {
        int64_t n = 0;
        status = ToInteger(element, value[i], &n);
        r->AddInt64(message, field, n);
      } else {
        status = SubMessage(value[i], element, r->AddMessage(message, field));
      }
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  // logit_bias: the one map, string -> number.
  absl::Status Map(const Json& value, const std::string& path, const pb::FieldDescriptor* field, pb::Message* message) {
    if (!value.is_object()) return WrongType(path, "an object", value);
    const pb::Reflection* r = message->GetReflection();
    const pb::Descriptor* entry = field->message_type();
    for (const auto& item : value.items()) {
      if (!item.value().is_number())
        return WrongType(absl::StrCat(path, ".", item.key().substr(0, kNameBytes)), "a number", item.value());
      pb::Message* added = r->AddMessage(message, field);
      added->GetReflection()->SetString(added, entry->map_key(), item.key());
      added->GetReflection()->SetDouble(added, entry->map_value(), item.value().get<double>());
    }
    return absl::OkStatus();
  }

  std::vector<std::string>* ignored_;
  std::set<std::string> seen_;
};

// Where the order of members says something, and the kind of numbers (a template's arguments, a schema), the JSON text
// goes on as it is: into the field of the same name that ends in _json, or into a value that is that text.
constexpr const char* kAsText[] = {"chat_template_kwargs", "response_format", "structured_outputs"};

absl::Status TakeTexts(JsonDocument* body, pb::Message* message) {
  Json* json = &body->value;
  for (const std::string name : kAsText) {
    const auto* field = message->GetDescriptor()->FindFieldByName(name + "_json");
    const auto it = json->find(name);
    if (field == nullptr || it == json->end() || it->is_null()) continue;
    if (!it->is_object()) return WrongType(name, "an object", *it);
    if (json->contains(name + "_json")) return BadParam(name, absl::StrCat("'", name, "' is given twice"));
    message->GetReflection()->SetString(message, field, std::string(body->members.at(name)));
    json->erase(it);
  }
  const bool known = message->GetDescriptor()->FindFieldByName("guided_json") != nullptr;
  if (const auto it = json->find("guided_json"); known && it != json->end() && it->is_structured())
    *it = std::string(body->members.at("guided_json"));
  return absl::OkStatus();
}

absl::Status ParseChecked(std::string_view body, const JsonLimits& limits, pb::Message* message,
                          std::vector<std::string>* ignored) {
  auto read = ReadJson(body, limits);
  if (!read.ok()) return read.status();
  Json& json = read->value;
  if (!json.is_object())
    return absl::InvalidArgumentError(absl::StrCat("the body must be a JSON object, not ", TypeName(json)));
  // Left out it is the served one; null or "" is a client that means to name one and does not know it.
  if (const auto model = json.find("model"); model != json.end() && (model->is_null() || *model == ""))
    return BadParam("model", "'model' must be the name of a model, or left out");
  if (auto s = TakeTexts(&*read, message); !s.ok()) return s;
  return Filler(ignored).Fill(json, "", message);
}

}  // namespace

absl::Status ParseOpenAi(std::string_view body, const JsonLimits& limits, pb::Message* message,
                         std::vector<std::string>* ignored) {
  absl::Status status = ParseChecked(body, limits, message, ignored);
  // Its tree was many times as large, in small pieces that the allocator would keep, for every thread anew.
  if (body.size() >= kLargeBody) malloc_trim(0);
  return status;
}

std::string IgnoredHeader(const std::vector<std::string>& ignored) {
  std::string header;
  for (const std::string& name : ignored) {
    const bool safe = !name.empty() && name.size() <= kNameBytes &&
                      name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") ==
                          std::string::npos;
    if (safe) absl::StrAppend(&header, header.empty() ? "" : ", ", name);
  }
  return header;
}

Json ToJson(const pb::Value& value) {
  switch (value.kind_case()) {
    case pb::Value::kStringValue:
      return value.string_value();
    case pb::Value::kBoolValue:
      return value.bool_value();
    case pb::Value::kNumberValue: {
      // A Struct knows only doubles; a template that prints 5 must not print 5.0.
      const double d = value.number_value();
      if (d == std::floor(d) && std::fabs(d) < 9007199254740992.0) return static_cast<int64_t>(d);
      return d;
    }
    case pb::Value::kListValue: {
      Json list = Json::array();
      for (const auto& element : value.list_value().values()) list.push_back(ToJson(element));
      return list;
    }
    case pb::Value::kStructValue:
      return ToJson(value.struct_value());
    default:
      return nullptr;
  }
}

Json ToJson(const pb::Struct& value) {
  Json object = Json::object();
  for (const auto& [name, field] : value.fields()) object[name] = ToJson(field);
  return object;
}

}  // namespace pangea
