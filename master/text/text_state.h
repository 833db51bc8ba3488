// What a Text holds.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "master/text/rust_text.h"
#include "master/text/text.h"
#include "master/text/tokenizer.h"

namespace pangea {

struct Text::State {
  std::unique_ptr<Tokenizer> tokenizer;
  std::map<std::string, std::string> names;  // the template's bos_token, …
  std::string names_json;                    // the same, as the template is given them
  std::vector<int32_t> ends;
  std::optional<ChatTemplate> chat_template;
  std::string template_source, tokenizer_class;
  std::vector<std::string> warnings;
  int max_positions = 0;            // 0: the checkpoint does not say
  std::optional<size_t> max_bytes;  // of a text that could fit max_positions

  // The request's own template, compiled; nothing: the model's is meant, and there is one.
  absl::StatusOr<std::optional<ChatTemplate>> OwnTemplate(const TemplateOptions& options) const;
};

}  // namespace pangea
