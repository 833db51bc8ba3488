#include "configs/serve_args.h"

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "configs/cat.h"
#include "configs/keys.h"

namespace pangea {
namespace {

struct Option {
  std::string_view name;
  std::string_view prefix;  // of the setting that it stands for; empty: the value is a setting
};
constexpr Option kOptions[] = {{"--pipeline", "parallel.pipeline="},
                               {"--tensor", "parallel.tensor="},
                               {"--device", "agents.device="},
                               {"--timeline", "timeline.file="},
                               {"--set", ""}};

}  // namespace

absl::StatusOr<ServeArgs> ParseServeArgs(int argc, const char* const* argv) {
  ServeArgs args;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--help" || word == "-h") {
      args.help = true;
      return args;
    }
    if (!word.starts_with("-") || word == "-") {
      if (!args.target.empty())
        return absl::InvalidArgumentError(Cat("one target is expected, not also \"", word, "\""));
      args.target = std::string(word);
      continue;
    }
    const size_t equals = word.find('=');
    const Option* option = nullptr;
    for (const Option& o : kOptions) {
      if (word.substr(0, equals) == o.name) option = &o;
    }
    if (option == nullptr) return absl::InvalidArgumentError(Cat("unknown option ", word, "; see --help"));
    std::string value;
    if (equals != word.npos) {
      value = std::string(word.substr(equals + 1));
    } else if (i + 1 < argc) {
      value = argv[++i];
    } else {
      return absl::InvalidArgumentError(Cat(word, " needs a value; see --help"));
    }
    args.settings.push_back(Cat(option->prefix, value));
  }
  if (args.target.empty()) {
    return absl::InvalidArgumentError(
        "a target is expected: a deployment file, a model folder or a .gguf file; see --help");
  }
  return args;
}

std::string ServeHelp(const std::string& command) {
  const bool serve = command == "serve";
  std::string out = Cat(
      "Usage: pangea ", command, " TARGET [options]\n\n",
      serve ? "Starts the master, its agents and the REST and gRPC doors, and serves until SIGINT or SIGTERM. When "
              "every rank is\n"
              "ready, one line goes to standard output: ready rest=http://HOST:PORT grpc=HOST:PORT. Logs go to "
              "standard error.\n"
            : "Prints the plan of a deployment (who holds what, bytes per agent, KV tokens), or every fault of it at "
              "once.\n"
              "Starts nothing and reads no weights.\n",
      "\nTARGET   a deployment file (.yaml, .yml), a model folder (Hugging Face layout) or a .gguf file\n\n"
      "  --pipeline N           pipeline stages (parallel.pipeline)\n"
      "  --tensor N             tensor-parallel ranks of each stage (parallel.tensor)\n"
      "  --device KIND          cpu or sim (agents.device)\n"
      "  --timeline FILE        a timeline of every step on every rank, for Perfetto (timeline.file)\n"
      "  --set KEY.PATH=VALUE   any key below, over the file; VALUE is YAML: --set cache.memory=1GiB; may be "
      "repeated.\n"
      "                         In a list of agents an entry goes by its number: --set agents.0.threads=2\n"
      "  --help                 this text\n\n"
      "Exit status: 0 ",
      serve ? "after a requested stop" : "when the deployment can be served",
      ", 64 for a wrong command line, 78 for a deployment that is refused.\n\nKeys (default; range):\n");
  Deployment defaults;
  for (const ConfigKey& key : ConfigKeys()) {
    const std::string value = GetKey(key, key.field(defaults, defaults.agents));
    Append(out, "  ", absl::StrFormat("%-30s", std::string(key.name)), " ", key.name == "model" ? "none" : value, "; ",
           RangeText(key), "\n      ", absl::StrReplaceAll(std::string(key.doc), {{"`", ""}}), "\n");
  }
  return out;
}

}  // namespace pangea
