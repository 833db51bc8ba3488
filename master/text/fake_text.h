// A Text for tests: id 0..255 is that byte, 256 "<s>" and 257 "<|end|>" are special, 258 "ab", 259 "\xC3" + "\xA9" ("é"
// whole), 260 " stop". Encode gives bytes (256 first when specials are added). The template gives 256, then each
// message's role and content as bytes.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "master/text/text.h"

namespace pangea {

constexpr int kFakeBos = 256, kFakeEnd = 257;

class FakeText final : public Text {
 public:
  FakeText();
  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text, bool add_special,
                                              bool parse_special) const override;
  absl::StatusOr<std::vector<int32_t>> EncodeChat(std::string_view messages,
                                                  const TemplateOptions& options) const override;
  bool has_template() const override { return true; }
  nlohmann::ordered_json Info() const override;
  const std::vector<std::string>& warnings() const override { return warnings_; }
  std::vector<int32_t> end_ids() const override { return {kFakeEnd}; }
  const PieceTable& pieces() const override { return pieces_; }

  std::function<void()> on_encode;  // called first, in the thread that encodes. Set before there are others

 private:
  PieceTable pieces_;
  std::vector<std::string> warnings_;
};

}  // namespace pangea
