#include "clients/conversation.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "nlohmann/json.hpp"

namespace pangea::clients {
namespace {

std::string Expand(const std::string& file) {
  const char* home = std::getenv("HOME");
  return file.starts_with("~/") && home != nullptr ? home + file.substr(1) : file;
}

absl::Status CannotWrite(const std::string& file, int error) {
  return absl::UnavailableError("cannot write " + file + ": " + std::strerror(error));
}

// What /save may replace: nothing, an empty file, a conversation; and never a device or a pipe.
absl::Status MayReplace(const std::string& file) {
  std::error_code error;
  const auto status = std::filesystem::status(Expand(file), error);
  if (!std::filesystem::exists(status)) return absl::OkStatus();
  if (std::filesystem::is_directory(status)) return CannotWrite(file, EISDIR);
  if (std::filesystem::is_regular_file(status)) {
    if (std::filesystem::file_size(Expand(file), error) == 0 || LoadConversation(file).ok()) return absl::OkStatus();
  }
  return absl::FailedPreconditionError(file + " exists and holds no conversation: it is left as it is");
}

// The file is the old one or the new one, never half of it; for this user alone. Returns errno's value.
int Replace(const std::string& file, const std::string& text) {
  std::string made = file + ".XXXXXX";
  const int fd = mkstemp(made.data());  // mode 0600
  if (fd < 0) return errno;
  size_t done = 0;
  ssize_t n = 0;
  while (done < text.size() && (n = write(fd, text.data() + done, text.size() - done)) > 0) done += n;
  int error = done < text.size() ? errno : 0;
  if (close(fd) != 0 && error == 0) error = errno;
  if (error == 0 && rename(made.c_str(), file.c_str()) != 0) error = errno;
  if (error != 0) unlink(made.c_str());
  return error;
}

}  // namespace

absl::Status SaveConversation(const std::string& file, const std::string& model, const std::vector<Message>& messages) {
  const absl::Status may = MayReplace(file);
  if (!may.ok()) return may;
  nlohmann::ordered_json json = {{"model", model}, {"messages", nlohmann::ordered_json::array()}};
  for (const Message& m : messages) json["messages"].push_back({{"role", m.role}, {"content", m.content}});
  // Through a link, what it points at is replaced.
  std::error_code error;
  const std::filesystem::path target = std::filesystem::canonical(Expand(file), error);
  const int failed = Replace(error ? Expand(file) : target.string(),
                             json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
  return failed == 0 ? absl::OkStatus() : CannotWrite(file, failed);
}

absl::StatusOr<std::vector<Message>> LoadConversation(const std::string& file) {
  constexpr size_t kMostBytes = 64 << 20;
  std::ifstream in(Expand(file), std::ios::binary);
  std::string text;
  char chunk[65536];
  while (in && text.size() <= kMostBytes) {
    in.read(chunk, sizeof(chunk));
    text.append(chunk, static_cast<size_t>(in.gcount()));
  }
  if (!in.eof() && text.size() <= kMostBytes)  // a folder can be opened too
    return absl::NotFoundError("cannot read " + file + ": " + std::strerror(errno));
  if (text.size() > kMostBytes) return absl::InvalidArgumentError(file + " is larger than 64 MiB");
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  // Nothing is copied: the library copies by recursion, however deep the lists of a file are.
  const nlohmann::json& list = json.is_object() && json.contains("messages") ? json["messages"] : json;
  std::vector<Message> messages;
  bool good = list.is_array();
  for (size_t i = 0; good && i < list.size(); ++i) {
    const nlohmann::json& m = list[i];
    good = m.is_object() && m.contains("role") && m.contains("content") && m["role"].is_string() &&
           m["content"].is_string();
    if (good) messages.push_back({m["role"], m["content"]});
  }
  if (!good) return absl::InvalidArgumentError(file + R"( holds no {"messages": [{"role": "…", "content": "…"}, …]})");
  return messages;
}

}  // namespace pangea::clients
