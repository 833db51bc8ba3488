// The rules of a deployment that need only the file. What needs the model is in pipeline/parallel_plan.
#include <sys/stat.h>

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>

#include "absl/strings/numbers.h"
#include "configs/cat.h"
#include "configs/deployment.h"
#include "configs/device.h"
#include "configs/keys.h"
#include "configs/values.h"

namespace pangea {

bool KeyIsSound(std::string_view key, const std::set<std::string>& faulty) {
  while (!key.empty()) {
    if (faulty.contains(std::string(key))) return false;
    const size_t end = key.find_last_of(".[");
    key = key.substr(0, end == key.npos ? 0 : end);
  }
  return true;
}

namespace {

// As a browser writes the origin of a page (RFC 6454, 6.2).
bool IsOrigin(const std::string& text) {
  const size_t scheme = text.find("://");
  if (scheme == 0 || scheme == std::string::npos || scheme + 3 == text.size()) return false;
  return text.find_first_of(" /?#@\\\"<>*", scheme + 3) == std::string::npos &&
         text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789+-.") >= scheme;
}

class Rules {
 public:
  explicit Rules(const Deployment& deployment, std::set<std::string> unread = {})
      : d_(deployment), unread_(std::move(unread)), faulty_(unread_) {}

  std::vector<DeploymentFault> All() {
    Keys(/*of_layout=*/false);
    Model();
    Agents();
    Layout();
    Sizes();
    Origins();
    return std::move(faults_);
  }
  std::vector<DeploymentFault> OfLayout() {
    Keys(/*of_layout=*/true);
    Layout();
    return std::move(faults_);
  }

 private:
  void Fault(std::string key, std::string what, std::string other = {}) {
    if (!KeyIsSound(key, unread_)) return;
    faulty_.insert(key);
    faults_.push_back({std::move(key), std::move(what), std::move(other)});
  }

  // Rules that compare keys judge no others, as what they said would mislead.
  bool Sound(std::string_view key) const { return KeyIsSound(key, faulty_); }

  bool list() const { return !d_.agent_list.empty(); }
  size_t entries() const { return list() ? d_.agent_list.size() : 1; }
  AgentConfig& entry(size_t i) { return list() ? d_.agent_list[i] : d_.agents; }
  std::string AgentKey(size_t i, std::string_view last) const {
    return list() ? Cat("agents[", i, "].", last) : Cat("agents.", last);
  }

  // What a plan is made of; the other keys matter to it no more than a door's address does.
  static bool IsOfLayout(const ConfigKey& key) {
    const std::string_view section = key.section();
    return key.name == "context" || section == "parallel" || section == "cache" || section == "kernels" ||
           section == "schedule";
  }

  void Keys(bool of_layout) {
    for (const ConfigKey& key : ConfigKeys()) {
      if (!key.per_agent() && (!of_layout || IsOfLayout(key))) Check(key, std::string(key.name), d_.agents);
    }
    for (size_t i = 0; i < entries(); ++i) {
      for (const ConfigKey& key : ConfigKeys()) {
        if (key.per_agent()) Check(key, AgentKey(i, key.last()), entry(i));
      }
    }
    if (d_.cache.block_tokens % 16 != 0 && Sound("cache.block_tokens"))
      Fault("cache.block_tokens", "must be a multiple of 16");
    if (d_.schedule.prefill_slowdown != 0 && d_.schedule.prefill_slowdown <= 1 && Sound("schedule.prefill_slowdown"))
      Fault("schedule.prefill_slowdown", "must be above 1, or 0 for no bound");
    if (d_.kernels.activations != 8 && d_.kernels.activations != 16 && Sound("kernels.activations"))
      Fault("kernels.activations", "must be 8 or 16");
  }
  void Check(const ConfigKey& key, const std::string& shown, AgentConfig& agent) {
    std::string what = CheckKey(key, key.field(d_, agent));
    if (!what.empty()) Fault(shown, std::move(what));
  }

  void Model() {
    if (d_.model.empty()) Fault("model", "must be given: a checkpoint folder or a .gguf file");
    Name("name", d_.name);
    if (d_.names.size() > 64) Fault("names", Cat("has ", d_.names.size(), " names, at most 64"));
    std::set<std::string> taken;
    if (Sound("name")) taken.insert(d_.name);
    for (const std::string& name : d_.names) {
      Name("names", name);
      if (name.empty()) {
        Fault("names", "must not be empty");
      } else if (!taken.insert(name).second) {
        Fault("names", Cat("\"", Printable(name), "\" is given twice"));
      }
    }
  }
  void Name(const char* key, const std::string& name) {
    if (name.size() > 256) Fault(key, "is longer than 256 bytes");
    // Clients put the name into a URL path (/v1/models/NAME).
    if ((name.find("..") != std::string::npos) || name.starts_with("/"))
      Fault(key, Cat("\"", Printable(name), "\" must not start with \"/\" nor have \"..\" in it"));
  }

  // Each agent has an entry, if they are listed.
  void Layout() {
    const int pipeline = d_.parallel.pipeline, tensor = d_.parallel.tensor;
    if (!Sound("parallel.pipeline") || !Sound("parallel.tensor")) return;
    const int64_t wanted = int64_t{pipeline} * tensor, listed = static_cast<int64_t>(d_.agent_list.size());
    if (wanted > kMaxAgents) {
      Fault("parallel.pipeline", Cat(pipeline, " stages of ", tensor, " ranks are more than ", kMaxAgents, " agents"),
            "parallel.tensor");
    } else if (list() && listed != wanted) {
      Fault("agents", Cat("the list has ", listed, listed == 1 ? " entry" : " entries", ", but parallel asks for ",
                          pipeline, " stages of ", tensor, " ranks: ", wanted));
    }
  }

  void Agents() {
    std::string remote;  // key that makes the first remote agent one
    bool local_without_host = false;
    std::set<std::string> gpus;  // that local agents name
    for (size_t i = 0; i < entries(); ++i) {
      const AgentConfig& agent = entry(i);
      if (agent.launch == "remote" && remote.empty()) remote = AgentKey(i, "launch");
      if (agent.launch == "local" && agent.host.empty()) local_without_host = true;
      const std::string device = AgentKey(i, "device"), first = AgentKey(0, "device");
      if (Sound(device) && Sound(first) && FindDevice(agent.device)->kind != FindDevice(entry(0).device)->kind)
        Fault(device, "all agents must have the same kind of device", first);
      const bool named = agent.launch == "local" && GpuOf(agent.device) >= 0 && !gpus.insert(agent.device).second;
      if (named && Sound(device)) Fault(device, "another agent of this host has that GPU", first);
    }
    const std::string first = AgentKey(0, "device");
    if (d_.parallel.transport == "nccl" && Sound(first) && FindDevice(entry(0).device)->kind != DeviceKind::kCuda)
      Fault("parallel.transport", "nccl needs agents.device: cuda", first);
    if (remote.empty()) return;
    if (d_.parallel.transport == "shm")
      Fault("parallel.transport", "shm needs every agent on the master's host; use gloo or auto", remote);
    const auto control = ParseHostPort(d_.control.listen);
    if (local_without_host && control.ok() && (control->host == "0.0.0.0" || control->host == "::")) {
      Fault("agents", Cat("local agents next to remote ones need a host: control.listen is ", d_.control.listen,
                          ", which tells no address"));
    }
    if (d_.control.token_file.empty())
      Fault("control.token_file", "must be given when an agent is remote: it has no other way to know the token",
            remote);
  }

  void AtMost(const char* key, double value, const char* limit, double most) {
    if (value > most && Sound(key) && Sound(limit))
      Fault(key, Cat("must not exceed ", limit, " (", static_cast<int64_t>(most), ")"), limit);
  }
  void Sizes() {
    if (d_.context > 0) {
      AtMost("limits.max_prompt_tokens", d_.limits.max_prompt_tokens, "context", d_.context);
      AtMost("limits.max_tokens", d_.limits.max_tokens, "context", d_.context);
    }
    if (d_.limits.max_tokens > 0)
      AtMost("sampling.max_tokens", d_.sampling.max_tokens.value_or(0), "limits.max_tokens", d_.limits.max_tokens);
    const auto bytes = [](uint64_t number) { return static_cast<double>(number); };
    AtMost("limits.body", bytes(d_.limits.body), "limits.bodies", bytes(d_.limits.bodies));
    AtMost("limits.header_bytes", bytes(d_.limits.header_bytes), "limits.body", bytes(d_.limits.body));
  }

  void Origins() {
    if (!Sound("rest.allowed_origins")) return;
    for (const std::string& origin : d_.rest.allowed_origins) {
      if (origin == "*" || origin == "null" || IsOrigin(origin)) continue;
      Fault("rest.allowed_origins", Cat(QuoteYaml(origin),
                                        " is no origin: expected \"*\" or SCHEME://HOST[:PORT] without a path, such as "
                                        "https://chat.example.com"));
    }
  }

  Deployment d_;
  const std::set<std::string> unread_;
  std::set<std::string> faulty_;  // unread_, and what has a fault by now
  std::vector<DeploymentFault> faults_;
};

}  // namespace

std::vector<DeploymentFault> ValidateDeployment(const Deployment& deployment, const std::set<std::string>& unread) {
  return Rules(deployment, unread).All();
}
std::vector<DeploymentFault> ValidateLayout(const Deployment& deployment) { return Rules(deployment).OfLayout(); }

std::vector<std::string> DeploymentWarnings(const Deployment& deployment) {
  std::vector<std::string> warnings;
  for (const auto& [key, path] :
       {std::pair{"control.token_file", deployment.control.token_file}, {"keys.file", deployment.keys.file}}) {
    struct stat info{};
    if (!path.empty() && stat(path.c_str(), &info) == 0 && (info.st_mode & (S_IRGRP | S_IROTH)) != 0)
      warnings.push_back(Cat(key, ": ", path, " can be read by other users; use chmod 600"));
  }
  bool remote = deployment.agents.launch == "remote" && deployment.agent_list.empty();
  for (const AgentConfig& agent : deployment.agent_list) remote |= agent.launch == "remote";
  const auto control = ParseHostPort(deployment.control.listen);
  if (remote && control.ok() && control->port == 0) {
    warnings.push_back("control.listen: remote agents must be told the port, and port 0 is another one at every start");
  }
  return warnings;
}

absl::StatusOr<HostPort> ParseHostPort(const std::string& text) {
  const absl::Status expected = absl::InvalidArgumentError("expected HOST:PORT, such as 127.0.0.1:8000 or [::1]:0");
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos || text.size() > 300) return expected;
  std::string host = text.substr(0, colon);
  const std::string port = text.substr(colon + 1);
  if (!host.empty() && host.front() == '[') {
    if (host.size() < 3 || host.back() != ']') return expected;
    host = host.substr(1, host.size() - 2);
    if (host.find_first_not_of("0123456789abcdefABCDEF:.%") != std::string::npos) return expected;
  } else if (host.empty() || host.find_first_of(":[]/ @\\") != std::string::npos) {
    return expected;
  }
  if (port.empty() || port.size() > 6 || port.find_first_not_of("0123456789") != std::string::npos) return expected;
  int number = 0;
  if (!absl::SimpleAtoi(port, &number) || number > 65535)
    return absl::InvalidArgumentError("the port must be 0 to 65535");
  return HostPort{host, number};
}

}  // namespace pangea
