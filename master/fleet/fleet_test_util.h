// For tests of whole fleets: a plan of the small model, steps to send, and processes to start and look for.
#pragma once
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <sstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"
#include "master/fleet/fleet.h"

namespace pangea {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

constexpr char kToken[] = "a-token-for-the-tests";

inline std::string Self() { return std::filesystem::read_symlink("/proc/self/exe").string(); }

// What on_result and on_failure have said.
class Witness {
 public:
  FleetOptions Options() {
    return {.executable = Self(),
            .on_result = [this](StepResult result) { Note([&] { results_.push_back(std::move(result)); }); },
            .on_failure = [this](const absl::Status& why) { Note([&] { failures_.push_back(why); }); }};
  }
  bool WaitResults(size_t n) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, seconds(200), [&] { return results_.size() >= n; });
  }
  bool WaitFailure() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, seconds(200), [&] { return !failures_.empty(); });
  }
  std::vector<StepResult> results() {
    std::lock_guard lock(mutex_);
    return results_;
  }
  std::vector<absl::Status> failures() {
    std::lock_guard lock(mutex_);
    return failures_;
  }

 private:
  template <typename F>
  void Note(F f) {
    std::lock_guard lock(mutex_);
    f();
    changed_.notify_all();
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<StepResult> results_;
  std::vector<absl::Status> failures_;
};

struct Plan {
  Deployment deployment;
  CheckpointHeader header;
  ParallelPlan plan;
};

inline Plan MakeTestPlan(int stages, int ranks, const std::string& transport, const std::string& launch = "local") {
  Plan p;
  p.deployment.model = PANGEA_SOURCE_DIR "/models/stories260k";
  p.deployment.name = "stories";
  p.deployment.parallel = {.pipeline = stages, .tensor = ranks, .transport = transport};
  p.deployment.agents.device = "sim";
  p.deployment.agents.launch = launch;
  p.deployment.cache.memory = 4 << 20;
  p.deployment.control.join_seconds = 30;
  p.deployment.control.step_seconds = 20;
  p.deployment.control.recovery_attempts = 0;  // a loss is told as a failure
  p.deployment.control.silence_seconds = 100;  // tests of the machine's load are none of ours
  p.deployment.log.level = "error";
  auto header = ReadCheckpointHeader(p.deployment.model);
  EXPECT_TRUE(header.ok()) << header.status();
  p.header = *header;
  auto plan = MakePlan(p.header, p.deployment);
  EXPECT_TRUE(plan.faults.empty()) << plan.faults.front().Text();
  p.plan = plan.plan;
  return p;
}

// Step `number` of one sequence: its prompt first, then "your last sample".
inline Step TestStep(uint64_t number) {
  Step step{.epoch = 1, .number = number};
  StepSequence& s = step.sequences.emplace_back();
  s.id = 7;
  s.logits = LogitRows::kLast;
  if (number == 1) {
    s.ids = {1, 2, 3};
    s.blocks = {{0, 1, 2, 3}};
    s.whole_tables = true;
    s.sampling = SequenceSampling{.params = std::make_shared<Sampling>(Sampling{.temperature = 0})};
  } else {
    s.start = 1 + static_cast<int>(number);
    s.blocks = {{}};
  }
  return step;
}

inline std::vector<pid_t> Children(pid_t parent = getpid()) {
  std::vector<pid_t> children;
  for (const auto& task : std::filesystem::directory_iterator(absl::StrCat("/proc/", parent, "/task"))) {
    std::ifstream file(task.path() / "children");
    for (pid_t pid; file >> pid;) children.push_back(pid);
  }
  return children;
}
inline bool WaitChildren(size_t n) {
  for (const auto end = steady_clock::now() + seconds(60); steady_clock::now() < end;) {
    if (Children().size() == n) return true;
    std::this_thread::sleep_for(milliseconds(5));
  }
  for (const pid_t pid : Children()) ADD_FAILURE() << "child " << pid;
  return false;
}
// The child that runs `agent --agent index`.
inline pid_t ChildOf(int index) {
  for (pid_t pid : Children()) {
    std::ifstream file(absl::StrCat("/proc/", pid, "/cmdline"));
    std::stringstream text;
    text << file.rdbuf();
    const std::vector<std::string> arguments = absl::StrSplit(text.str(), '\0');
    for (size_t i = 0; i + 1 < arguments.size(); ++i) {
      if (arguments[i] == "--agent" && arguments[i + 1] == std::to_string(index)) return pid;
    }
  }
  ADD_FAILURE() << "no process of agent " << index;
  return -1;
}
inline bool Gone(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  std::string text;
  if (!std::getline(file, text)) return true;
  const size_t end = text.rfind(')');
  return end == std::string::npos || text.substr(end + 2, 1) == "Z";
}
inline int Entries(const char* folder) {
  int n = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++n;
  return n;
}

inline std::string TempFile(const std::string& name, const std::string& content) {
  const std::string path = absl::StrCat(::testing::TempDir(), "/fleet_test_", getpid(), "_", name);
  std::ofstream(path) << content;
  return path;
}

// A port that was free a moment ago: remote agents need one that is known beforehand.
inline int FreePort() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  EXPECT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), length), 0);
  EXPECT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length), 0);
  close(fd);
  return ntohs(address.sin_port);
}

// `fleet_test MODE …` as a process of its own, its standard error in a file.
struct Process {
  pid_t pid;
  std::string log;
  int Wait() {
    int status = 0;
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  std::string Log() const {
    std::ifstream file(log);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }
};
inline Process Start(std::vector<std::string> arguments) {
  static int counter = 0;
  Process process{.pid = -1, .log = TempFile(absl::StrCat("log_", counter++), "")};
  arguments.insert(arguments.begin(), Self());
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  process.pid = fork();
  if (process.pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int log = open(process.log.c_str(), O_WRONLY | O_TRUNC);
    dup2(log, 2);
    execv(argv[0], argv.data());
    _exit(127);
  }
  return process;
}
inline Process StartAgent(int port, const std::string& token_file, std::vector<std::string> more = {}) {
  std::vector<std::string> arguments = {"agent", "--master", absl::StrCat("127.0.0.1:", port), "--token-file",
                                        token_file};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return Start(arguments);
}

}  // namespace pangea
