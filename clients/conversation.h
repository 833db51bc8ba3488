// Conversations in files: {"model": …, "messages": [{"role": …, "content": …}, …]}, a body for /v1/chat/completions.
#pragma once
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "clients/request.h"

namespace pangea::clients {

// Replaces the file. A name that begins with ~/ is in the home directory, here and below.
absl::Status SaveConversation(const std::string& file, const std::string& model, const std::vector<Message>& messages);
// Also reads a bare list of messages. InvalidArgument: the file holds neither; NotFound: it cannot be read.
absl::StatusOr<std::vector<Message>> LoadConversation(const std::string& file);

}  // namespace pangea::clients
