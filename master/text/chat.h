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
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "master/text/rust_text.h"
#include "master/text/special_tokens.h"
#include "master/text/text.h"

namespace pangea {

struct ChatRequest {
  const ChatTemplate& chat_template;
  std::string_view names;     // a JSON object: bos_token, …
  std::string_view messages;  // a JSON array
  const TemplateOptions& options;
};

// As the template writes it; with `special`, marked: a special token's spelling right before the mark, or with it
// inside, is plain text, and the marks are to be removed. InvalidArgument: see ChatTemplate::Render.
absl::StatusOr<ChatTemplate::Rendered> RenderChatTemplate(const ChatRequest& request, const SpecialTokens* special);

}  // namespace pangea
