#include "configs/serve_args.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "configs/cat.h"
#include "configs/keys.h"
#include "configs/values.h"

namespace pangea {
namespace {

struct Option {
  std::string_view name;
  std::string_view prefix;  // of the setting that it stands for; empty: the value is a setting
  bool literal = false;     // the value is meant as it stands, and not as YAML
};
constexpr Option kOptions[] = {{"--name", "name=", true},
                               {"--api-key-file", "keys.file=", true},
                               {"--pipeline", "parallel.pipeline="},
                               {"--tensor", "parallel.tensor="},
                               {"--device", "agents.device="},
                               {"--timeline", "timeline.file=", true},
                               {"--host", ""},
                               {"--port", ""},
                               {"--set", ""}};

absl::Status SetAddress(std::string_view option, const std::string& value, RestAddress& at) {
  if (option == "--port") {
    if (absl::SimpleAtoi(value, &at.port) && at.port >= 0 && at.port <= 65535) return absl::OkStatus();
    return absl::InvalidArgumentError(Cat("--port ", Printable(value), ": a number from 0 to 65535 is expected"));
  }
  at.host = value.starts_with("[") && value.ends_with("]") ? value.substr(1, value.size() - 2) : value;
  const bool address = std::count(at.host.begin(), at.host.end(), ':') > 1;  // of IPv6
  if (ParseHostPort(Cat(address ? "[" : "", at.host, address ? "]" : "", ":0")).ok()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      Cat("--host ", Printable(value), ": an address or a name is expected, such as 127.0.0.1, ::1 or 0.0.0.0"));
}

std::string Unknown(std::string_view word) {
  std::vector<std::string> names;
  for (const Option& option : kOptions) names.emplace_back(option.name);
  std::string nearest = Nearest(word, names);
  for (const std::string& name : names) {
    if (word.size() > 3 && name.starts_with(word)) nearest = name;
  }
  const bool near = (word.size() > 3 && nearest.starts_with(word)) ||
                    3 * EditDistance(word, nearest) <= static_cast<int>(word.size());
  return Cat("unknown option ", Printable(word), near ? Cat("; did you mean ", nearest, "?") : "; see --help");
}

std::string SettingOf(const Option& option, const std::string& value) {
  if (!option.literal) return Cat(option.prefix, value);
  return Cat(option.prefix, absl::StrReplaceAll(QuoteYaml(value), {{"$", "$$"}}));
}

}  // namespace

absl::StatusOr<ServeArgs> ParseServeArgs(int argc, const char* const* argv) {
  ServeArgs args;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--help" || word == "-h" || word == "--help-all") {
      args.help = true;
      args.every_key = word == "--help-all";
      return args;
    }
    if (!word.starts_with("-") || word == "-") {
      if (!args.target.empty())
        return absl::InvalidArgumentError(Cat("one target is expected, not also \"", Printable(word), "\""));
      args.target = std::string(word);
      continue;
    }
    const size_t equals = word.find('=');
    const Option* option = nullptr;
    for (const Option& o : kOptions) {
      if (word.substr(0, equals) == o.name) option = &o;
    }
    if (option == nullptr) return absl::InvalidArgumentError(Unknown(word.substr(0, equals)));
    std::string value;
    if (equals != word.npos) {
      value = std::string(word.substr(equals + 1));
    } else if (i + 1 < argc) {
      value = argv[++i];
    } else {
      return absl::InvalidArgumentError(Cat(word, " needs a value; see --help"));
    }
    if (option->name == "--host" || option->name == "--port") {
      if (absl::Status s = SetAddress(option->name, value, args.at); !s.ok()) return s;
    } else {
      args.settings.push_back(SettingOf(*option, value));
    }
  }
  if (args.target.empty()) {
    return absl::InvalidArgumentError(
        "a target is expected: a deployment file, a model folder or a .gguf file; see --help");
  }
  return args;
}

std::string ServeHelp(const std::string& command, bool every_key) {
  const bool serve = command == "serve";
  std::string out = Cat("Usage: pangea ", command, R"( TARGET [options]

)",
                        serve ? R"(Serves a model over REST and gRPC until SIGINT, SIGTERM or SIGHUP. Prints one
line when it is ready: ready rest=http://HOST:PORT grpc=HOST:PORT. Logs go to
standard error.
)"
                              : R"(Prints who would hold what, bytes per agent and KV tokens, or every fault at
once. Starts nothing and reads no weights.
)",
                        R"(
  TARGET                a deployment file (.yaml), a model folder of Hugging
                        Face, a .gguf file, or a folder with one .gguf in it
  --host ADDRESS        where both doors listen (127.0.0.1; 0.0.0.0: everywhere)
  --port N              REST's port (8000), 0 for a free one; gRPC takes the
                        next one (8001), unless grpc.listen is set
  --name NAME           what clients call the model (the file's or folder's)
  --api-key-file FILE   who may ask, by `pangea key NAME` (without it: all)
  --pipeline N          pipeline stages (1)
  --tensor N            tensor-parallel ranks of each stage (1)
  --device KIND         cpu, or sim, which computes nothing (cpu)
  --timeline FILE       every step on every rank, for Perfetto
  --set KEY=VALUE       any key of a deployment file, over the file; repeatable
  --help, --help-all    this text; this text and all keys

)",
                        serve ? "Exit status: 0 after a requested stop, 1 when serving failed, "
                              : "Exit status: 0 when it can be served, ",
                        "64 for a wrong\ncommand line, 78 for a deployment that is refused.\n");
  if (!every_key) return out;
  out += "\nKeys (default; range). --set cache.memory=1GiB; the value is YAML; agents.0.threads is that of entry 0.\n";
  Deployment defaults;
  for (const ConfigKey& key : ConfigKeys()) {
    const std::string value = GetKey(key, key.field(defaults, defaults.agents));
    Append(out, "  ", absl::StrFormat("%-30s", std::string(key.name)), " ", key.name == "model" ? "none" : value, "; ",
           RangeText(key), "\n      ", absl::StrReplaceAll(std::string(key.doc), {{"`", ""}}), "\n");
  }
  return out;
}

}  // namespace pangea
