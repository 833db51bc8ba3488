#include <unistd.h>

#include <iostream>
#include <iterator>
#include <utility>

#include "clients/commands.h"
#include "clients/interrupt.h"
#include "clients/sampling_flags.h"
#include "clients/text.h"
#include "nlohmann/json.hpp"

namespace pangea::clients {
namespace {

constexpr size_t kMaxPrompt = 64 << 20;

struct GenerateOptions {
  Endpoint endpoint;
  KeyFlags key;
  GenerateRequest request;
  std::string system;
  bool chat = false, raw = false, json = false, whole = false;
};

absl::StatusOr<std::string> ReadPrompt(const std::vector<std::string>& words) {
  if (words.size() > 1) return absl::InvalidArgumentError("one prompt is expected; put it in quotes");
  if (words.size() == 1 && words[0] != "-") return words[0];
  std::string text;
  char chunk[65536];
  while (std::cin.read(chunk, sizeof(chunk)), std::cin.gcount() > 0) {
    text.append(chunk, static_cast<size_t>(std::cin.gcount()));
    if (text.size() > kMaxPrompt)
      return absl::InvalidArgumentError("the prompt on standard input is larger than 64 MiB");
  }
  if (text.ends_with('\n')) text.pop_back();  // the line end that echo and editors add
  if (text.empty()) return absl::InvalidArgumentError("a prompt is expected, as a word or on standard input");
  return text;
}

std::string ToJson(const Answer& answer) {
  const nlohmann::ordered_json json = {{"model", answer.model},
                                       {"text", answer.text},
                                       {"finish_reason", answer.finish_reason},
                                       {"prompt_tokens", answer.prompt_tokens},
                                       {"completion_tokens", answer.completion_tokens},
                                       {"system_fingerprint", answer.fingerprint}};
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

int Generate(GenerateOptions& options) {
  Canceller canceller;
  InterruptWatcher watcher([&](int, bool) { canceller.Cancel(); });
  auto client = Client::Create(options.endpoint);
  if (!client.ok()) return std::cerr << "pangea generate: " << client.status().message() << "\n", kUsageExitCode;
  auto model = (*client)->Model(options.request.model);
  if (!model.ok()) return std::cerr << "pangea generate: " << model.status().message() << "\n", 1;
  options.request.model = *model;
  const bool terminal = isatty(STDOUT_FILENO);
  auto print = [&](const std::string& text) { std::cout << (terminal ? ForTerminal(text) : text) << std::flush; };
  const bool stream = !options.json && !options.whole;
  const auto answer = (*client)->Generate(options.request, stream ? OnText(print) : OnText(), &canceller);
  if (!answer.ok()) {
    if (stream) std::cout << "\n";
    if (canceller.cancelled()) return kExitCancelled;
    return std::cerr << "pangea generate: " << ForTerminal(std::string(answer.status().message())) << "\n", 1;
  }
  if (options.json) {
    std::cout << ToJson(*answer);
  } else if (!stream) {
    print(answer->text);
  }
  std::cout << "\n";
  return 0;
}

}  // namespace

int GenerateMain(int argc, char** argv) {
  GenerateOptions options;
  CommandLine flags("generate", "[options] [PROMPT]",
                    "Generates one answer to PROMPT (or to standard input, when PROMPT is absent or\n"
                    "\"-\") and prints it as it is made.");
  AddEndpointFlags(flags, &options.endpoint);
  options.key.Add(flags);
  flags.Text("--model", "NAME", "as the server calls it (default: its first)", &options.request.model);
  flags.Switch("--raw", "the prompt is continued as it stands (the default)", &options.raw);
  flags.Switch("--chat", "the prompt is one message of a user, put through the model's chat template", &options.chat);
  flags.Text("--system", "TEXT", "system message, with --chat", &options.system);
  AddSamplingFlags(flags, &options.request.sampling);
  flags.Switch("--ignore-eos", "go on after end tokens", &options.request.sampling.ignore_eos);
  flags.Switch("--no-stream", "print the answer when it is whole", &options.whole);
  flags.Switch("--json", "print one line of JSON: text, finish_reason, token counts", &options.json);
  flags.Number("--timeout", "seconds for the answer", {0.001, 86400}, &options.request.timeout_seconds);
  auto words = flags.Parse(argc, argv);
  absl::Status status = words.status();
  if (flags.help()) return *flags.Exit(status);
  if (status.ok() && options.chat && options.raw)
    status = absl::InvalidArgumentError("--chat and --raw exclude each other");
  if (status.ok() && !options.chat && !options.system.empty())
    status = absl::InvalidArgumentError("--system needs --chat");
  absl::StatusOr<std::string> prompt, key;
  if (status.ok()) status = (prompt = ReadPrompt(*words)).status();
  if (status.ok()) status = (key = options.key.Get()).status();
  if (const auto code = flags.Exit(status)) return *code;
  options.endpoint.api_key = *std::move(key);
  if (options.chat) {
    if (!options.system.empty()) options.request.messages.push_back({"system", options.system});
    options.request.messages.push_back({"user", *std::move(prompt)});
  } else {
    options.request.prompt = *std::move(prompt);
  }
  return Generate(options);
}

}  // namespace pangea::clients
