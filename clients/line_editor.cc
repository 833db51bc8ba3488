#include "clients/line_editor.h"

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <system_error>

// clients/rust/src/lib.rs
extern "C" {
void* pangea_editor_new(const char* path, size_t length, void (*suspend)(const void*), const void* owner);
int32_t pangea_editor_read(void* editor, const char** text, size_t* length);
void pangea_editor_free(void* editor);
}

namespace pangea::clients {
namespace {

// Bracketed paste: the terminal says where a paste begins and ends. Kept on between reads too, so that a paste during
// an answer is one message as well.
constexpr std::string_view kPasteOn = "\x1b[?2004h", kPasteOff = "\x1b[?2004l";

void Put(std::string_view text) {
  if (write(STDOUT_FILENO, text.data(), text.size()) < 0) return;  // the terminal has gone: the next read says so
}

// Drops what was typed and not read. The rest of a paste may still be on its way: all of it must go, or its lines would
// be sent as messages.
void DropInput() {
  constexpr int kQuietMilliseconds = 50;
  pollfd input{STDIN_FILENO, POLLIN, 0};
  do {
    tcflush(STDIN_FILENO, TCIFLUSH);
  } while (poll(&input, 1, kQuietMilliseconds) > 0 && (input.revents & (POLLHUP | POLLERR | POLLNVAL)) == 0);
}

std::string_view Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

bool KnowsEscapes() {
  const std::string_view term = Variable("TERM");
  return term != "dumb" && term != "cons25" && term != "emacs";
}

}  // namespace

std::unique_ptr<LineEditor> LineEditor::Create(const std::string& history_file) {
  termios found;
  if (tcgetattr(STDIN_FILENO, &found) != 0) return nullptr;
  if (!history_file.empty()) {
    const std::filesystem::path folder = std::filesystem::path(history_file).parent_path();
    std::error_code error;
    if (std::filesystem::create_directories(folder, error))
      std::filesystem::permissions(folder, std::filesystem::perms::owner_all, error);
  }
  std::unique_ptr<LineEditor> made(new LineEditor(found));
  const auto suspend = [](const void* editor) { static_cast<const LineEditor*>(editor)->Suspend(); };
  made->editor_ = pangea_editor_new(history_file.data(), history_file.size(), suspend, made.get());
  if (made->editor_ == nullptr) return nullptr;
  made->Quiet();
  return made;
}

LineEditor::~LineEditor() {
  if (editor_ == nullptr) return;
  Restore();
  pangea_editor_free(editor_);
}

void LineEditor::Quiet() const {
  termios quiet = found_;
  quiet.c_iflag &= ~static_cast<tcflag_t>(ICRNL);
  // Without ICANON a line has no limit of 4095 bytes, and NOFLSH keeps what was typed when Ctrl-C ends an answer.
  quiet.c_lflag = (quiet.c_lflag & ~static_cast<tcflag_t>(ECHO | ICANON | IEXTEN)) | ISIG | NOFLSH;
  quiet.c_cc[VSUSP] = _POSIX_VDISABLE;  // Ctrl-Z waits for Read, which gives the terminal back first
  tcsetattr(STDIN_FILENO, TCSANOW, &quiet);
  Put(kPasteOn);
}

void LineEditor::Restore() const {
  Put(kPasteOff);
  tcsetattr(STDIN_FILENO, TCSANOW, &found_);
}

void LineEditor::Suspend() const {
  if (found_.c_cc[VSUSP] == _POSIX_VDISABLE) return;
  termios now;
  tcgetattr(STDIN_FILENO, &now);
  Restore();
  kill(0, SIGTSTP);  // the whole job, as the key does; returns when it goes on
  tcsetattr(STDIN_FILENO, TCSADRAIN, &now);
  Put(kPasteOn);
}

LineRead LineEditor::Read(std::string& line) {
  for (;;) {
    const char* text = nullptr;
    size_t length = 0;
    const int32_t outcome = pangea_editor_read(editor_, &text, &length);
    Quiet();
    switch (outcome) {
      case 0:
        line.assign(text, length);
        return LineRead::kLine;
      case 1:
        return LineRead::kEnd;
      case 2:
        return LineRead::kInterrupted;
      case 4:
        DropInput();
        Put("[dropped: what came from the terminal is not UTF-8]\n");
        break;
      default:
        return LineRead::kFailed;
    }
  }
}

bool CanEdit() { return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && KnowsEscapes(); }

bool WantsColour(int fd) {
  return isatty(fd) && KnowsEscapes() && !Variable("TERM").empty() && Variable("NO_COLOR").empty();
}

int TerminalColumns(int fd) {
  winsize size{};
  return isatty(fd) && KnowsEscapes() && ioctl(fd, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

std::string HistoryFile() {
  std::string base(Variable("XDG_STATE_HOME"));
  if (!base.starts_with('/')) base = std::string(Variable("HOME")) + "/.local/state";
  if (!base.starts_with('/') || base == "/.local/state") return "";
  return base + "/pangea/chat_history";
}

}  // namespace pangea::clients
