// Answers as OpenAI's JSON, with exactly the fields that its schemas require: absent is written as null where the
// schema says so. Thread safe.
#pragma once
#include <string>
#include <string_view>

#include "protos/generation.pb.h"

namespace pangea {

struct AnswerShape {
  bool token_ids = false;   // return_token_ids: absent fields otherwise
  bool usage_null = false;  // include_usage: chunks without usage carry null
};
std::string ToOpenAi(const v1::ChatCompletionResponse& answer, const AnswerShape& shape);
std::string ToOpenAi(const v1::ChatCompletionChunk& chunk, const AnswerShape& shape);
// stream: this is a chunk, and finish_reason may be null.
std::string ToOpenAi(const v1::CompletionResponse& answer, const AnswerShape& shape, bool stream);
std::string ToOpenAi(const v1::Model& model);
std::string ToOpenAi(const v1::ListModelsResponse& models);
std::string ToOpenAi(const v1::TokenizeResponse& answer);
std::string ToOpenAi(const v1::DetokenizeResponse& answer);

// Appends `text` as it stands between the quotes of a JSON string, byte for byte as the functions above write it: what
// is no UTF-8 becomes U+FFFD.
void AppendJsonText(std::string_view text, std::string* out);

}  // namespace pangea
