#include "agent/service.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "agent/session.h"
#include "configs/deployment.h"
#include "configs/log.h"

namespace pangea {
namespace {

constexpr char kTokenVariable[] = "PANGEA_AGENT_TOKEN";
constexpr size_t kMostTokenBytes = 4096;
constexpr int kExitUsage = 2;

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
    "Exit code: 0 when the master said stop, 1 after a failure (a refused join too), 2 for wrong arguments.\n";

absl::StatusOr<std::string> ReadToken(const AgentOptions& options) {
  std::string token;
  if (!options.token_file.empty()) {
    std::ifstream file(options.token_file, std::ios::binary);
    if (!file) return absl::NotFoundError(absl::StrCat("--token-file: cannot read ", options.token_file));
    token.resize(kMostTokenBytes + 1);
    file.read(token.data(), token.size());
    token.resize(file.gcount());
    if (token.size() > kMostTokenBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("--token-file: ", options.token_file, " has more than ", kMostTokenBytes, " bytes"));
    }
  } else if (char* value = std::getenv(kTokenVariable)) {
    token = value;
    // The environment of a process can be read by its user for as long as it lives: the token shall not stay there.
    std::memset(value, 0, std::strlen(value));
    unsetenv(kTokenVariable);
  } else {
    return absl::InvalidArgumentError(absl::StrCat("no join token: give --token-file, or set ", kTokenVariable));
  }
  const size_t end = token.find_last_not_of(" \t\r\n");
  token.resize(end == std::string::npos ? 0 : end + 1);
  if (token.empty()) return absl::InvalidArgumentError("the join token is empty");
  for (unsigned char c : token) {
    if (c <= ' ' || c > '~')
      return absl::InvalidArgumentError("the join token has a character that is not printable ASCII");
  }
  return token;
}

// Waits for signals beside the control thread. A launched agent leaves SIGINT and SIGTERM to its master: a terminal and
// a service manager signal every process at once, and requests that run shall be finished first.
class Signals {
 public:
  explicit Signals(bool launched) {
    sigset_t set;
    sigemptyset(&set);
    if (launched) {
      signal(SIGINT, SIG_IGN);
      signal(SIGTERM, SIG_IGN);
    } else {
      sigaddset(&set, SIGINT);
      sigaddset(&set, SIGTERM);
    }
    pthread_sigmask(SIG_BLOCK, &set, nullptr);  // before any thread starts
    signal(SIGPIPE, SIG_IGN);
    signals_ = signalfd(-1, &set, SFD_CLOEXEC);
    end_ = eventfd(0, EFD_CLOEXEC);
  }
  ~Signals() {
    End();
    close(signals_);
    close(end_);
  }
  void Watch(AgentSession* session) {
    thread_ = std::thread([this, session] {
      pollfd fds[2] = {{signals_, POLLIN, 0}, {end_, POLLIN, 0}};
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
  return options;
}

}  // namespace

absl::Status RunAgent(const AgentOptions& options) {
  SetLogLevel(options.log);
  SetLogProcess(options.agent < 0 ? "agent" : absl::StrCat("agent ", options.agent));
  const absl::StatusOr<std::string> token = ReadToken(options);
  if (!token.ok()) return token.status();
  Signals signals(/*launched=*/options.token_file.empty());
  AgentSession session(options, *token);
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
    std::fprintf(stderr, "pangea agent: %s\n\n%s", std::string(options.status().message()).c_str(), kHelp);
    return kExitUsage;
  }
  const absl::Status status = RunAgent(*options);
  if (status.ok()) return 0;
  LogError("%s", status.ToString());
  return 1;
}

}  // namespace pangea
