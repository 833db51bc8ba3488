// The only main(): subcommand -> function of a room.
#include <cstdio>
#include <string_view>

#include "absl/synchronization/mutex.h"
#include "agent/service.h"
#include "clients/commands.h"
#include "configs/version.h"
#include "master/check.h"
#include "master/keys/keys.h"
#include "master/server.h"
#include "master/simulate.h"

namespace {

int Version(int, char**);
int Help(int, char**);

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
    {"key", pangea::KeyMain, "make an API key for the file that keys.file names"},
    {"chat", pangea::clients::ChatMain, "talk with a served model"},
    {"generate", pangea::clients::GenerateMain, "one prompt, one answer"},
    {"bench", pangea::clients::BenchMain, "bench serve: load a server and report latencies and throughput"},
    {"version", Version, "print the version"},
    {"help", Help, "this text"},
};

int Version(int, char**) {
  std::printf("pangea %s\n", pangea::kVersion);
  return 0;
}

void Print(std::FILE* to) {
  std::fprintf(to, "Usage: pangea SUBCOMMAND [options]\n\n");
  for (const Subcommand& command : kSubcommands)
    std::fprintf(to, "  %-10.*s %s\n", static_cast<int>(command.name.size()), command.name.data(), command.what);
  std::fprintf(to, "\nEvery subcommand explains itself with --help.\n");
}

int Help(int, char**) {
  Print(stdout);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  constexpr int kUsage = 64;  // sysexits' EX_USAGE
  // Debian builds Abseil with lock-order checks, which cost gRPC a tenth of its time on every message.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  std::string_view name = argc > 1 ? argv[1] : "";
  if (name == "--help" || name == "-h") name = "help";
  if (name == "--version") name = "version";
  for (const Subcommand& command : kSubcommands) {
    if (command.name == name) return command.run(argc - 1, argv + 1);
  }
  if (!name.empty()) std::fprintf(stderr, "pangea: unknown subcommand %s\n", argv[1]);
  Print(stderr);
  return kUsage;
}
