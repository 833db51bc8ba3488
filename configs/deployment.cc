#include "configs/deployment.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "configs/cat.h"
#include "configs/keys.h"
#include "configs/model_path.h"
#include "configs/read_file.h"
#include "configs/reader.h"
#include "configs/values.h"
#include "configs/yaml_tree.h"

namespace pangea {
namespace {

namespace fs = std::filesystem;

enum class TargetKind { kYaml, kModel };

// GGUF files go by other names too, such as the digests in Ollama's store.
bool BeginsAsGguf(const std::string& path) {
  char magic[4] = {};
  std::ifstream(path, std::ios::binary).read(magic, sizeof magic);
  return std::string_view(magic, sizeof magic) == "GGUF";
}

absl::StatusOr<TargetKind> Classify(const std::string& target) {
  const bool yaml = target.ends_with(".yaml") || target.ends_with(".yml");
  std::error_code error;
  const fs::file_status status = fs::status(target, error);
  if (!fs::status_known(status)) return absl::InvalidArgumentError(Cat(Printable(target), ": ", error.message()));
  if (!fs::exists(status)) return absl::NotFoundError(MissingText(target));
  if (fs::is_directory(status)) {
    const auto found = FindModel(target);
    return found.ok() ? absl::StatusOr<TargetKind>(TargetKind::kModel) : found.status();
  }
  if (!fs::is_regular_file(status)) return absl::InvalidArgumentError(Cat(Printable(target), ": not a file"));
  if (yaml) return TargetKind::kYaml;
  if (target.ends_with(".gguf") || BeginsAsGguf(target)) return TargetKind::kModel;
  return absl::InvalidArgumentError(Cat(
      Printable(target), ": expected a deployment file (.yaml, .yml), a model folder or a GGUF file",
      fs::exists(fs::path(target).parent_path() / "config.json", error) ? "; give the folder that this lies in" : ""));
}

absl::Status Refusal(const std::vector<std::string>& faults) {
  return absl::InvalidArgumentError(absl::StrJoin(faults, "\n"));
}

DeploymentResult Unreadable(std::vector<std::string> faults) {
  DeploymentResult result;
  result.faults = std::move(faults);
  return result;
}

// A key that is out of its range would lead the plan astray: back to its default.
void RestoreDefault(const std::string& shown, Deployment& deployment) {
  if (shown == "agents") deployment.agent_list.clear();
  Deployment defaults;
  AgentConfig* agent = &deployment.agents;
  std::string name = shown;
  for (size_t i = 0; i < deployment.agent_list.size(); ++i) {
    const std::string prefix = Cat("agents[", i, "].");
    if (!shown.starts_with(prefix)) continue;
    agent = &deployment.agent_list[i];
    name = Cat("agents.", shown.substr(prefix.size()));
  }
  const ConfigKey* key = FindKey(name);
  if (key == nullptr) return;
  const KeyField from = key->field(defaults, defaults.agents);
  std::visit([&](auto* to) { *to = *std::get<decltype(to)>(from); }, key->field(deployment, *agent));
}

// --host and --port over what the file says. Where gRPC listens is the file's to say; where that is silent, it takes
// the same host and the port behind REST's, as the defaults do.
void Move(const RestAddress& to, ReadResult& read) {
  if (to.host.empty() && to.port < 0) return;
  std::string label = to.host.empty() ? "" : Cat("--host ", Printable(to.host));
  if (to.port >= 0) Append(label, label.empty() ? "" : " ", "--port ", to.port);
  const auto place = std::make_shared<const std::string>(label);
  const bool grpc_is_set = read.places.contains("grpc.listen");
  const auto move = [&](const char* key, std::string& listen, int port) {
    HostPort at = ParseHostPort(listen).value_or(*ParseHostPort(Deployment().rest.listen));
    if (!to.host.empty()) at.host = to.host;
    if (port >= 0) at.port = port;
    listen = Cat(at.host.find(':') == at.host.npos ? at.host : Cat("[", at.host, "]"), ":", at.port);
    read.places[key] = {place};
  };
  move("rest.listen", read.deployment.rest.listen, to.port);
  const bool has_next = to.port > 0 && to.port < 65535;
  if (!grpc_is_set) move("grpc.listen", read.deployment.grpc.listen, has_next ? to.port + 1 : std::min(to.port, 0));
}

// `faults` holds what was found before. from_here: the environment and the paths are this process's.
DeploymentResult Finish(ReadResult read, const std::string& file, bool from_here, std::vector<std::string> faults) {
  faults.insert(faults.end(), read.faults.begin(), read.faults.end());
  DeploymentResult result{.deployment = std::move(read.deployment), .faulty = std::move(read.faulty)};
  for (const auto& [key, place] : read.places) result.places[key] = place.Text();
  Deployment& deployment = result.deployment;
  if (from_here) deployment.model = FindModel(deployment.model).value_or(deployment.model);
  if (deployment.name.empty() && !deployment.model.empty()) deployment.name = DefaultName(deployment.model);
  for (const DeploymentFault& fault : ValidateDeployment(deployment, result.faulty)) {
    const bool placed = result.places.contains(fault.key) || result.places.contains(fault.other);
    faults.push_back(placed ? result.Placed(fault) : Cat(file, ": ", fault.Text()));
    RestoreDefault(fault.key, deployment);
    result.faulty.insert(fault.key);
  }
  // What no rule has judged, and a list of agents whose number depends on keys that have their defaults now; a default
  // may not go with another key in its turn, but at last all have theirs.
  for (int pass = 0; pass < 4; ++pass) {
    for (const DeploymentFault& fault : ValidateLayout(deployment)) RestoreDefault(fault.key, deployment);
  }
  if (faults.size() > kMaxYamlFaults) {
    const size_t more = faults.size() - kMaxYamlFaults;
    faults.resize(kMaxYamlFaults);
    faults.push_back(Cat("and ", more, " more faults"));
  }
  result.faults = std::move(faults);
  result.readable = !deployment.model.empty();
  return result;
}

// "key.path=value" -> the tree; the value is YAML, a scalar or flow.
void Apply(const std::string& setting, YamlNode& root, std::vector<std::string>& faults) {
  const std::string label = Cat("--set ", Printable(setting.substr(0, 120)));
  const size_t equals = setting.find('=');
  if (equals == std::string::npos || equals == 0) {
    faults.push_back(Cat(label, ": expected key.path=value"));
    return;
  }
  YamlResult value = ParseYaml(std::string_view(setting).substr(equals + 1), label, false);
  if (!value.faults.empty()) {
    faults.insert(faults.end(), value.faults.begin(), value.faults.end());
    return;
  }
  if (value.root.place.source == nullptr) value.root.place.source = std::make_shared<const std::string>(label);
  const std::string path = setting.substr(0, equals);
  const std::string what = ApplySetting(root, path, std::move(value.root));
  if (!what.empty()) faults.push_back(Cat(label, ": ", what));
}

YamlNode ModelTarget(const std::string& target) {
  const auto source = std::make_shared<const std::string>(Printable(target));
  YamlNode root;
  root.kind = YamlNode::Kind::kMap;
  root.place.source = source;
  YamlNode model;
  model.kind = YamlNode::Kind::kScalar;
  model.quoted = true;
  model.place.source = source;
  for (char c : target)
    model.text += c == '$' ? "$$" : std::string(1, c);  // a path from the command line is meant as it stands
  root.entries.push_back({"model", root.place, std::move(model)});
  return root;
}

}  // namespace

std::string DeploymentResult::Placed(const DeploymentFault& fault) const {
  auto place = places.find(fault.key);
  if (place == places.end()) place = places.find(fault.other);
  return place == places.end() ? fault.Text() : Cat(place->second, ": ", fault.Text());
}

DeploymentResult ReadDeploymentTarget(const std::string& target, const std::vector<std::string>& settings,
                                      const RestAddress& at) {
  auto kind = Classify(target);
  if (!kind.ok()) return Unreadable({std::string(kind.status().message())});
  std::vector<std::string> faults;
  YamlNode root;
  const std::string shown = Printable(target);
  if (*kind == TargetKind::kModel) {
    root = ModelTarget(target);
  } else {
    const auto text = ReadFile(target, kMaxYamlBytes);
    if (!text.ok()) return Unreadable({std::string(text.status().message())});
    YamlResult parsed = ParseYaml(*text, shown);
    // Without a tree there is nothing that the settings could be checked against.
    if (!parsed.faults.empty()) return Unreadable(std::move(parsed.faults));
    root = std::move(parsed.root);
  }
  for (const std::string& setting : settings) Apply(setting, root, faults);
  ReadResult read = ReadDeployment(root, /*expand_environment=*/true);
  Move(at, read);
  return Finish(std::move(read), shown, /*from_here=*/true, std::move(faults));
}

absl::StatusOr<Deployment> ParseDeployment(const std::string& yaml, const std::string& file_name) {
  YamlResult parsed = ParseYaml(yaml, file_name);
  if (!parsed.faults.empty()) return Refusal(parsed.faults);
  DeploymentResult result =
      Finish(ReadDeployment(parsed.root, /*expand_environment=*/false), file_name, /*from_here=*/false, {});
  if (!result.faults.empty()) return Refusal(result.faults);
  return std::move(result.deployment);
}

std::string DumpDeployment(const Deployment& deployment) {
  Deployment copy = deployment;  // the table's accessors take what can also be set
  std::string out, section;
  auto line = [&](std::string_view indent, const ConfigKey& key, AgentConfig& agent) {
    Append(out, indent, key.last(), ": ", GetKey(key, key.field(copy, agent)), "\n");
  };
  auto agent_keys = [&](std::string_view first, AgentConfig& agent) {
    for (const ConfigKey& key : ConfigKeys()) {
      if (key.per_agent()) line(std::exchange(first, "    "), key, agent);
    }
  };
  for (const ConfigKey& key : ConfigKeys()) {
    if (key.section() != section) {
      section = std::string(key.section());
      if (!section.empty()) Append(out, section, ":\n");
      if (section == "agents") {
        if (copy.agent_list.empty()) agent_keys("    ", copy.agents);
        for (AgentConfig& agent : copy.agent_list) agent_keys("  - ", agent);
      }
    }
    if (!key.per_agent()) line(section.empty() ? "" : "  ", key, copy.agents);
  }
  return out;
}

}  // namespace pangea
