// The deployment file as a typed struct. Unknown keys are errors with line, column and the nearest known key; nothing
// is edited silently: "auto" stays "auto" here and is resolved by the plan. Reference page: docs/deployment.md.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "configs/cat.h"

namespace pangea {

inline constexpr int kMaxAgents = 4096;  // of a deployment

struct AgentConfig {
  std::string device = "cpu";  // a name of configs/device.h
  int threads = 1;
  std::string launch = "local";  // local: started by the master; remote: waits for `pangea agent --master`
  std::string host;              // remote: address its groups listen on, e.g. 10.0.0.2; empty: as it reports
  std::string model;             // path on its own host; empty: the deployment's
};

struct Deployment {
  std::string model;               // path: folder or .gguf; the only key without a default
  std::string name;                // as clients ask for it; default the file's name less .gguf, or the folder's
  std::vector<std::string> names;  // it answers to these too
  int context = 0;                 // tokens of prompt + generation; 0: what the checkpoint declares
  struct Parallel {
    int pipeline = 1, tensor = 1;
    std::string transport = "auto";  // auto, shm, gloo, nccl
  } parallel;
  AgentConfig agents;                   // when `agents` is a map: every agent
  std::vector<AgentConfig> agent_list;  // when it is a list: one entry an agent
  struct Cache {
    uint64_t memory = 256ull << 20;  // bytes, per agent ("256MiB")
    int block_tokens = 16;
    std::string type = "f16";    // f16, bf16, int8, fp8
    uint64_t swap = 0;           // bytes, per agent
    bool prefix = true;          // share blocks of equal beginnings
    int prefix_min_tokens = 64;  // of at least so many tokens
  } cache;
  struct Kernels {
    int activations = 16;      // 16 or 8
    bool exact = true;         // false: CUDA agents add in whatever order is fastest
    std::string isa = "auto";  // auto, amx, avx512, avx2, reference
    int fusion = 3;            // 0 to 3
  } kernels;
  struct Schedule {
    int max_batch_tokens = 512;     // rows a step
    int max_sequences = 64;         // running at once
    double prefill_slowdown = 1.7;  // of a step that also reads prompts, against one that only decodes; 0: no bound
    bool run_ahead = true;
  } schedule;
  struct Limits {
    int queue = 256;
    double queue_seconds = 300;  // a request older than this in the queue ends with 503
    int max_prompt_tokens = 0;   // 0: the context
    int max_tokens = 0;          // 0: the context
    int n = 16;
    int stop_strings = 256;
    int stop_bytes = 1024;
    int logit_bias = 1024;
    int grammar_bytes = 262144;  // of a schema, or another form that an answer is to have
    int top_logprobs = 20;
    int prompts = 64;  // prompts in one completion request
    int messages = 4096;
    uint64_t body = 8ull << 20;
    uint64_t bodies = 256ull << 20;  // of all open requests together
    int requests_per_key = 0;        // open at once under one API key; 0: no limit
    int json_depth = 64;
    uint64_t header_bytes = 16384;
    int connections = 4096;
    double header_seconds = 10, body_seconds = 60, idle_seconds = 75, write_seconds = 60, request_seconds = 3600;
  } limits;
  // The value of a parameter that a request does not give; nullopt: as `defaults` says.
  struct Sampling {
    std::string defaults = "model";  // model: the checkpoint's own values, then OpenAI's; openai: OpenAI's
    std::optional<double> temperature, top_p, top_k, min_p, repetition_penalty, presence_penalty, frequency_penalty,
        max_tokens;
  } sampling;
  struct Rest {
    std::string listen = "127.0.0.1:8000";
    std::vector<std::string> allowed_origins;  // of web pages; "*": of all
  } rest;
  struct Grpc {
    std::string listen = "127.0.0.1:8001";
  } grpc;
  struct Control {
    std::string listen = "127.0.0.1:0";  // where agents dial
    std::string token_file;              // remote agents' token; empty: one made for this run
    double join_seconds = 120, step_seconds = 60;
    double silence_seconds = 1;  // of an agent, while a step is under way; some times as long between epochs
    int recovery_attempts = 10;  // after agents are lost, within recovery_seconds
    double recovery_seconds = 60;
    double shrink_seconds = 30;  // after which a lost place is left out of the layout; 0: never
    int spare_agents = 0;        // processes beyond the plan's
  } control;
  struct HealthChecks {
    bool ready_while_recovering = true;
  } health;
  struct Keys {
    std::string file;  // API keys, one a line; empty: none are needed
  } keys;
  struct Chat {
    std::string template_file;  // overrides the checkpoint's
    bool allow_request_template = false;
  } chat;
  // What `pangea simulate` takes an agent and its links to be; serving does not look at it.
  struct Simulate {
    uint64_t memory = 0;  // bytes of an agent's device; 0: not checked
    int gflops = 200;     // peak, two to a multiply-add
    int compute_percent = 85, attention_percent = 40;
    uint64_t memory_bandwidth = 25'000'000'000;  // peak, bytes a second
    int memory_percent = 85;
    double layer_seconds = 20e-6, step_seconds = 100e-6;
    uint64_t tensor_bandwidth = 5'000'000'000, stage_bandwidth = 5'000'000'000;  // bytes a second into one agent
    double tensor_latency = 20e-6, stage_latency = 50e-6, control_latency = 100e-6;
  } simulate;
  struct Metrics {
    bool vllm_names = false;  // also under the names of vLLM
  } metrics;
  struct Timeline {
    std::string file;               // empty: none is written
    uint64_t bytes = 256ull << 20;  // of the file, at most
    bool kernels = false;           // those of CUDA agents stand in it, too
  } timeline;
  double drain_seconds = 30;
  struct Log {
    std::string level = "info";  // debug, info, warning, error
    bool requests = true;        // one line a request
  } log;

  int agent_count() const { return parallel.pipeline * parallel.tensor; }
  const AgentConfig& agent(int i) const { return agent_list.empty() ? agents : agent_list[i]; }
};

// What is wrong with a deployment, whoever found it out.
struct DeploymentFault {
  std::string key;  // "cache.memory", "agents[1].device"; empty: it is no key's
  std::string what;
  std::string other = {};  // key whose value does not go with it
  std::string Text() const { return key.empty() ? what : Cat(key, ": ", what); }
};

// What was read, with all its faults, one a line: "FILE:LINE:COLUMN: key: what, and the nearest". With faults,
// `deployment` holds what could be read and the default of every key that is faulty (of one given twice: its first
// value), so that the plan's faults can be told in the same breath; readable is false when there is nothing to plan (no
// such file, no YAML, no model).
struct DeploymentResult {
  Deployment deployment;
  std::vector<std::string> faults;
  bool readable = false;
  std::map<std::string, std::string> places;  // of the keys that were set: "FILE:LINE:COLUMN", "--set context=7"
  std::set<std::string> faulty;               // keys and sections that `faults` speaks of; their values are nobody's

  // The text of a fault that was found later, with a place before it: the key's or, where the file does not set that,
  // the other's.
  std::string Placed(const DeploymentFault& fault) const;
};

// Whether a key's value is what somebody meant: neither it, nor a section or list entry that it lies in, is among the
// faulty. That of "", no key, is.
bool KeyIsSound(std::string_view key, const std::set<std::string>& faulty);

// --host and --port: over rest.listen and, where nothing sets grpc.listen, over that too (the port after REST's).
struct RestAddress {
  std::string host;  // empty: as the file says
  int port = -1;     // below 0: as the file says
};
// A file, a model folder, a folder with one .gguf file in it, or a .gguf file, with `key.path=value` settings applied
// over it. ${ENV} is expanded in strings.
DeploymentResult ReadDeploymentTarget(const std::string& target, const std::vector<std::string>& settings,
                                      const RestAddress& at = {});
// The same from text (no ${ENV} expansion, no settings): what an agent gets from its master. All faults at once in the
// Status, one a line.
absl::StatusOr<Deployment> ParseDeployment(const std::string& yaml, const std::string& file_name);
// Every key with its value, as YAML that ParseDeployment reads back to an equal struct.
std::string DumpDeployment(const Deployment& deployment);
// The rules that need only the file: all faults. Never edits. unread: keys that have their defaults because what is
// said of them could not be read; no rule judges those.
std::vector<DeploymentFault> ValidateDeployment(const Deployment& deployment, const std::set<std::string>& unread = {});
// Of these rules, the ones that a plan rests on: ranges of the keys that it is made of, and the list of agents. What
// ReadDeploymentTarget returns keeps to them, whatever its faults.
std::vector<DeploymentFault> ValidateLayout(const Deployment& deployment);
// What is allowed and unwise, one a line, such as a token file that everybody may read. Looks at the files that are
// named.
std::vector<std::string> DeploymentWarnings(const Deployment& deployment);
// Exit status of a process whose deployment is refused (EX_CONFIG of sysexits.h).
inline constexpr int kConfigExitCode = 78;

struct HostPort {
  std::string host;
  int port = 0;
};
absl::StatusOr<HostPort> ParseHostPort(const std::string& text);  // "127.0.0.1:8000", "[::1]:0"

}  // namespace pangea
