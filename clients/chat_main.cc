#include <unistd.h>

#include <iostream>
#include <optional>
#include <utility>

#include "clients/chat.h"
#include "clients/commands.h"
#include "clients/interrupt.h"
#include "clients/sampling_flags.h"
#include "clients/text.h"

namespace pangea::clients {
namespace {

constexpr size_t kKernelLine = 4095;  // N_TTY_BUF_SIZE of Linux less the line end

struct ChatFlags {
  Endpoint endpoint;
  KeyFlags key;
  GenerateRequest request;
  ChatOptions chat;
  bool no_history = false;
};

void Define(CommandLine& flags, ChatFlags& o) {
  AddEndpointFlags(flags, &o.endpoint);
  o.key.Add(flags);
  flags.Text("--model", "NAME", "as the server calls it (default: its first)", &o.request.model);
  flags.Text("--system", "TEXT", "system message", &o.chat.system);
  AddSamplingFlags(flags, &o.request.sampling);
  flags.Number("--timeout", "seconds for one answer", {0.001, 86400}, &o.request.timeout_seconds);
  flags.Switch("--no-history", "read and write no file of what was typed", &o.no_history);
}

absl::Status Read(CommandLine& flags, ChatFlags& o, int argc, char** argv) {
  const auto words = flags.Parse(argc, argv, /*most_words=*/0);
  if (!words.ok() || flags.help()) return words.status();
  auto key = o.key.Get();
  if (key.ok()) o.endpoint.api_key = *std::move(key);
  return key.status();
}

// A terminal without an editor (its output goes elsewhere, or it knows no escape sequences) still sees prompts. There
// the kernel gathers lines, and drops what is too long for it. reading: true while it does.
ReadMessage Prompted(ReadMessage read, std::ostream& shown, std::atomic<bool>& reading) {
  return [read = std::move(read), &shown, &reading](std::string& line) {
    reading = true;
    shown << "> " << std::flush;
    const LineRead got = read(line);
    reading = false;
    if (got == LineRead::kEnd) shown << "\n" << std::flush;
    if (line.size() >= kKernelLine) {
      std::cerr << "[not sent: this terminal cuts lines at " << kKernelLine << " bytes; a pipe does not]\n";
      line.clear();
    }
    return got;
  };
}

// What the watcher's thread and the chat's own share.
struct Shared {
  Canceller canceller;
  std::atomic<const Chat*> chat{nullptr};
  std::atomic<const LineEditor*> editor{nullptr};
  std::atomic<bool> reading{false};  // a line from a terminal without an editor

  void OnSignal(int signal, bool from_terminal) {
    const Chat* talk = chat;
    const bool answering = talk != nullptr && talk->answering();
    // The second Ctrl-C, while the first is still being obeyed, leaves.
    if (signal == SIGINT && answering && !canceller.cancelled()) return canceller.Cancel();
    // A Ctrl-C that was meant for an answer which had just ended. (At the editor's prompt the key sends no signal.)
    if (signal == SIGINT && from_terminal && talk != nullptr && talk->interactive() && !answering && !reading) return;
    if (const LineEditor* found = editor; found != nullptr) found->Restore();
    _exit(128 + signal);  // the main thread may sit in a read that nothing else ends
  }
};

int Talk(ChatFlags& o, Client& client, Shared& shared, std::optional<InterruptWatcher>& watcher) {
  auto model = client.Model(o.request.model);
  if (!model.ok()) return std::cerr << "pangea chat: " << ForTerminal(std::string(model.status().message())) << "\n", 1;
  o.request.model = *model;
  o.chat.interactive = isatty(STDIN_FILENO);
  o.chat.terminal = isatty(STDOUT_FILENO);
  o.chat.colour = WantsColour(STDERR_FILENO);
  o.chat.columns = [] { return TerminalColumns(STDOUT_FILENO); };
  std::ostream& shown = o.chat.terminal ? std::cout : std::cerr;  // an output that goes elsewhere gets answers alone
  if (o.chat.interactive)
    shown << "Talking with " << ForTerminal(*model) << ". /help shows the commands.\n" << std::flush;
  std::unique_ptr<LineEditor> editor;
  ReadMessage read = LinesOf(std::cin);
  if (CanEdit()) editor = LineEditor::Create(o.no_history ? "" : HistoryFile());
  if (editor != nullptr) {
    shared.editor = editor.get();
    read = [&editor](std::string& line) { return editor->Read(line); };
  } else if (o.chat.interactive) {
    read = Prompted(std::move(read), shown, shared.reading);
  }
  Chat chat(&client, std::move(o.request), o.chat);
  shared.chat = &chat;
  const int status = chat.Run(read, std::cout, std::cerr, &shared.canceller);
  if (editor != nullptr) editor->Restore();
  watcher.reset();  // before what it looks at goes
  return status;
}

}  // namespace

int ChatMain(int argc, char** argv) {
  ChatFlags options;
  CommandLine flags("chat", "[options]",
                    R"(Talks with a chat model; answers stream as they are made. Ctrl-C stops an answer,
and leaves when there is none. What was typed is kept in
$XDG_STATE_HOME/pangea/chat_history (~/.local/state without it), the last 1000
messages, for this user alone. When standard input is not a terminal, each of
its lines is one message of the user, and only the answers are printed.)");
  Define(flags, options);
  if (const auto code = flags.Exit(Read(flags, options, argc, argv))) return *code;
  Shared shared;
  // Before the client: its threads must not be ones that the signals reach.
  std::optional<InterruptWatcher> watcher;
  watcher.emplace([&shared](int signal, bool from_terminal) { shared.OnSignal(signal, from_terminal); },
                  std::initializer_list<int>{SIGINT, SIGTERM, SIGHUP, SIGQUIT});
  auto client = Client::Create(options.endpoint);
  if (!client.ok()) return std::cerr << "pangea chat: " << client.status().message() << "\n", kUsageExitCode;
  return Talk(options, **client, shared, watcher);
}

}  // namespace pangea::clients
