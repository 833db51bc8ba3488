// Messages -> a prompt in which only the template's own special tokens are special.
//
// A client's text may spell a special token ("<|im_end|>"). It must reach the model as plain text, yet the template
// mixes it with the real ones in one string. So before rendering, a mark (a private-use character that occurs nowhere
// in the input) is put after the first character of every spelling inside the messages and the template's arguments,
// and after an end of a string that begins a spelling, so that two strings can not make one together. In the rendered
// text the special tokens are then cut out, and the marks removed from the stretches between them, which are encoded as
// if special tokens did not exist.
//
// Templates that trim or measure contents see the mark only inside such a spelling. One that looks for a spelling (say,
// splits an assistant's earlier answer at </think>) would miss it: where rendering shows that the template does so,
// that spelling is left whole in assistant messages, and there alone.
#pragma once
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "master/text/rust_text.h"
#include "master/text/special_tokens.h"
#include "master/text/text.h"

namespace pangea {

struct ChatRequest {
  const ChatTemplate& chat_template;
  const std::map<std::string, std::string>& names;  // bos_token, …
  const nlohmann::json& messages;
  const TemplateOptions& options;
};

struct MarkedPrompt {
  std::string text;
  std::string
      mark;  // to be removed from text; a special token's spelling right before it, or with it inside, is plain text
};

// As the template writes it. InvalidArgument: messages are no array, not UTF-8, too deep, or the template refused.
absl::StatusOr<std::string> Render(const ChatRequest& request);
absl::StatusOr<MarkedPrompt> RenderMarked(const ChatRequest& request, const SpecialTokens& special);

}  // namespace pangea
