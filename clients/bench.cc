#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <string_view>
#include <utility>

#include "clients/commands.h"
#include "clients/interrupt.h"
#include "clients/load.h"
#include "clients/sampling_flags.h"

namespace pangea::clients {
namespace {

struct BenchOptions {
  LoadOptions load;
  KeyFlags key;
  std::string url = "http://127.0.0.1:8000", api = "chat";
  bool json = false;
};

void Define(CommandLine& flags, BenchOptions& o) {
  flags.Text("--url", "URL", "the server (default " + o.url + ")", &o.url);
  AddCaFileFlag(flags, &o.load.endpoint.ca_file);
  o.key.Add(flags);
  flags.Text("--model", "NAME", "as the server calls it (default: its first)", &o.load.model);
  flags.Choice("--api", "chat, completions", "which route (default chat)", &o.api);
  flags.Number("--requests", "in all, default 100", {1, 1000000}, &o.load.requests);
  flags.Number("--concurrency", "requests open at once, default 8", {1, 10000}, &o.load.concurrency);
  flags.Number("--rate", "arrivals a second, as a Poisson process; 0 (default): the next when one ends", {0, 100000},
               &o.load.rate);
  flags.Number("--prompt-words", "random words of a prompt, default 64", {1, 1000000}, &o.load.prompt_words);
  flags.Number("--prompt-tokens", "random token ids of a prompt instead, with --api completions", {1, 1000000},
               &o.load.prompt_tokens);
  flags.Number("--first-id", "least token id drawn, default 100", {0, 1 << 24}, &o.load.first_id);
  flags.Number("--last-id", "largest token id drawn, default 400", {0, 1 << 24}, &o.load.last_id);
  AddSamplingFlags(flags, &o.load.sampling);
  flags.Switch("--ignore-eos", "every answer has --max-tokens tokens", &o.load.sampling.ignore_eos);
  flags.Number("--timeout", "seconds for one request", {0.001, 86400}, &o.load.timeout_seconds);
  flags.Switch("--json", "print one line of JSON instead", &o.json);
}

absl::Status Check(BenchOptions& o) {
  o.load.chat = o.api == "chat";
  if (o.load.chat && o.load.prompt_tokens > 0)
    return absl::InvalidArgumentError("--prompt-tokens needs --api completions");
  if (o.load.first_id > o.load.last_id) return absl::InvalidArgumentError("--first-id is larger than --last-id");
  if (!o.load.sampling.max_tokens) o.load.sampling.max_tokens = 64;
  o.load.seed = o.load.sampling.seed.value_or(0);
  auto url = ParseHttpUrl(o.url);
  if (!url.ok()) return url.status();
  o.load.endpoint.url = *std::move(url);
  auto key = o.key.Get();
  if (!key.ok()) return key.status();
  o.load.endpoint.api_key = *std::move(key);
  return absl::OkStatus();
}

int Serve(BenchOptions& o) {
  Canceller canceller;
  InterruptWatcher watcher([&](int, bool) { canceller.Cancel(); });
  if (o.load.model.empty()) {
    const auto models = RestModels(o.load.endpoint, 10);
    if (!models.ok()) return std::cerr << "pangea bench: " << models.status().message() << "\n", 1;
    if (models->empty()) return std::cerr << "pangea bench: the server has no model\n", 1;
    o.load.model = models->front();
  }
  // A terminal sees one line that changes; a log gets a line every ten seconds.
  const bool terminal = isatty(STDERR_FILENO);
  int ticks = 0;
  const LoadReport report = RunLoad(
      o.load,
      [&](const LoadReport& r) {
        if (terminal) {
          std::cerr << "\r\033[K" << ProgressLine(r, o.load.requests) << std::flush;
        } else if (++ticks % 10 == 0) {
          std::cerr << ProgressLine(r, o.load.requests) << std::endl;
        }
      },
      &canceller);
  if (terminal) std::cerr << "\r\033[K" << std::flush;
  std::cout << (o.json ? ReportJson(o.load, report) + "\n" : ReportText(report)) << std::flush;
  if (report.cancelled) return kExitCancelled;
  return report.failed == 0 ? 0 : 1;
}

}  // namespace

int BenchMain(int argc, char** argv) {
  if (argc < 2 || std::string_view(argv[1]) != "serve") {
    CommandLine overview("bench", "serve|model [options]",
                         "serve   loads a server with the OpenAI REST API and reports latencies and\n"
                         "        throughput; see pangea bench serve --help\n"
                         "model   measures what the agents of a deployment compute; see pangea bench\n"
                         "        model --help");
    absl::Status status = overview.Parse(argc, argv, /*most_words=*/0).status();
    if (status.ok() && !overview.help()) status = absl::InvalidArgumentError("serve or model is expected; see --help");
    return *overview.Exit(status);
  }
  BenchOptions options;
  CommandLine flags("bench serve", "[options]",
                    R"(Loads a server with the OpenAI REST API with streamed requests of random
prompts, and reports percentiles of the time to the first token, between texts
and to the end, tokens per second, and errors. Ends after --requests; Ctrl-C ends
it early, with a report. --seed also fixes the prompts and arrivals. Each request
has a connection of its own. Exit status 1 when a request failed.)");
  Define(flags, options);
  absl::Status status = flags.Parse(argc - 1, argv + 1, /*most_words=*/0).status();
  if (status.ok() && !flags.help()) status = Check(options);
  if (const auto code = flags.Exit(status)) return *code;
  return Serve(options);
}

}  // namespace pangea::clients
