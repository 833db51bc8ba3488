#include "clients/chat.h"

#include <unistd.h>

#include <iostream>
#include <utility>

#include "clients/commands.h"
#include "clients/interrupt.h"
#include "clients/sampling_flags.h"
#include "clients/text.h"

namespace pangea::clients {

Chat::Chat(Client* client, GenerateRequest request, ChatOptions options)
    : client_(client), request_(std::move(request)), options_(std::move(options)) {
  Reset();
}

void Chat::Reset() {
  history_.clear();
  if (!options_.system.empty()) history_.push_back({"system", options_.system});
}

bool Chat::Command(const std::string& line, std::ostream& out) {
  if (line == "/exit" || line == "/quit") return false;
  if (line == "/reset") {
    Reset();
    out << "The conversation starts anew.\n";
  } else {
    out << "/reset  start anew\n/exit   leave (or Ctrl-D)\nCtrl-C  stop the answer; without one, leave\n";
  }
  return true;
}

Chat::Turn Chat::Answer(const std::string& line, std::ostream& out, std::ostream& err, Canceller* canceller) {
  history_.push_back({"user", line});
  request_.messages = history_;
  std::string text;
  canceller->Reset();
  answering_ = true;
  const auto answer = client_->Generate(
      request_,
      [&](const std::string& piece) {
        text += piece;
        out << (options_.terminal ? ForTerminal(piece) : piece) << std::flush;
      },
      canceller);
  answering_ = false;
  if (answer.ok() || !text.empty()) out << "\n" << std::flush;
  if (answer.ok()) {
    history_.push_back({"assistant", text});
    return Turn::kAnswered;
  }
  if (absl::IsCancelled(answer.status()) && canceller->cancelled()) {
    // What was said was said: the model sees the same conversation as the user.
    if (text.empty()) {
      history_.pop_back();
    } else {
      history_.push_back({"assistant", text});
    }
    return Turn::kCancelled;
  }
  history_.pop_back();
  err << "error: " << ForTerminal(std::string(answer.status().message())) << "\n" << std::flush;
  return Turn::kFailed;
}

int Chat::Run(std::istream& in, std::ostream& out, std::ostream& err, Canceller* canceller) {
  for (std::string line;;) {
    if (options_.interactive) out << "> " << std::flush;
    if (!std::getline(in, line)) break;
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty()) continue;
    if (options_.interactive && line[0] == '/') {
      if (!Command(line, out)) return 0;
      continue;
    }
    const Turn turn = Answer(line, out, err, canceller);
    if (options_.interactive) continue;
    if (turn == Turn::kCancelled) return kExitCancelled;
    if (turn == Turn::kFailed) return 1;
  }
  if (options_.interactive) out << "\n" << std::flush;
  return 0;
}

int ChatMain(int argc, char** argv) {
  Endpoint endpoint;
  KeyFlags key_flags;
  GenerateRequest request;
  ChatOptions options;
  Flags flags(
      "pangea chat [options]",
      "Talks with a chat model; answers stream as they are made. Ctrl-C stops an answer, and leaves when there is "
      "none. When standard\n"
      "input is not a terminal, each of its lines is one message of the user, and only the answers are printed.");
  AddEndpointFlags(flags, &endpoint);
  key_flags.Add(flags);
  flags.Text("--model", "NAME", "as the server calls it (default: its first)", &request.model);
  flags.Text("--system", "TEXT", "system message", &options.system);
  AddSamplingFlags(flags, &request.sampling);
  flags.Real("--timeout", "seconds for one answer", {0.001, 86400}, &request.timeout_seconds);
  auto words = flags.Parse(argc, argv);
  if (words.ok() && !flags.help() && !words->empty()) {
    words = absl::InvalidArgumentError("chat takes no \"" + words->front() + "\"; see --help");
  }
  if (!words.ok()) return std::cerr << "pangea chat: " << words.status().message() << "\n", kExitUsage;
  if (flags.help()) return std::cout << flags.Help(), 0;
  auto key = key_flags.Get();
  if (!key.ok()) return std::cerr << "pangea chat: " << key.status().message() << "\n", kExitUsage;
  endpoint.api_key = *std::move(key);
  auto client = Client::Create(endpoint);
  if (!client.ok()) return std::cerr << "pangea chat: " << client.status().message() << "\n", kExitUsage;

  options.interactive = isatty(STDIN_FILENO);
  options.terminal = isatty(STDOUT_FILENO);
  Canceller canceller;
  std::atomic<const Chat*> running{nullptr};
  InterruptWatcher watcher([&] {
    const Chat* chat = running;
    if (chat != nullptr && chat->answering()) return canceller.Cancel();
    _exit(kExitCancelled);  // the main thread sits in a read that nothing else ends
  });
  auto model = (*client)->Model(request.model);
  if (!model.ok()) return std::cerr << "pangea chat: " << model.status().message() << "\n", 1;
  request.model = *model;
  Chat chat(client->get(), std::move(request), options);
  running = &chat;
  if (options.interactive) std::cout << "Talking with " << *model << ". /help shows the commands.\n";
  const int status = chat.Run(std::cin, std::cout, std::cerr, &canceller);
  running = nullptr;
  return status;
}

}  // namespace pangea::clients
