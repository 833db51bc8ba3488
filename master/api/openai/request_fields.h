// Names of request fields that no message has, though clients send them: to OpenAI, vLLM, SGLang, llama.cpp's server,
// Text Generation Inference, Ollama, text-generation-webui. Whoever adds a field to generation.proto takes it off here.
#pragma once
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "nlohmann/json.hpp"

namespace pangea {

// Would change the answer: ignored it would fail open, so it is refused when it asks for something.
struct RefusedField {
  std::string_view name;
  // Values that ask for nothing, as JSON, besides null: mostly the default of the servers that have the field.
  const char* neutral = "[]";
  // Also "", [], {} and false ask for nothing.
  bool empty_is_neutral = true;
  // It means the same inside a message; other names there are taken for a client's own notes.
  bool in_messages = false;
};
std::span<const RefusedField> RefusedFields();

// Cannot change what is answered: ignored, and named in the answer's x-pangea-ignored-fields. (So are names that are in
// neither list.)
struct HarmlessField {
  std::string_view name, why;
};
std::span<const HarmlessField> HarmlessFields();

// InvalidArgument naming `path` when the field is refused and asks for something. *refusable: it is a refused one.
absl::Status CheckUnserved(const std::string& name, const std::string& path, const nlohmann::json& value,
                           bool* refusable);

}  // namespace pangea
