// The text of a model: tokenizer and chat template of its checkpoint.
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

class ModelText final : public Text {
 public:
  static absl::StatusOr<std::unique_ptr<ModelText>> Load(const CheckpointHeader& header,
                                                         const std::string& template_file);

  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text, bool add_special,
                                              bool parse_special) const override;
  absl::StatusOr<std::vector<int32_t>> EncodeChat(std::string_view messages,
                                                  const TemplateOptions& options) const override;
  bool has_template() const override { return chat_template_.has_value(); }
  nlohmann::ordered_json Info() const override;
  const std::vector<std::string>& warnings() const override { return warnings_; }
  std::vector<int32_t> end_ids() const override { return ends_; }
  const PieceTable& pieces() const override { return tokenizer_->pieces(); }

  // What EncodeChat encodes, without its marks.
  absl::StatusOr<std::string> RenderChat(std::string_view messages, const TemplateOptions& options) const;

 private:
  ModelText() = default;
  absl::Status CheckLength(size_t bytes) const;
  // The request's own template, compiled; nothing: the model's is meant, and there is one.
  absl::StatusOr<std::optional<ChatTemplate>> OwnTemplate(const TemplateOptions& options) const;

  std::unique_ptr<Tokenizer> tokenizer_;
  std::map<std::string, std::string> names_;  // the template's bos_token, …
  std::string names_json_;                    // the same, as the template is given them
  std::vector<int32_t> ends_;
  std::optional<ChatTemplate> chat_template_;
  std::string template_source_, tokenizer_class_;
  std::vector<std::string> warnings_;
  int max_positions_ = 0;            // 0: the checkpoint does not say
  std::optional<size_t> max_bytes_;  // of a text that could fit max_positions
};

}  // namespace pangea
