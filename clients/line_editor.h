// Lines from a terminal with editing: history, arrows, pastes as one message, any length, any script.
#pragma once
#include <termios.h>

#include <memory>
#include <string>

namespace pangea::clients {

enum class LineRead { kLine, kEnd, kInterrupted, kFailed };

// Standard input and output must be a terminal that knows escape sequences (CanEdit). While a LineEditor exists, the
// terminal does not echo: what is typed during an answer waits unseen until the next Read, even when Ctrl-C ends the
// answer. It waits in the kernel, which takes no more keys (nor Ctrl-C) once 4095 bytes are there.
class LineEditor {
 public:
  // history_file: empty, or a file that is read now and grows by each message; made for this user alone. Null: failed.
  static std::unique_ptr<LineEditor> Create(const std::string& history_file);
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineRead Read(std::string& line);  // what is not UTF-8 is dropped, and says so
  // Gives the terminal back as it was found. Any thread, also during Read: for a process that is about to end.
  void Restore() const;

 private:
  explicit LineEditor(const termios& found) : found_(found) {}
  void Quiet() const;
  void Suspend() const;  // stops the process, the terminal as it was found
  void* editor_ = nullptr;
  termios found_;
};

bool CanEdit();               // both are terminals, and TERM names one with escape sequences
bool WantsColour(int fd);     // that is a terminal, and neither NO_COLOR nor TERM speaks against it
int TerminalColumns(int fd);  // 0: not known, or no escape sequences there
std::string HistoryFile();    // $XDG_STATE_HOME or ~/.local/state, /pangea/chat_history; empty without a home

}  // namespace pangea::clients
