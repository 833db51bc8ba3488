#include "master/text/fake_text.h"

#include "nlohmann/json.hpp"

namespace pangea {

FakeText::FakeText() {
  for (int byte = 0; byte < 256; ++byte) pieces_.pieces.push_back({std::string(1, static_cast<char>(byte))});
  for (const char* special : {"<s>", "<|end|>"}) pieces_.pieces.push_back({special, true});
  for (const char* more : {"ab", "\xC3\xA9", " stop"}) pieces_.pieces.push_back({more});
}

absl::StatusOr<std::vector<int32_t>> FakeText::Encode(std::string_view text, bool add_special,
                                                      bool parse_special) const {
  if (on_encode) on_encode();
  std::vector<int32_t> ids;
  if (add_special) ids.push_back(kFakeBos);
  for (size_t at = 0; at < text.size(); ++at) {
    const std::string_view rest = text.substr(at);
    const bool special = parse_special && (rest.starts_with("<s>") || rest.starts_with("<|end|>"));
    ids.push_back(!special ? static_cast<unsigned char>(text[at]) : text[at + 1] == 's' ? kFakeBos : kFakeEnd);
    if (special) at += Bytes(ids.back()).size() - 1;
  }
  return ids;
}

absl::StatusOr<std::vector<int32_t>> FakeText::EncodeChat(std::string_view messages,
                                                          const TemplateOptions& options) const {
  if (nlohmann::json::parse(options.kwargs).contains("refuse"))
    return absl::InvalidArgumentError("the template refused: roles must alternate");
  std::string text;
  for (const auto& m : nlohmann::json::parse(messages))
    text += m["role"].get<std::string>() + ":" + m["content"].get<std::string>() + "\n";
  return Encode(options.add_generation_prompt ? text + ">" : text, true, false);
}

nlohmann::ordered_json FakeText::Info() const { return {{"eos_token", "<|end|>"}, {"chat_template", nullptr}}; }

}  // namespace pangea
