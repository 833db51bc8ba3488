#include "master/text/model_text.h"

#include "absl/strings/str_cat.h"
#include "configs/read_file.h"
#include "master/text/chat.h"
#include "master/text/text_files.h"
#include "master/text/utf8.h"
#include "nlohmann/json.hpp"

namespace pangea {
namespace {

constexpr size_t kMaxTextBytes = size_t{64} << 20;

absl::StatusOr<std::vector<int32_t>> EncodeStretches(const Tokenizer& tokenizer, std::string_view whole,
                                                     const std::vector<Stretch>& stretches, std::string_view mark) {
  std::vector<int32_t> ids;
  for (const auto& stretch : stretches) {
    if (stretch.id >= 0) {
      ids.push_back(stretch.id);
      continue;
    }
    const bool first = stretch.text.data() == whole.data();
    std::string unmarked;
    std::string_view text = stretch.text;
    if (!mark.empty() && text.find(mark) != std::string_view::npos) text = unmarked = ReplaceAll(text, mark, "");
    if (auto status = tokenizer.EncodeStretch(text, first, &ids); !status.ok()) return status;
  }
  return ids;
}

}  // namespace

absl::Status ModelText::CheckLength(size_t bytes) const {
  if (bytes > kMaxTextBytes) {
    return absl::OutOfRangeError(absl::StrCat("the text has ", bytes, " bytes; the limit is ", kMaxTextBytes));
  }
  // Cheaper than encoding megabytes only to find out that they do not fit.
  if (max_bytes_ && bytes > *max_bytes_) {
    return absl::OutOfRangeError(absl::StrCat("the text has ", bytes, " bytes; no more than ", *max_bytes_,
                                              " can fit the model's context of ", max_positions_, " tokens"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Text>> Text::Load(const CheckpointHeader& header, const std::string& template_file) {
  return ModelText::Load(header, template_file);
}

absl::StatusOr<std::unique_ptr<ModelText>> ModelText::Load(const CheckpointHeader& header,
                                                           const std::string& template_file) {
  auto files = header.format == CheckpointFormat::kGguf ? ReadGguf(header) : ReadFolder(header);
  if (!files.ok()) {
    const std::string fault(files.status().message());
    if (fault.starts_with(header.path)) return files.status();
    return absl::Status(files.status().code(), absl::StrCat(header.path, ": ", fault));
  }
  std::unique_ptr<ModelText> out(new ModelText);
  out->tokenizer_ = std::move(files->tokenizer);
  out->names_ = std::move(files->names);
  out->names_json_ = nlohmann::json(out->names_).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  out->ends_ = std::move(files->ends);
  out->tokenizer_class_ =
      files->tokenizer_class.empty() ? "PreTrainedTokenizerFast" : std::move(files->tokenizer_class);
  out->warnings_ = std::move(files->warnings);
  out->max_positions_ = header.config.max_positions;
  if (out->max_positions_ > 0) out->max_bytes_ = out->tokenizer_->MaxBytes(out->max_positions_);
  std::string source = std::move(files->chat_template);
  if (!template_file.empty()) {
    auto text = ReadFile(template_file, kMaxTemplateBytes);
    if (!text.ok()) return text.status();
    source = std::move(*text);
  }
  if (!source.empty()) {
    auto compiled = ChatTemplate::Load(source);
    if (!compiled.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(template_file.empty() ? header.path : template_file, ": ", compiled.status().message()));
    }
    out->chat_template_ = std::move(*compiled);
    out->template_source_ = std::move(source);
  }
  return out;
}

absl::StatusOr<std::vector<int32_t>> ModelText::Encode(std::string_view text, bool add_special,
                                                       bool parse_special) const {
  if (auto status = CheckLength(text.size()); !status.ok()) return status;
  if (!IsUtf8(text)) return absl::InvalidArgumentError("the text is not valid UTF-8");
  const Tokenizer& tokenizer = *tokenizer_;
  const auto stretches = tokenizer.special_tokens().Split(text, parse_special, tokenizer.splits_added());
  auto ids = EncodeStretches(tokenizer, text, stretches, {});
  if (!ids.ok() || !add_special) return ids;
  ids->insert(ids->begin(), tokenizer.prefix().begin(), tokenizer.prefix().end());
  ids->insert(ids->end(), tokenizer.suffix().begin(), tokenizer.suffix().end());
  return ids;
}

absl::StatusOr<std::vector<int32_t>> ModelText::EncodeChat(std::string_view messages,
                                                           const TemplateOptions& options) const {
  const auto own = OwnTemplate(options);
  if (!own.ok()) return own.status();
  const auto& chat_template = *own ? **own : *chat_template_;
  const Tokenizer& tokenizer = *tokenizer_;
  const auto prompt = RenderChatTemplate({chat_template, names_json_, messages, options}, &tokenizer.special_tokens());
  if (!prompt.ok()) return prompt.status();
  if (auto status = CheckLength(prompt->text.size()); !status.ok()) return status;
  const auto stretches = tokenizer.special_tokens().Split(prompt->text, true, tokenizer.splits_added(), prompt->mark);
  return EncodeStretches(tokenizer, prompt->text, stretches, prompt->mark);
}

absl::StatusOr<std::string> ModelText::RenderChat(std::string_view messages, const TemplateOptions& options) const {
  const auto own = OwnTemplate(options);
  if (!own.ok()) return own.status();
  auto out = RenderChatTemplate({*own ? **own : *chat_template_, names_json_, messages, options}, nullptr);
  if (!out.ok()) return out.status();
  return std::move(out->text);
}

absl::StatusOr<std::optional<ChatTemplate>> ModelText::OwnTemplate(const TemplateOptions& options) const {
  if (!options.override_template.empty()) {
    auto compiled = ChatTemplate::Load(options.override_template);
    if (!compiled.ok()) return compiled.status();
    return std::optional<ChatTemplate>(std::move(*compiled));
  }
  if (!chat_template_) return absl::InvalidArgumentError("the model has no chat template");
  return std::optional<ChatTemplate>();
}

nlohmann::ordered_json ModelText::Info() const {
  nlohmann::ordered_json info = {{"tokenizer_class", tokenizer_class_}};
  for (const char* name : {"bos_token", "eos_token", "pad_token"}) info[name] = nullptr;
  for (const auto& [name, token] : names_) info[name] = token;
  if (has_template()) {
    info["chat_template"] = template_source_;
  } else {
    info["chat_template"] = nullptr;
  }
  return info;
}

}  // namespace pangea
