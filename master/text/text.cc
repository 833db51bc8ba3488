#include "master/text/text.h"

#include "absl/strings/str_cat.h"
#include "configs/read_file.h"
#include "master/text/chat.h"
#include "master/text/text_files.h"
#include "master/text/text_state.h"
#include "master/text/utf8.h"

namespace pangea {
namespace {

constexpr size_t kMaxTextBytes = size_t{64} << 20;

absl::Status CheckLength(const Text::State& state, size_t bytes) {
  if (bytes > kMaxTextBytes) {
    return absl::OutOfRangeError(absl::StrCat("the text has ", bytes, " bytes; the limit is ", kMaxTextBytes));
  }
  // Cheaper than encoding megabytes only to find out that they do not fit.
  if (state.max_bytes && bytes > *state.max_bytes) {
    return absl::OutOfRangeError(absl::StrCat("the text has ", bytes, " bytes; no more than ", *state.max_bytes,
                                              " can fit the model's context of ", state.max_positions, " tokens"));
  }
  return absl::OkStatus();
}

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

Text::Text() : state_(std::make_unique<State>()) {}
Text::~Text() = default;

absl::StatusOr<std::unique_ptr<Text>> Text::Load(const CheckpointHeader& header, const std::string& template_file) {
  auto files = header.format == CheckpointFormat::kGguf ? ReadGguf(header) : ReadFolder(header);
  if (!files.ok()) {
    const std::string fault(files.status().message());
    if (fault.starts_with(header.path)) return files.status();
    return absl::Status(files.status().code(), absl::StrCat(header.path, ": ", fault));
  }
  std::unique_ptr<Text> out(new Text);
  State& state = *out->state_;
  state.tokenizer = std::move(files->tokenizer);
  state.names = std::move(files->names);
  state.ends = std::move(files->ends);
  state.tokenizer_class =
      files->tokenizer_class.empty() ? "PreTrainedTokenizerFast" : std::move(files->tokenizer_class);
  state.warnings = std::move(files->warnings);
  state.max_positions = header.config.max_positions;
  if (state.max_positions > 0) state.max_bytes = state.tokenizer->MaxBytes(state.max_positions);
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
    state.chat_template = std::move(*compiled);
    state.template_source = std::move(source);
  }
  return out;
}

absl::StatusOr<std::vector<int32_t>> Text::Encode(std::string_view text, bool add_special, bool parse_special) const {
  if (auto status = CheckLength(*state_, text.size()); !status.ok()) return status;
  if (!IsUtf8(text)) return absl::InvalidArgumentError("the text is not valid UTF-8");
  const Tokenizer& tokenizer = *state_->tokenizer;
  const auto stretches = tokenizer.special_tokens().Split(text, parse_special, tokenizer.splits_added());
  auto ids = EncodeStretches(tokenizer, text, stretches, {});
  if (!ids.ok() || !add_special) return ids;
  ids->insert(ids->begin(), tokenizer.prefix().begin(), tokenizer.prefix().end());
  ids->insert(ids->end(), tokenizer.suffix().begin(), tokenizer.suffix().end());
  return ids;
}

absl::StatusOr<std::vector<int32_t>> Text::EncodeChat(std::string_view messages, const TemplateOptions& options) const {
  const auto own = state_->OwnTemplate(options);
  if (!own.ok()) return own.status();
  const auto& chat_template = *own ? **own : *state_->chat_template;
  const Tokenizer& tokenizer = *state_->tokenizer;
  const auto prompt =
      RenderChatTemplate({chat_template, state_->names, messages, options}, &tokenizer.special_tokens());
  if (!prompt.ok()) return prompt.status();
  if (auto status = CheckLength(*state_, prompt->text.size()); !status.ok()) return status;
  const auto stretches = tokenizer.special_tokens().Split(prompt->text, true, tokenizer.splits_added(), prompt->mark);
  return EncodeStretches(tokenizer, prompt->text, stretches, prompt->mark);
}

absl::StatusOr<std::string> Text::RenderChat(std::string_view messages, const TemplateOptions& options) const {
  const auto own = state_->OwnTemplate(options);
  if (!own.ok()) return own.status();
  auto out = RenderChatTemplate({*own ? **own : *state_->chat_template, state_->names, messages, options}, nullptr);
  if (!out.ok()) return out.status();
  return std::move(out->text);
}

absl::StatusOr<std::optional<ChatTemplate>> Text::State::OwnTemplate(const TemplateOptions& options) const {
  if (!options.override_template.empty()) {
    auto compiled = ChatTemplate::Load(options.override_template);
    if (!compiled.ok()) return compiled.status();
    return std::optional<ChatTemplate>(std::move(*compiled));
  }
  if (!chat_template) return absl::InvalidArgumentError("the model has no chat template");
  return std::optional<ChatTemplate>();
}

nlohmann::ordered_json Text::Info() const {
  nlohmann::ordered_json info = {{"tokenizer_class", state_->tokenizer_class}};
  for (const char* name : {"bos_token", "eos_token", "pad_token"}) info[name] = nullptr;
  for (const auto& [name, token] : state_->names) info[name] = token;
  if (has_template()) {
    info["chat_template"] = state_->template_source;
  } else {
    info["chat_template"] = nullptr;
  }
  return info;
}

bool Text::has_template() const { return state_->chat_template.has_value(); }
int Text::vocab() const { return static_cast<int>(state_->tokenizer->pieces().pieces.size()); }
const std::vector<std::string>& Text::warnings() const { return state_->warnings; }
std::vector<int32_t> Text::end_ids() const { return state_->ends; }

bool Text::IsSpecial(int32_t id) const {
  const auto& pieces = state_->tokenizer->pieces();
  return pieces.Known(id) && pieces.pieces[id].special;
}

std::string Text::Bytes(int32_t id) const {
  const auto& pieces = state_->tokenizer->pieces();
  return pieces.Known(id) ? pieces.pieces[id].bytes : "";
}

std::string Text::Decode(const std::vector<int32_t>& ids, bool skip_special) const {
  Detokenizer detokenizer(*this, skip_special);
  std::string out;
  for (const int32_t id : ids) out += detokenizer.Push(id);
  return out + detokenizer.Flush();
}

}  // namespace pangea
