// The rules of a deployment that need only the file. What needs the model is in pipeline/parallel_plan.
#include <sys/stat.h>

#include <map>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "configs/cat.h"
#include "configs/deployment.h"
#include "configs/keys.h"
#include "configs/values.h"

namespace pangea {
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
  explicit Rules(const Deployment& deployment) : d_(deployment) {}

  std::vector<std::string> Run() {
    Keys();
    Model();
    Agents();
    Sizes();
    Doors();
    return std::move(faults_);
  }

 private:
  template <typename... Parts>
  void Fault(const Parts&... parts) {
    faults_.push_back(Cat(parts...));
  }

  void Keys() {
    for (const ConfigKey& key : ConfigKeys()) {
      if (key.per_agent()) continue;
      Check(key, std::string(key.name), d_.agents);
    }
    for (size_t i = 0; i < std::max<size_t>(d_.agent_list.size(), 1); ++i) {
      const bool list = !d_.agent_list.empty();
      for (const ConfigKey& key : ConfigKeys()) {
        if (!key.per_agent()) continue;
        Check(key, list ? Cat("agents[", i, "].", key.last()) : std::string(key.name),
              list ? d_.agent_list[i] : d_.agents);
      }
    }
  }
  void Check(const ConfigKey& key, const std::string& shown, AgentConfig& agent) {
    const std::string what = CheckKey(key, key.field(d_, agent));
    if (!what.empty()) Fault(shown, ": ", what);
  }

  void Model() {
    if (d_.model.empty()) Fault("model: must be given: a checkpoint folder or a .gguf file");
    Name("name", d_.name);
    if (d_.names.size() > 64) Fault("names: has ", d_.names.size(), " names, at most 64");
    std::set<std::string> taken{d_.name};
    for (const std::string& name : d_.names) {
      Name("names", name);
      if (name.empty()) Fault("names: must not be empty");
      if (!taken.insert(name).second) Fault("names: \"", Printable(name), "\" is given twice");
    }
  }
  void Name(const char* key, const std::string& name) {
    if (name.size() > 256) Fault(key, ": is longer than 256 bytes");
    // Clients put the name into a URL path (/v1/models/NAME).
    if ((name.find("..") != std::string::npos) || name.starts_with("/"))
      Fault(key, ": \"", Printable(name), "\" must not start with \"/\" nor have \"..\" in it");
  }

  void Agents() {
    const int64_t wanted = static_cast<int64_t>(d_.parallel.pipeline) * d_.parallel.tensor;
    if (wanted > kMaxAgents) {
      return Fault("parallel.pipeline: ", d_.parallel.pipeline, " stages of ", d_.parallel.tensor,
                   " ranks are more than ", kMaxAgents, " agents");
    }
    const bool list = !d_.agent_list.empty();
    if (list && static_cast<int64_t>(d_.agent_list.size()) != wanted) {
      Fault("agents: the list has ", d_.agent_list.size(), d_.agent_list.size() == 1 ? " entry" : " entries",
            ", but parallel asks for ", d_.parallel.pipeline, " stages of ", d_.parallel.tensor, " ranks: ", wanted);
    }
    bool remote = false, local_without_host = false;
    for (size_t i = 0; i < std::max<size_t>(d_.agent_list.size(), 1); ++i) {
      const AgentConfig& agent = list ? d_.agent_list[i] : d_.agents;
      const std::string shown = list ? Cat("agents[", i, "]") : "agents";
      if (agent.launch == "remote") remote = true;
      if (agent.launch == "local" && agent.host.empty()) local_without_host = true;
      if (agent.device != (list ? d_.agent_list[0] : d_.agents).device)
        Fault(shown, ".device: all agents must have the same kind of device");
    }
    if (remote && d_.parallel.transport == "shm")
      Fault("parallel.transport: shm needs every agent on the master's host; use gloo or auto");
    const auto control = ParseHostPort(d_.control.listen);
    if (remote && local_without_host && control.ok() && (control->host == "0.0.0.0" || control->host == "::")) {
      Fault("agents: local agents next to remote ones need a host: control.listen is ", d_.control.listen,
            ", which tells no address");
    }
    if (remote && d_.control.token_file.empty())
      Fault("control.token_file: must be given when an agent is remote: it has no other way to know the token");
  }

  void Sizes() {
    if (d_.cache.block_tokens % 16 != 0) Fault("cache.block_tokens: must be a multiple of 16");
    if (d_.schedule.prefill_slowdown != 0 && d_.schedule.prefill_slowdown <= 1)
      Fault("schedule.prefill_slowdown: must be above 1, or 0 for no bound");
    if (d_.kernels.activations != 8 && d_.kernels.activations != 16) Fault("kernels.activations: must be 8 or 16");
    for (auto [name, value] : {std::pair{"limits.max_prompt_tokens", d_.limits.max_prompt_tokens},
                               {"limits.max_tokens", d_.limits.max_tokens}}) {
      if (d_.context > 0 && value > d_.context) Fault(name, ": must not exceed context (", d_.context, ")");
    }
    if (d_.limits.max_tokens > 0 && d_.sampling.max_tokens.value_or(0) > d_.limits.max_tokens)
      Fault("sampling.max_tokens: must not exceed limits.max_tokens (", d_.limits.max_tokens, ")");
    if (d_.limits.body > d_.limits.bodies) Fault("limits.body: must not exceed limits.bodies (", d_.limits.bodies, ")");
    if (d_.limits.header_bytes > d_.limits.body)
      Fault("limits.header_bytes: must not exceed limits.body (", d_.limits.body, ")");
  }

  void Doors() {
    std::map<std::pair<std::string, int>, std::string> taken;
    for (const auto& [name, text] : {std::pair{"rest.listen", d_.rest.listen},
                                     {"grpc.listen", d_.grpc.listen},
                                     {"control.listen", d_.control.listen}}) {
      const auto address = ParseHostPort(text);
      if (!address.ok() || address->port == 0) continue;
      const auto [at, added] = taken.try_emplace({address->host, address->port}, name);
      if (!added) Fault(name, ": ", text, " is taken by ", at->second);
    }
    for (const std::string& origin : d_.rest.allowed_origins) {
      if (origin != "*" && origin != "null" && !IsOrigin(origin)) {
        Fault("rest.allowed_origins: ", QuoteYaml(origin),
              " is no origin: expected \"*\" or SCHEME://HOST[:PORT] without a path, such as https://chat.example.com");
      }
    }
  }

  static constexpr int64_t kMaxAgents = 4096;
  Deployment d_;
  std::vector<std::string> faults_;
};

}  // namespace

std::vector<std::string> ValidateDeployment(const Deployment& deployment) { return Rules(deployment).Run(); }

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
