// Conversations in files: {"model": …, "messages": [{"role": …, "content": …}, …]}, a body for /v1/chat/completions.
#pragma once
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "clients/request.h"

namespace pangea::clients {

// A new file of this user alone (0600), whole or not at all. Replaces an empty file or another conversation;
// FailedPrecondition: there is something else. A name that begins with ~/ is in the home directory, here and below.
absl::Status SaveConversation(const std::string& file, const std::string& model, const std::vector<Message>& messages);
// Also reads a bare list of messages. InvalidArgument: the file holds neither, or more than 64 MiB; NotFound: it cannot
// be read.
absl::StatusOr<std::vector<Message>> LoadConversation(const std::string& file);

}  // namespace pangea::clients
