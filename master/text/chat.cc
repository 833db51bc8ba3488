#include "master/text/chat.h"

namespace pangea {
namespace {

constexpr size_t kMinOutput = size_t{8} << 20;

PangeaText Borrow(std::string_view text) { return {reinterpret_cast<const uint8_t*>(text.data()), text.size()}; }

}  // namespace

absl::StatusOr<ChatTemplate::Rendered> RenderChatTemplate(const ChatRequest& request, const SpecialTokens* special) {
  const std::string_view kwargs = request.options.kwargs;
  PangeaChat chat;
  chat.messages = Borrow(request.messages);
  chat.kwargs = Borrow(kwargs);
  chat.names = Borrow(request.names);
  chat.add_generation_prompt = request.options.add_generation_prompt;
  chat.max_output = kMinOutput + 4 * (request.messages.size() + kwargs.size());
  return request.chat_template.Render(chat, special);
}

}  // namespace pangea
