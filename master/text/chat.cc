#include "master/text/chat.h"

#include <set>

#include "absl/strings/str_cat.h"
#include "master/text/pieces.h"
#include "master/text/utf8.h"

namespace pangea {
namespace {

using nlohmann::json;

constexpr int kMaxDepth = 64;
constexpr size_t kMinOutput = size_t{8} << 20;
constexpr size_t kMaxProbes = 8;

// Every string of a value, names of members included, through `change`. False when nested too deeply.
template <typename Change>
bool Walk(const json& in, int depth, const Change& change, json* out) {
  if (depth > kMaxDepth) return false;
  if (in.is_string()) {
    *out = change(in.get_ref<const std::string&>());
  } else if (in.is_array()) {
    *out = json::array();
    for (const auto& item : in) {
      if (!Walk(item, depth + 1, change, &out->emplace_back())) return false;
    }
  } else if (in.is_object()) {
    *out = json::object();
    for (const auto& [key, value] : in.items()) {
      if (!Walk(value, depth + 1, change, &(*out)[change(key)])) return false;
    }
  } else {
    *out = in;
  }
  return true;
}

absl::Status Check(const ChatRequest& request) {
  if (!request.messages.is_array()) return absl::InvalidArgumentError("messages: not an array");
  if (!request.options.kwargs.is_object()) return absl::InvalidArgumentError("chat_template_kwargs: not an object");
  bool valid = true;
  const auto look = [&](const std::string& text) {
    valid &= IsUtf8(text);
    return std::string();
  };
  json ignored;
  for (const json* value : {&request.messages, &request.options.kwargs}) {
    const char* name = value == &request.messages ? "messages" : "chat_template_kwargs";
    if (!Walk(*value, 0, look, &ignored)) {
      return absl::InvalidArgumentError(absl::StrCat(name, ": nested deeper than ", kMaxDepth));
    }
    if (!valid) return absl::InvalidArgumentError(absl::StrCat(name, ": not valid UTF-8"));
  }
  return absl::OkStatus();
}

// The variables that Transformers' apply_chat_template gives. REQUIRES Check.
std::string Context(const ChatRequest& request, const json& messages, const json& kwargs) {
  json context = {{"tools", nullptr}, {"documents", nullptr}};
  for (const auto& [name, text] : request.names) context[name] = text;
  context.update(kwargs);
  context["messages"] = messages;
  context["add_generation_prompt"] = request.options.add_generation_prompt;
  return context.dump(-1, ' ', false, json::error_handler_t::replace);
}

absl::StatusOr<std::string> RenderContext(const ChatTemplate& chat_template, const std::string& context) {
  return chat_template.Render(context, kMinOutput + 4 * context.size());
}

class Marker {
 public:
  Marker(const ChatRequest& request, const SpecialTokens& special, std::string mark)
      : request_(request), special_(special), mark_(std::move(mark)) {}

  // whole: spellings left as they are in assistant messages.
  absl::StatusOr<std::string> Render(const std::set<std::string>& whole) const {
    json messages = json::array(), kwargs;
    const std::set<std::string> none;
    for (const auto& message : request_.messages) {
      const auto& keep = FromAssistant(message) ? whole : none;
      Walk(message, 1, [&](const std::string& text) { return Mark(text, keep); }, &messages.emplace_back());
    }
    Walk(request_.options.kwargs, 0, [&](const std::string& text) { return Mark(text, none); }, &kwargs);
    return RenderContext(request_.chat_template, Context(request_, messages, kwargs));
  }

  std::set<std::string> SpellingsOfAssistant() const {
    std::set<std::string> out;
    const auto look = [&](const std::string& text) {
      for (size_t at = 0; at < text.size(); ++at) {
        if (const size_t length = special_.SpecialAt(text, at)) out.insert(text.substr(at, length));
      }
      return std::string();
    };
    json ignored;
    for (const auto& message : request_.messages) {
      if (FromAssistant(message)) Walk(message, 1, look, &ignored);
    }
    return out;
  }

 private:
  static bool FromAssistant(const json& message) {
    const auto it = message.is_object() ? message.find("role") : message.end();
    return message.is_object() && it != message.end() && *it == "assistant";
  }

  std::string Mark(const std::string& text, const std::set<std::string>& keep) const {
    std::string out;
    size_t done = 0;
    for (size_t at = 0; at < text.size(); ++at) {
      const size_t length = special_.SpecialAt(text, at);
      if (length == 0 || keep.contains(text.substr(at, length))) continue;
      size_t character = 0;
      FirstCharacter(std::string_view(text).substr(at), &character);
      out.append(text, done, at + character - done).append(mark_);
      done = at + character;
    }
    // What a template may trim does not keep a beginning from meeting its end.
    const size_t last = text.find_last_not_of(" \t\r\n\f\v");
    const size_t end = last == std::string::npos ? 0 : last + 1;
    if (end > done && special_.OpenEnd(std::string_view(text).substr(0, end)) > 0) {
      out.append(text, done, end - done).append(mark_);
      done = end;
    }
    return out.append(text, done);
  }

  const ChatRequest& request_;
  const SpecialTokens& special_;
  std::string mark_;
};

}  // namespace

absl::StatusOr<std::string> Render(const ChatRequest& request) {
  if (auto status = Check(request); !status.ok()) return status;
  return RenderContext(request.chat_template, Context(request, request.messages, request.options.kwargs));
}

absl::StatusOr<MarkedPrompt> RenderMarked(const ChatRequest& request, const SpecialTokens& special) {
  if (auto status = Check(request); !status.ok()) return status;
  const std::string context = Context(request, request.messages, request.options.kwargs);
  MarkedPrompt out;
  for (char32_t c = 0xF0000; c < 0xF1000 && out.mark.empty(); ++c) {
    if (context.find(Utf8(c)) == std::string::npos) out.mark = Utf8(c);
  }
  if (out.mark.empty())
    return absl::InvalidArgumentError("messages: every one of the characters U+F0000 to U+F0FFF is in use");
  const Marker marker(request, special, out.mark);
  auto text = marker.Render({});
  if (!text.ok()) return text.status();
  out.text = std::move(*text);
  const auto spellings = marker.SpellingsOfAssistant();
  if (spellings.empty() || spellings.size() > kMaxProbes) return out;
  const std::string plain = ReplaceAll(out.text, out.mark, "");
  std::set<std::string> whole;
  for (const auto& spelling : spellings) {
    const auto probe = marker.Render({spelling});
    if (!probe.ok()) return probe.status();
    if (ReplaceAll(*probe, out.mark, "") != plain) whole.insert(spelling);
  }
  if (whole.empty()) return out;
  text = marker.Render(whole);
  if (!text.ok()) return text.status();
  out.text = std::move(*text);
  return out;
}

}  // namespace pangea
