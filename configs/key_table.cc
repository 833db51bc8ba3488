// The table of keys: what a model is, where it lies and how it is run; key_table_service.cc has what serves it. What is
// done with the table is in keys.cc.
#include "configs/device.h"
#include "configs/keys.h"
#include "configs/log.h"

namespace pangea {
namespace {

const ConfigKey kModelKeys[] = {
    {.name = "model",
     .kind = KeyKind::kText,
     .field = [](Deployment& d, AgentConfig&) -> KeyField { return &d.model; },
     .doc = "Checkpoint: a folder in the Hugging Face layout or a GGUF file (of a split one any part). A relative path "
            "is relative to the directory in which `pangea` is started. The only key without a default."},
    {.name = "name",
     .kind = KeyKind::kText,
     .field = [](Deployment& d, AgentConfig&) -> KeyField { return &d.name; },
     .doc = "Name of the model as clients ask for it. Empty: the file's name less `.gguf`, or the folder's name."},
    {.name = "names",
     .kind = KeyKind::kTexts,
     .field = [](Deployment& d, AgentConfig&) -> KeyField { return &d.names; },
     .doc = "More names that the model answers to, such as one that a client cannot be talked out of. `/v1/models` "
            "lists them all; an answer's `model` is the name that was asked for."},
    {.name = "context",
     .kind = KeyKind::kInteger,
     .field = [](Deployment& d, AgentConfig&) -> KeyField { return &d.context; },
     .min = 0,
     .max = 16777216,
     .doc = "Tokens that a request may have, prompt and generation together. 0: what the checkpoint declares."},
    {.name = "parallel.pipeline",
     .kind = KeyKind::kInteger,
     .field = [](Deployment& d, AgentConfig&) -> KeyField { return &d.parallel.pipeline; },
     .min = 1,
     .max = 1024,
     .doc = "Pipeline stages. Layers may be split unevenly."},
    {.name = "parallel.tensor",
     .kind = KeyKind::kInteger,
     .field = [](Deployment& d, AgentConfig&) -> KeyField { return &d.parallel.tensor; },
     .min = 1,
     .max = 1024,
     .doc = "Tensor-parallel ranks of each stage. Heads may be split unevenly."},
    {.name = "parallel.transport",
     .kind = KeyKind::kChoice,
     .field = [](Deployment& d, AgentConfig&) -> KeyField { return &d.parallel.transport; },
     .choices = "auto, shm, gloo, nccl",
     .doc = "How tensors move between agents: shared memory on one host (from GPU to GPU where agents have some), Gloo "
            "through any hosts, NCCL between any GPUs. auto: shm when every agent is local, else nccl between GPUs and "
            "gloo between others."},
    {.name = "agents.device",
     .kind = KeyKind::kChoice,
     .field = [](Deployment&, AgentConfig& a) -> KeyField { return &a.device; },
     .choices = kDeviceChoices,
     .doc = "What an agent computes on. sim: a real process that does no arithmetic, for tests of the control plane. "
            "cuda: a GPU; local agents take the host's in order, `cuda:3` names one (docs/cuda.md). cuda_on_cpu: the "
            "kernels of CUDA, run on the CPU, for tests without a GPU; slow."},
    {.name = "agents.threads",
     .kind = KeyKind::kInteger,
     .field = [](Deployment&, AgentConfig& a) -> KeyField { return &a.threads; },
     .min = 1,
     .max = 1024,
     .doc = "Threads that compute, per agent."},
    {.name = "agents.launch",
     .kind = KeyKind::kChoice,
     .field = [](Deployment&, AgentConfig& a) -> KeyField { return &a.launch; },
     .choices = "local, remote",
     .doc = "local: started by the master. remote: the master waits for `pangea agent --master HOST:PORT --token-file "
            "FILE`."},
    {.name = "agents.host",
     .kind = KeyKind::kText,
     .field = [](Deployment&, AgentConfig& a) -> KeyField { return &a.host; },
     .doc = "Address on which a remote agent's groups listen, such as 10.0.0.2. Empty: as the agent reports."},
    {.name = "agents.model",
     .kind = KeyKind::kText,
     .field = [](Deployment&, AgentConfig& a) -> KeyField { return &a.model; },
     .doc = "Path of the model on the agent's own host. Empty: the deployment's `model`."},
    {.name = "cache.memory",
     .kind = KeyKind::kBytes,
     .field = [](Deployment& d, AgentConfig&) -> KeyField { return &d.cache.memory; },
     .min = 65536,
     .max = 1125899906842624,
     .doc = "KV cache of each agent."},
    {.name = "cache.block_tokens",
     .kind = KeyKind::kInteger,
     .field = [](Deployment& d, AgentConfig&) -> KeyField { return &d.cache.block_tokens; },
     .min = 16,
     .max = 1024,
     .doc = "Tokens of a cache block; a multiple of 16."},
    {.name = "cache.type",
     .kind = KeyKind::kChoice,
     .field = [](Deployment& d, AgentConfig&) -> KeyField { return &d.cache.type; },
     .choices = "f16, bf16, int8, fp8",
     .doc = "Element type of cached keys and values."},
    {.name = "cache.prefix",
     .kind = KeyKind::kBoolean,
     .field = [](Deployment& d, AgentConfig&) -> KeyField { return &d.cache.prefix; },
     .doc = "Prompts share the cached blocks of what they begin with alike; `usage` tells how many tokens were found "
            "there. Requests with a `cache_salt` share with those of the same salt alone."},
    {.name = "cache.prefix_min_tokens",
     .kind = KeyKind::kInteger,
     .field = [](Deployment& d, AgentConfig&) -> KeyField { return &d.cache.prefix_min_tokens; },
     .min = 0,
     .max = 1048576,
     .doc = "A beginning shorter than this is computed again rather than looked for."},
    {.name = "cache.swap",
     .kind = KeyKind::kBytes,
     .field = [](Deployment& d, AgentConfig&) -> KeyField { return &d.cache.swap; },
     .min = 0,
     .max = 1125899906842624,
     .doc = "Second budget, per agent, to which the blocks of a preempted sequence are copied when that is cheaper "
            "than computing them again. 0: none."},
    {.name = "kernels.activations",
     .kind = KeyKind::kInteger,
     .field = [](Deployment& d, AgentConfig&) -> KeyField { return &d.kernels.activations; },
     .min = 8,
     .max = 16,
     .doc = "Bits of activations with quantised weights, 8 or 16: 16 is as good as float32, 8 prefills faster."},
    {.name = "kernels.exact",
     .kind = KeyKind::kBoolean,
     .field = [](Deployment& d, AgentConfig&) -> KeyField { return &d.kernels.exact; },
     .doc = "Sums in one order, whatever the batch, the chunks, the cache and the layout: the same bytes "
            "(docs/exactness.md). false: CUDA agents take the fastest products and attention; CPU agents are exact "
            "anyway."},
    {.name = "kernels.fusion",
     .kind = KeyKind::kInteger,
     .field = [](Deployment& d, AgentConfig&) -> KeyField { return &d.kernels.fusion; },
     .min = 0,
     .max = 3,
     .doc = "Layer parts done in one pass: 1 queries, keys, values; 2 sums, norms too; 3 biases, gates too; of CUDA "
            "agents see docs/cuda.md. Same bytes where kernels.exact is true."},
    {.name = "kernels.isa",
     .kind = KeyKind::kChoice,
     .field = [](Deployment& d, AgentConfig&) -> KeyField { return &d.kernels.isa; },
     .choices = kIsaChoices,
     .doc = "Instruction set class. auto: the best that all agents have."},
    {.name = "schedule.max_batch_tokens",
     .kind = KeyKind::kInteger,
     .field = [](Deployment& d, AgentConfig&) -> KeyField { return &d.schedule.max_batch_tokens; },
     .min = 1,
     .max = 1048576,
     .doc = "Rows of one step, prompt chunks and decoding together."},
    {.name = "schedule.max_sequences",
     .kind = KeyKind::kInteger,
     .field = [](Deployment& d, AgentConfig&) -> KeyField { return &d.schedule.max_sequences; },
     .min = 1,
     .max = 65536,
     .doc = "Sequences running at once."},
    {.name = "schedule.prefill_slowdown",
     .kind = KeyKind::kNumber,
     .field = [](Deployment& d, AgentConfig&) -> KeyField { return &d.schedule.prefill_slowdown; },
     .min = 0,
     .max = 1000,
     .doc =
         "A step that also reads prompts may take so many times as long as one in which all those decode; the prompt "
         "rows are cut to that. 0: no such bound."},
    {.name = "schedule.run_ahead",
     .kind = KeyKind::kBoolean,
     .field = [](Deployment& d, AgentConfig&) -> KeyField { return &d.schedule.run_ahead; },
     .doc = "Send the next step before the samples of this one are known. false: the plain loop, for debugging."},
};

}  // namespace

std::span<const ConfigKey> ConfigKeys() {
  static const std::vector<ConfigKey> all = [] {
    std::vector<ConfigKey> keys(std::begin(kModelKeys), std::end(kModelKeys));
    const std::span<const ConfigKey> service = ServiceKeys();
    keys.insert(keys.end(), service.begin(), service.end());
    return keys;
  }();
  return all;
}

}  // namespace pangea
