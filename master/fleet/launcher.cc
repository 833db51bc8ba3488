#include "master/fleet/launcher.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

extern char** environ;

namespace pangea {
namespace {

constexpr char kTokenVariable[] = "PANGEA_AGENT_TOKEN=";
constexpr int kExitCannotExecute = 127;

// Between fork and exec of a process with threads: only async-signal-safe calls.
[[noreturn]] void RunChild(char* const* arguments, char* const* environment, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(kExitCannotExecute);  // it died before the line above
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  // Ctrl-C and a closed terminal reach the whole group; what they mean is for the master to decide.
  for (const int ignored : {SIGINT, SIGHUP}) signal(ignored, SIG_IGN);
  for (const int usual : {SIGTERM, SIGPIPE, SIGXFSZ}) signal(usual, SIG_DFL);
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null >= 0) dup2(null, STDIN_FILENO);
  dup2(STDERR_FILENO, STDOUT_FILENO);  // standard output belongs to the master's one line
  syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC);
  execve(arguments[0], arguments, environment);
  _exit(kExitCannotExecute);
}

}  // namespace

absl::StatusOr<Child> Launch(const std::vector<std::string>& arguments, const std::string& token) {
  if (access(arguments[0].c_str(), X_OK) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot execute ", arguments[0]));
  }
  const std::string token_entry = kTokenVariable + token;
  std::vector<char*> argv, envp;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (std::strncmp(*entry, kTokenVariable, sizeof(kTokenVariable) - 1) != 0) envp.push_back(*entry);
  }
  envp.push_back(const_cast<char*>(token_entry.c_str()));
  envp.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return absl::ErrnoToStatus(errno, "cannot start an agent (fork)");
  if (pid == 0) RunChild(argv.data(), envp.data(), parent);
  // Not reaped yet, so the number cannot have been given to another process.
  const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  if (pidfd < 0) {
    const absl::Status status = absl::ErrnoToStatus(errno, "cannot watch an agent (pidfd_open needs Linux 5.3)");
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    return status;
  }
  return Child{.pid = pid, .pidfd = pidfd};
}

ChildEnd Reap(Child& child) {
  int status = 0;
  pid_t reaped;
  do {
    reaped = waitpid(child.pid, &status, 0);
  } while (reaped < 0 && errno == EINTR);
  close(child.pidfd);
  child.pidfd = -1;
  if (reaped < 0) return {.text = "has ended"};
  if (WIFSIGNALED(status)) {
    const int signal = WTERMSIG(status);
    return {.by_signal = true,
            .killed = signal == SIGKILL,
            .text = absl::StrCat("was killed by signal ", signal, " (", strsignal(signal), ")")};
  }
  const int code = WEXITSTATUS(status);
  return {.text = absl::StrCat("exited with code ", code,
                               code == kExitCannotExecute ? " (its program could not be started)" : "")};
}

}  // namespace pangea
