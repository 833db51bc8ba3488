// A conversation over messages of text: what `pangea chat` does, apart from the terminal.
#pragma once
#include <atomic>
#include <functional>
#include <istream>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "clients/client.h"
#include "clients/line_editor.h"

namespace pangea::clients {

struct ChatOptions {
  std::string system;            // first message, when not empty
  bool interactive = true;       // commands (/help), notes after answers; errors end only the answer, not the chat
  bool terminal = true;          // the output is a terminal: control characters are taken out; false: answers alone
  bool colour = false;           // notes are dim
  std::function<int()> columns;  // of the terminal, to break lines between words; none, or 0: they are not broken
};

// Where messages come from: a terminal's editor, or the lines of a stream.
using ReadMessage = std::function<LineRead(std::string&)>;
ReadMessage LinesOf(std::istream& in);

// What is told after an answer: tokens, speed, and why it was cut; empty: nothing. max_tokens: what was asked for.
std::string Ending(const Answer& answer, std::optional<int64_t> max_tokens);

class Chat {
 public:
  // request: model, sampling and timeout of every turn.
  Chat(Client* client, GenerateRequest request, ChatOptions options);
  // Reads messages until the end, /exit, an interrupt, a failed read, or (not interactive) the first error or
  // cancellation. Returns the exit status. Answers go to out, notes and errors to err. canceller is reset before each
  // turn.
  int Run(const ReadMessage& read, std::ostream& out, std::ostream& err, Canceller* canceller);
  // True while an answer is under way: then an interrupt cancels it, otherwise it ends the chat. Any thread.
  bool answering() const { return answering_; }
  bool interactive() const { return options_.interactive; }
  const std::vector<Message>& history() const { return history_; }

 private:
  enum class Turn { kAnswered, kCancelled, kFailed };
  struct Streams {
    std::ostream &out, &err;
    Canceller* canceller;
  };
  struct Command {
    std::string name, argument, help;
    void (Chat::*run)(const std::string& argument, const Streams& to);
  };
  static const std::vector<Command>& Commands();

  Turn Ask(const std::string& text, const Streams& to);
  absl::StatusOr<Answer> Stream(int dropped, std::string& said, const Streams& to);
  // Drops the oldest turn, but never the system message nor the last message. False: there is none to drop.
  static bool DropOldest(std::vector<Message>& messages);
  // Drops `turns` of them, but at most half of all (and at least one); returns how many it dropped.
  static int DropOldest(std::vector<Message>& messages, int turns);
  void Note(const std::string& text, std::ostream& err) const;

  bool RunCommand(const std::string& line, const Streams& to);  // false: the line is a message, no command
  void Help(const std::string& argument, const Streams& to);
  void Reset(const std::string& argument, const Streams& to);
  void System(const std::string& argument, const Streams& to);
  void Set(const std::string& argument, const Streams& to);
  void Retry(const std::string& argument, const Streams& to);
  void Save(const std::string& argument, const Streams& to);
  void Load(const std::string& argument, const Streams& to);
  void Exit(const std::string& argument, const Streams& to);
  void SetSystem(const std::string& text);

  Client* client_;
  GenerateRequest request_;
  ChatOptions options_;
  std::vector<Message> history_;
  std::string last_;      // what was asked last, answered or not
  size_t last_turn_ = 0;  // how many messages at the history's end are last_ and its answer; 0: it got no answer
  bool leaving_ = false;
  std::atomic<bool> answering_{false};
};

}  // namespace pangea::clients
