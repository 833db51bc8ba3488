// A conversation over lines of text: what `pangea chat` does, apart from the terminal.
#pragma once
#include <atomic>
#include <istream>
#include <ostream>
#include <string>
#include <vector>

#include "clients/client.h"

namespace pangea::clients {

struct ChatOptions {
  std::string system;       // first message, when not empty
  bool interactive = true;  // prompts, commands (/help, /reset, /exit); errors end only the answer, not the chat
  bool terminal = true;     // the output is a terminal: control characters are taken out
};

class Chat {
 public:
  // request: model, sampling and timeout of every turn.
  Chat(Client* client, GenerateRequest request, ChatOptions options);
  // Reads lines until the end, /exit, or (not interactive) the first error or cancellation. Returns the exit status.
  // canceller is reset before each turn.
  int Run(std::istream& in, std::ostream& out, std::ostream& err, Canceller* canceller);
  // True while an answer is under way: then an interrupt cancels it, otherwise it ends the chat. Any thread.
  bool answering() const { return answering_; }
  const std::vector<Message>& history() const { return history_; }

 private:
  enum class Turn { kAnswered, kCancelled, kFailed };
  Turn Answer(const std::string& line, std::ostream& out, std::ostream& err, Canceller* canceller);
  bool Command(const std::string& line, std::ostream& out);  // false: leave
  void Reset();

  Client* client_;
  GenerateRequest request_;
  ChatOptions options_;
  std::vector<Message> history_;
  std::atomic<bool> answering_{false};
};

}  // namespace pangea::clients
