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

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "agent/session.h"
#include "configs/deployment.h"
#include "configs/join_token.h"
#include "configs/log.h"
#include "configs/signals.h"

namespace pangea {
namespace {

constexpr char kTokenVariable[] = "PANGEA_AGENT_TOKEN";
constexpr int kExitUsage = 64, kExitConfig = 78;  // EX_USAGE, EX_CONFIG

constexpr char kHelp[] =
    "usage: pangea agent --master HOST:PORT --token-file FILE [options]\n"
    "\n"
    "One agent of a deployment: joins the master that `pangea serve` runs, loads its slices of the checkpoint,\n"
    "forms its groups and computes until the master says stop or is gone. The master starts the agents of its own\n"
    "host itself; this command is for entries of `agents` with `launch: remote`.\n"
    "\n"
    "  --master HOST:PORT   where the master waits for agents (control.listen of the deployment file)\n"
    "  --token-file FILE    holds the join token (control.token_file of the deployment file); without it the\n"
    "                       environment variable PANGEA_AGENT_TOKEN is used\n"
    "  --agent N            take place N of the plan (stage = N / ranks, rank = N % ranks) instead of any free one\n"
    "  --model PATH         the checkpoint on this host, when it is not where the master says\n"
    "  --log LEVEL          debug, info, warning or error until the deployment's own level is known (default info)\n"
    "  --help               this text\n"
    "\n"
    "SIGTERM, SIGINT and SIGHUP end it at once (SIGHUP unless it was ignored at the start, as by nohup): its master\n"
    "loses an agent, so stop that first. Exit status: 0 when the master said stop, 1 after a failure (a refused join\n"
    "and a signal too), 64 for a wrong command line, 78 for a token that cannot be read or used.\n";

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

absl::StatusOr<AgentOptions> ParseArguments(int argc, char** argv) {
  AgentOptions options;
  for (int i = 1; i < argc; ++i) {
    std::string name = argv[i], value;
    if (name == "--launched") {
      options.launched = true;
      continue;
    }
    if (const size_t equals = name.find('='); equals != std::string::npos) {
      value = name.substr(equals + 1);
      name.resize(equals);
    } else if (i + 1 < argc) {
      value = argv[++i];
    } else {
      return absl::InvalidArgumentError(absl::StrCat(name, ": unknown, or its value is missing"));
    }
    if (name == "--master") {
      options.master = value;
    } else if (name == "--token-file") {
      options.token_file = value;
    } else if (name == "--model") {
      options.model = value;
    } else if (name == "--log") {
      options.log = value;
    } else if (name == "--agent") {
      if (!absl::SimpleAtoi(value, &options.agent) || options.agent < 0) {
        return absl::InvalidArgumentError(absl::StrCat("--agent: \"", value, "\" is not a number from 0"));
      }
    } else {
      return absl::InvalidArgumentError(absl::StrCat("unknown argument ", name));
    }
  }
  if (options.log != "debug" && options.log != "info" && options.log != "warning" && options.log != "error") {
    return absl::InvalidArgumentError(
        absl::StrCat("--log: \"", options.log, "\" is not one of debug, info, warning, error"));
  }
  if (options.master.empty()) return absl::InvalidArgumentError("--master HOST:PORT is missing");
  if (const auto master = ParseHostPort(options.master); !master.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("--master: ", master.status().message()));
  }
  if (options.token_file.empty() && std::getenv(kTokenVariable) == nullptr)
    return absl::InvalidArgumentError(absl::StrCat("no join token: give --token-file, or set ", kTokenVariable));
  return options;
}

}  // namespace

absl::Status RunAgent(const AgentOptions& options, const std::string& token) {
  SetLogLevel(options.log);
  SetLogProcess(options.agent < 0 ? "agent" : absl::StrCat("agent ", options.agent));
  Signals signals(options.launched);
  AgentSession session(options, token);
  signals.Watch(&session);
  const absl::Status status = session.Run();
  signals.End();
  return status;
}

int AgentMain(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--help") == 0 || std::strcmp(argv[i], "-h") == 0) {
      std::fputs(kHelp, stdout);
      return 0;
    }
  }
  const absl::StatusOr<AgentOptions> options = ParseArguments(argc, argv);
  if (!options.ok()) {
    std::fprintf(stderr, "pangea agent: %s; see --help\n", std::string(options.status().message()).c_str());
    return kExitUsage;
  }
  const absl::StatusOr<std::string> token = ReadToken(*options);
  if (!token.ok()) {
    std::fprintf(stderr, "pangea agent: %s\n", std::string(token.status().message()).c_str());
    return kExitConfig;
  }
  const absl::Status status = RunAgent(*options, *token);
  if (status.ok()) return 0;
  LogError("%s", status.ToString());
  return 1;
}

}  // namespace pangea
