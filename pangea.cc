// The only main(): subcommand -> function of a room.
#include <csignal>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "agent/bench_model.h"
#include "agent/service.h"
#include "clients/commands.h"
#include "configs/command_line.h"
#include "configs/values.h"
#include "configs/version.h"
#include "kernels/isa.h"
#include "master/check.h"
#include "master/fleet/admin.h"
#include "master/keys/keys.h"
#include "master/server.h"
#include "master/simulate.h"

namespace pangea {
extern const char kCommit[], kBuildType[];  // of a file that the build writes
}

namespace {

int Version(int, char**);
int Help(int, char**);
int Bench(int, char**);

struct Subcommand {
  std::string_view name;
  int (*run)(int argc, char** argv);
  const char* what;
};
constexpr Subcommand kSubcommands[] = {
    {"serve", pangea::ServeMain, "serve a deployment file, a model folder or a .gguf file over REST and gRPC"},
    {"check", pangea::CheckMain, "print the plan of a deployment, or every fault of it"},
    {"simulate", pangea::SimulateMain,
     "predict a deployment's speed in virtual time, without its hardware or its weights"},
    {"agent", pangea::AgentMain, "join a master as one of its agents, usually from another host"},
    {"admin", pangea::AdminMain, "look at the agents of a running master, replace them, pause its requests"},
    {"key", pangea::KeyMain, "make an API key for the file that keys.file names"},
    {"chat", pangea::clients::ChatMain, "talk with a served model"},
    {"generate", pangea::clients::GenerateMain, "one prompt, one answer"},
    {"bench", Bench, "bench serve: load a server; bench model: measure the agents alone"},
    {"version", Version, "print the version, what it was built from and what this machine's CPU can do"},
    {"help", Help, "help SUBCOMMAND: what it does and takes; without one this text"},
};

void Print(std::FILE* to) {
  std::fprintf(to, "Usage: pangea SUBCOMMAND [options]\n\n");
  for (const Subcommand& command : kSubcommands)
    std::fprintf(to, "  %-10.*s %s\n", static_cast<int>(command.name.size()), command.name.data(), command.what);
  std::fprintf(to, "\nEvery subcommand explains itself with --help.\n");
}

bool AsksForHelp(std::string_view word) { return word == "--help" || word == "-h"; }

int Version(int argc, char** argv) {
  pangea::CommandLine line("version", "",
                           "Prints the version, the commit it was built from, how it was built, and the best\n"
                           "instruction set class that this machine's CPU has.");
  if (const auto code = line.Exit(line.Parse(argc, argv, /*most_words=*/0).status())) return *code;
  std::printf("pangea %s\ncommit %s\nbuild  %s, compiler %s\nISA    %s (of this machine)\n", pangea::kVersion,
              pangea::kCommit, pangea::kBuildType, __VERSION__,
              std::string(pangea::IsaName(pangea::BestIsa())).c_str());
  return 0;
}

int Bench(int argc, char** argv) {
  const bool model = argc > 1 && std::string_view(argv[1]) == "model";
  return model ? pangea::BenchModelMain(argc, argv) : pangea::clients::BenchMain(argc, argv);
}

const Subcommand* Find(std::string_view name) {
  for (const Subcommand& command : kSubcommands) {
    if (command.name == name) return &command;
  }
  return nullptr;
}

int Unknown(std::string_view name) {
  std::vector<std::string> names;
  for (const Subcommand& command : kSubcommands) names.emplace_back(command.name);
  const std::string nearest = pangea::Nearest(name, names), shown = pangea::Printable(name);
  if (2 * pangea::EditDistance(name, nearest) <= static_cast<int>(name.size())) {
    std::fprintf(stderr, "pangea: unknown subcommand %s; did you mean %s?\n\n", shown.c_str(), nearest.c_str());
  } else {
    const bool path = name.find_first_of("./") != name.npos;
    std::fprintf(stderr, "pangea: unknown subcommand %s%s%s\n\n", shown.c_str(),
                 path ? "; to serve it: pangea serve " : "", path ? shown.c_str() : "");
  }
  Print(stderr);
  return pangea::kUsageExitCode;
}

// "help bench serve" is "bench serve --help".
int Help(int argc, char** argv) {
  if (argc < 2 || AsksForHelp(argv[1])) return Print(stdout), 0;
  const Subcommand* command = Find(argv[1]);
  if (command == nullptr) return Unknown(argv[1]);
  if (command->run == Help) return Print(stdout), 0;
  std::string help = "--help";
  std::vector<char*> words(argv + 1, argv + argc);
  words.push_back(help.data());
  return command->run(static_cast<int>(words.size()), words.data());
}

}  // namespace

int main(int argc, char** argv) {
  // A file that has reached its size limit is an error of that write, as on a full disk, and not the process's end.
  std::signal(SIGXFSZ, SIG_IGN);
  // Debian builds Abseil with lock-order checks, which cost gRPC a tenth of its time on every message.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  std::string_view name = argc > 1 ? argv[1] : "";
  if (AsksForHelp(name)) name = "help";
  if (name == "--version" || name == "-V") name = "version";
  if (name.empty()) return Print(stderr), pangea::kUsageExitCode;
  const Subcommand* command = Find(name);
  return command != nullptr ? command->run(argc - 1, argv + 1) : Unknown(name);
}
