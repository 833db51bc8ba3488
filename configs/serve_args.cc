#include "configs/serve_args.h"

#include <algorithm>
#include <iostream>

#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "configs/cat.h"
#include "configs/keys.h"
#include "configs/values.h"

namespace pangea {
namespace {

absl::Status SetHost(const std::string& value, std::string* host) {
  *host = value.starts_with("[") && value.ends_with("]") ? value.substr(1, value.size() - 2) : value;
  const bool address = std::count(host->begin(), host->end(), ':') > 1;  // of IPv6
  if (ParseHostPort(Cat(address ? "[" : "", *host, address ? "]" : "", ":0")).ok()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      Cat("an address or a name is expected, such as 127.0.0.1, ::1 or 0.0.0.0, not \"", Printable(value), "\""));
}

// Options that stand for a setting. literal: the value is meant as it stands, and not as YAML.
CommandLine::Setter Setting(ServeArgs* args, std::string key, bool literal) {
  return [=](const std::string& value) {
    const std::string text = literal ? absl::StrReplaceAll(QuoteYaml(value), {{"$", "$$"}}) : value;
    args->settings.push_back(Cat(key, "=", text));
    return absl::OkStatus();
  };
}

}  // namespace

void AddLayoutOptions(CommandLine& line, ServeArgs* args) {
  line.Value("--pipeline", "N", "pipeline stages (1)", Setting(args, "parallel.pipeline", false));
  line.Value("--tensor", "N", "tensor-parallel ranks of each stage (1)", Setting(args, "parallel.tensor", false));
  line.Value("--device", "KIND", "cpu, cuda, or for tests sim, which computes nothing, and cuda_on_cpu (cpu)",
             Setting(args, "agents.device", false));
  line.List("--set", "KEY=VALUE", "any key of a deployment file, over the file; repeatable", &args->settings);
}

CommandLine ServeCommandLine(const std::string& command, ServeArgs* args) {
  const bool serve = command == "serve";
  CommandLine line(command, "TARGET [options]",
                   serve ? R"(Serves a model over REST and gRPC until SIGINT, SIGTERM or SIGHUP. Prints one
line when it is ready: ready rest=http://HOST:PORT grpc=HOST:PORT. Logs go to
standard error. Exit status: 0 after a requested stop, 1 when serving failed, 64
for a wrong command line, 78 for a deployment that is refused.)"
                         : R"(Prints who would hold what, bytes per agent and KV tokens, or every fault at
once. Starts nothing and reads no weights. Exit status: 0 when it can be served,
64 for a wrong command line, 78 for a deployment that is refused.)");
  line.Word(
      "TARGET",
      "a deployment file (.yaml), a model folder of Hugging Face, a .gguf file, or a folder with one .gguf in it");
  line.Value("--host", "ADDRESS", "where both doors listen (127.0.0.1; 0.0.0.0: everywhere)",
             [args](const std::string& value) { return SetHost(value, &args->at.host); });
  line.Number("--port", "REST's port (8000), 0 for a free one; gRPC takes the next, unless grpc.listen is set",
              {0, 65535}, &args->at.port);
  line.Value("--name", "NAME", "what clients call the model (the file's or folder's)", Setting(args, "name", true));
  line.Value("--api-key-file", "FILE", "who may ask, by `pangea key NAME` (without it: all)",
             Setting(args, "keys.file", true));
  AddLayoutOptions(line, args);
  line.Value("--timeline", "FILE", "every step on every rank, for Perfetto", Setting(args, "timeline.file", true));
  line.Switch("--help-all", "this text and all keys of a deployment file", &args->every_key);
  return line;
}

absl::Status ParseTarget(CommandLine& line, int argc, const char* const* argv, ServeArgs* args) {
  const auto words = line.Parse(argc, argv);
  if (!words.ok() || line.help() || args->every_key) return words.status();
  if (words->size() > 1)
    return absl::InvalidArgumentError(Cat("one target is expected, not also \"", Printable((*words)[1]), "\""));
  if (words->empty() || words->front().empty()) {
    return absl::InvalidArgumentError(
        "a target is expected: a deployment file, a model folder or a .gguf file; see --help");
  }
  args->target = words->front();
  return absl::OkStatus();
}

std::optional<int> ServeExit(const CommandLine& line, const absl::Status& parsed, const ServeArgs& args) {
  if (!parsed.ok() || !args.every_key) return line.Exit(parsed);
  std::cout << line.Help() << KeysHelp() << std::flush;
  return 0;
}

std::string KeysHelp() {
  std::string out =
      "\nKeys (default; range). --set cache.memory=1GiB; the value is YAML; agents.0.threads is that of entry 0.\n";
  Deployment defaults;
  for (const ConfigKey& key : ConfigKeys()) {
    const std::string value = GetKey(key, key.field(defaults, defaults.agents));
    Append(out, "  ", absl::StrFormat("%-30s", std::string(key.name)), " ", key.name == "model" ? "none" : value, "; ",
           RangeText(key), "\n      ", absl::StrReplaceAll(std::string(key.doc), {{"`", ""}}), "\n");
  }
  return out;
}

}  // namespace pangea
