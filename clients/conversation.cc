#include "clients/conversation.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

#include "nlohmann/json.hpp"

namespace pangea::clients {
namespace {

std::string Expand(const std::string& file) {
  const char* home = std::getenv("HOME");
  return file.starts_with("~/") && home != nullptr ? home + file.substr(1) : file;
}

}  // namespace

absl::Status SaveConversation(const std::string& file, const std::string& model, const std::vector<Message>& messages) {
  nlohmann::ordered_json json = {{"model", model}, {"messages", nlohmann::ordered_json::array()}};
  for (const Message& m : messages) json["messages"].push_back({{"role", m.role}, {"content", m.content}});
  std::ofstream out(Expand(file), std::ios::trunc);
  out << json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << "\n" << std::flush;
  if (!out) return absl::UnavailableError("cannot write " + file + ": " + std::strerror(errno));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Message>> LoadConversation(const std::string& file) {
  constexpr size_t kMostBytes = 64 << 20;
  std::ifstream in(Expand(file));
  if (!in) return absl::NotFoundError("cannot read " + file + ": " + std::strerror(errno));
  std::string text;
  for (std::istreambuf_iterator<char> at(in), end; at != end && text.size() < kMostBytes; ++at) text += *at;
  nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  if (json.is_object() && json.contains("messages")) json = json["messages"];
  std::vector<Message> messages;
  bool good = json.is_array();
  for (const nlohmann::json& m : good ? json : nlohmann::json::array()) {
    good = good && m.is_object() && m.contains("role") && m.contains("content") && m["role"].is_string() &&
           m["content"].is_string();
    if (good) messages.push_back({m["role"], m["content"]});
  }
  if (!good) return absl::InvalidArgumentError(file + R"( holds no {"messages": [{"role": "…", "content": "…"}, …]})");
  return messages;
}

}  // namespace pangea::clients
