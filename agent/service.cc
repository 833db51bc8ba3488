#include "agent/service.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "absl/strings/str_cat.h"
#include "agent/kept_pages.h"
#include "agent/session.h"
#include "configs/command_line.h"
#include "configs/deployment.h"
#include "configs/join_token.h"
#include "configs/log.h"
#include "configs/signals.h"

namespace pangea {
namespace {

constexpr char kTokenVariable[] = "PANGEA_AGENT_TOKEN";

constexpr char kIntro[] =
    R"(One agent of a deployment: joins the master that `pangea serve` runs, loads its
slices of the checkpoint, forms its groups and computes until the master says
stop or is gone. The master starts the agents of its own host itself; this
command is for entries of `agents` with `launch: remote`.

SIGTERM, SIGINT and SIGHUP end it at once (SIGHUP unless it was ignored at the
start, as by nohup): its master loses an agent, so stop that first. Exit status:
0 when the master said stop, 1 after a failure (a refused join and a signal
too), 64 for a wrong command line, 78 for a token that cannot be read or used.)";

absl::StatusOr<std::string> ReadToken(const AgentOptions& options) {
  if (!options.token_file.empty()) {
    auto token = ReadJoinToken(options.token_file);
    if (!token.ok())
      return absl::Status(token.status().code(), absl::StrCat("--token-file: ", token.status().message()));
    return token;
  }
  char* value = std::getenv(kTokenVariable);  // that it is set was checked
  std::string token = value;
  // The environment of a process can be read by its user for as long as it lives: the token shall not stay there.
  std::memset(value, 0, std::strlen(value));
  unsetenv(kTokenVariable);
  return CheckJoinToken(std::move(token));
}

// Waits for the signals that end an agent, beside the control thread. One that its master has launched leaves them to
// it: a terminal and a service manager signal every process at once, and requests that run shall be finished first.
class Signals {
 public:
  explicit Signals(bool launched) {
    if (launched) {
      for (const int ignored : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) signal(ignored, SIG_IGN);
    } else {
      signals_ = EndSignals();  // before any thread starts
    }
    end_ = eventfd(0, EFD_CLOEXEC);
  }
  ~Signals() {
    End();
    if (signals_ >= 0) close(signals_);
    close(end_);
  }
  void Watch(AgentSession* session) {
    thread_ = std::thread([this, session] {
      pollfd fds[2] = {{signals_, POLLIN, 0}, {end_, POLLIN, 0}};  // poll passes over a descriptor of -1
      while (true) {
        if (poll(fds, 2, -1) < 0) continue;
        if (fds[1].revents != 0) return;
        signalfd_siginfo info;
        if (read(signals_, &info, sizeof(info)) != sizeof(info)) continue;
        session->Terminate(absl::CancelledError(absl::StrCat("ended by ", strsignal(info.ssi_signo))));
      }
    });
  }
  // The session is not touched after this.
  void End() {
    const uint64_t one = 1;
    [[maybe_unused]] const auto n = write(end_, &one, sizeof(one));
    if (thread_.joinable()) thread_.join();
  }

 private:
  int signals_ = -1, end_ = -1;
  std::thread thread_;
};

CommandLine AgentCommandLine(AgentOptions* options) {
  CommandLine line("agent", "--master HOST:PORT --token-file FILE [options]", kIntro);
  line.Text("--master", "HOST:PORT", "where the master waits for agents (control.listen of the deployment file)",
            &options->master);
  line.Text("--token-file", "FILE",
            "holds the join token (control.token_file of the deployment file); without it the environment variable "
            "PANGEA_AGENT_TOKEN is used",
            &options->token_file);
  line.Number("--agent", "take this place of the plan (stage = N / ranks, rank = N % ranks) instead of any free one",
              {0, kMaxAgents - 1}, &options->agent);
  line.Text("--model", "PATH", "the checkpoint on this host, when it is not where the master says", &options->model);
  line.Choice("--log", kLogLevels, "what is logged until the deployment's own level is known (default info)",
              &options->log);
  line.Switch("--launched", "", &options->launched);  // for the master that starts it
  return line;
}

absl::Status Check(const AgentOptions& options) {
  if (options.master.empty()) return absl::InvalidArgumentError("--master HOST:PORT is missing; see --help");
  if (const auto master = ParseHostPort(options.master); !master.ok())
    return absl::InvalidArgumentError(absl::StrCat("--master: ", master.status().message()));
  if (options.token_file.empty() && std::getenv(kTokenVariable) == nullptr)
    return absl::InvalidArgumentError(absl::StrCat("no join token: give --token-file, or set ", kTokenVariable));
  return absl::OkStatus();
}

// Returns when the master says stop, the stream breaks, or the agent fails. Never outlives its master by more than a
// second.
absl::Status RunAgent(const AgentOptions& options, const std::string& token) {
  SetLogLevel(options.log);
  SetLogProcess(options.agent < 0 ? "agent" : absl::StrCat("agent ", options.agent));
  MarkPagesOnErrors();
  Signals signals(options.launched);
  AgentSession session(options, token);
  signals.Watch(&session);
  const absl::Status status = session.Run();
  signals.End();
  return status;
}

}  // namespace

int AgentMain(int argc, char** argv) {
  AgentOptions options;
  CommandLine line = AgentCommandLine(&options);
  absl::Status parsed = line.Parse(argc, argv, /*most_words=*/0).status();
  if (parsed.ok() && !line.help()) parsed = Check(options);
  if (const auto code = line.Exit(parsed)) return *code;
  const absl::StatusOr<std::string> token = ReadToken(options);
  if (!token.ok()) {
    std::fprintf(stderr, "pangea agent: %s\n", std::string(token.status().message()).c_str());
    return kConfigExitCode;
  }
  const absl::Status status = RunAgent(options, *token);
  if (status.ok()) return 0;
  LogError("%s", status.ToString());
  return 1;
}

}  // namespace pangea
