#include "agent/bench_model.h"

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "agent/bench_cluster.h"
#include "configs/host.h"
#include "configs/log.h"
#include "configs/serve_args.h"
#include "nlohmann/json.hpp"
#include "pipeline/capacity.h"
#include "pipeline/cost_model.h"

namespace pangea {
namespace {

struct Options {
  ServeArgs serve;
  std::string batch = "1,8,32", fusion;
  int context = 128, prompt = 512, steps = 32;
  bool json = false, made_weights = false;
};

struct Bench {
  Options options;
  Deployment deployment;
  CheckpointHeader header;
  ParallelPlan plan;
  nlohmann::json rows = nlohmann::json::array();
  double bandwidth = 0, matrix_rate = 0;
  int64_t read_a_step = 0;  // bytes of weights, of all agents

  void Say(const nlohmann::json& row, const std::string& text) {
    rows.push_back(row);
    if (options.json) return;
    std::printf("%s\n", text.c_str());
    std::fflush(stdout);
  }
};

constexpr int kWarmUp = 2;  // steps that are not counted

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// Bytes of keys and values of one position, over all agents.
double KvBytes(const Bench& b) {
  double bytes = 0;
  for (const RankPlan& agent : b.plan.agents) bytes += static_cast<double>(agent.kv_block_bytes);
  return bytes / b.plan.block_tokens;
}

absl::Status Decode(Bench& b, BenchCluster& cluster, int batch, double* median) {
  if (auto s = cluster.Fill(batch, b.options.context); !s.ok()) return s;
  std::vector<double> times;
  const double before = cluster.multiply_adds();
  const int64_t launched = cluster.kernels();
  if (auto s = cluster.Decode(kWarmUp, &times); !s.ok()) return s;
  const Queue::Times warm = cluster.device_times();
  if (auto s = cluster.Decode(b.options.steps, &times); !s.ok()) return s;
  const Queue::Times done = cluster.device_times();
  const double busy = done.busy - warm.busy, idle = done.idle - warm.idle;
  times.erase(times.begin(), times.begin() + kWarmUp);
  const double seconds = *median = Median(times), steps = b.options.steps + kWarmUp;
  const double flops = 2 * (cluster.multiply_adds() - before) / steps;
  const double bytes = static_cast<double>(b.read_a_step) + batch * KvBytes(b) * (b.options.context + steps / 2);
  const double launches = static_cast<double>(cluster.kernels() - launched) / steps;
  b.Say(
      {{"what", "decode"},
       {"batch", batch},
       {"context", b.options.context},
       {"step_seconds", seconds},
       {"tokens_per_second", batch / seconds},
       {"bytes_per_second", bytes / seconds},
       {"of_read_bandwidth", bytes / seconds / b.bandwidth},
       {"flops_per_second", flops / seconds},
       {"kernels_a_step", launches},
       {"device_idle", busy > 0 ? nlohmann::json(idle / (busy + idle)) : nlohmann::json()}},
      absl::StrFormat("decode, batch %4d, context %5d   %9.3f ms a step  %9.1f tokens/s  %7.2f GB/s (%5.1f %% of read)"
                      "  %8.2f GFLOP/s%s",
                      batch, b.options.context, seconds * 1e3, batch / seconds, bytes / seconds * 1e-9,
                      100 * bytes / seconds / b.bandwidth, flops / seconds * 1e-9,
                      launches > 0 ? absl::StrFormat("  %.0f kernels", launches) : "") +
          (busy > 0 ? absl::StrFormat(", idle %.1f %%", 100 * idle / (busy + idle)) : ""));
  return cluster.Forget();
}

absl::Status Prefill(Bench& b, BenchCluster& cluster) {
  std::vector<double> times;
  double flops = 0;
  for (int i = 0; i < 4; ++i) {  // the first is not counted
    const double before = cluster.multiply_adds();
    const auto took = cluster.Prefill(b.options.prompt);
    if (!took.ok()) return took.status();
    flops = 2 * (cluster.multiply_adds() - before);
    if (i > 0) times.push_back(*took);
  }
  const double seconds = Median(times);
  b.Say({{"what", "prefill"},
         {"tokens", b.options.prompt},
         {"seconds", seconds},
         {"tokens_per_second", b.options.prompt / seconds},
         {"flops_per_second", flops / seconds},
         {"of_matrix_rate", b.matrix_rate > 0 ? flops / seconds / b.matrix_rate : 0}},
        absl::StrFormat("prefill of %5d                    %9.3f ms         %9.1f tokens/s %45.2f GFLOP/s%s",
                        b.options.prompt, seconds * 1e3, b.options.prompt / seconds, flops / seconds * 1e-9,
                        b.matrix_rate > 0 ? absl::StrFormat(" (%.1f %%)", 100 * flops / seconds / b.matrix_rate) : ""));
  return absl::OkStatus();
}

absl::Status RunAll(Bench& b, const std::vector<int>& batches) {
  std::vector<int> levels = {b.deployment.kernels.fusion};
  if (b.options.fusion == "all") levels = {0, 1, 2, 3};
  double of_first = 0;
  for (const int level : levels) {
    b.deployment.kernels.fusion = level;
    auto cluster = BenchCluster::Make(b.deployment, b.header, b.plan, b.options.made_weights);
    if (!cluster.ok()) return cluster.status();
    if (b.bandwidth == 0) {
      b.bandwidth = (*cluster)->ReadBandwidth();
      if (b.bandwidth <= 0) return absl::ResourceExhaustedError("no memory is left to measure its reading with");
      b.Say({{"what", "read"}, {"bytes_per_second", b.bandwidth}},
            absl::StrFormat("read bandwidth of all agents' devices %33.2f GB/s", b.bandwidth * 1e-9));
      b.matrix_rate = (*cluster)->MatrixRate();
      if (b.matrix_rate > 0)
        b.Say({{"what", "matrix"}, {"flops_per_second", b.matrix_rate}},
              absl::StrFormat("products at best, of all agents' devices %27.2f GFLOP/s", b.matrix_rate * 1e-9));
    }
    double median = 0;
    if (levels.size() > 1) {
      if (auto s = Decode(b, **cluster, batches[0], &median); !s.ok()) return s;
      if (level == levels[0]) of_first = median;
      b.Say({{"what", "fusion"}, {"level", level}, {"step_seconds", median}, {"gain", of_first / median}},
            absl::StrFormat("  kernels.fusion %d: %.3f ms a step, %.2f times level %d", level, median * 1e3,
                            of_first / median, levels[0]));
      continue;
    }
    for (const int batch : batches)
      if (auto s = Decode(b, **cluster, batch, &median); !s.ok()) return s;
    if (auto s = Prefill(b, **cluster); !s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::Status Batches(const Options& o, const Deployment& deployment, std::vector<int>* batches) {
  const int most = std::min(deployment.schedule.max_sequences, deployment.schedule.max_batch_tokens);
  for (const auto word : absl::StrSplit(o.batch, ',')) {
    int batch = 0;
    if (!absl::SimpleAtoi(word, &batch) || batch < 1 || batch > most)
      return absl::InvalidArgumentError(
          absl::StrCat("--batch: numbers from 1 to ", most,
                       " (schedule.max_sequences and max_batch_tokens) are expected, with commas between them"));
    batches->push_back(batch);
  }
  return absl::OkStatus();
}

int Refuse(const std::string& fault) {
  std::cerr << "pangea bench model: " << fault << "\n";
  return kConfigExitCode;
}

}  // namespace

int BenchModelMain(int argc, char** argv) {
  Bench b;
  Options& o = b.options;
  CommandLine line("bench model", "TARGET [options]",
                   R"(Loads a model as its agents would, all as threads of this process, and measures
what they compute: decoding steps of several batches, and reading a prompt, beside
the bytes a second that the same threads or GPUs read together and the rate of
their products (of several stages one computes at a time; of a window all of the
context is counted). No
doors, no master, no sockets. Exit status 1 when it failed, 78 for a deployment that is refused.)");
  line.Word("TARGET", "as of pangea serve");
  AddLayoutOptions(line, &o.serve);
  line.Text("--batch", "N,N,…", "sequences that decode together (default " + o.batch + ")", &o.batch);
  line.Number("--context", "positions that each has read before, default 128", {1, 16777216}, &o.context);
  line.Number("--prompt", "ids of the prompt that is read, default 512", {1, 16777216}, &o.prompt);
  line.Number("--steps", "decoding steps of each batch, default 32", {1, 100000}, &o.steps);
  line.Choice("--fusion", "all", "all: decoding of the first batch at each level of kernels.fusion instead", &o.fusion);
  line.Switch("--made-weights",
              "weights are made up where they lie: of TARGET sizes alone matter (tools/make_shape.py)",
              &o.made_weights);
  line.Switch("--json", "print JSON instead", &o.json);
  const absl::Status parsed = ParseTarget(line, argc - 1, argv + 1, &o.serve);
  if (const auto code = line.Exit(parsed)) return *code;
  SetLogLevel("warning");
  DeploymentResult read = ReadDeploymentTarget(o.serve.target, o.serve.settings);
  if (!read.faults.empty()) return Refuse(absl::StrJoin(read.faults, "\n"));
  b.deployment = std::move(read.deployment);
  b.deployment.timeline = {};  // measured as it is without
  std::vector<int> batches;
  if (const absl::Status s = Batches(o, b.deployment, &batches); !s.ok())
    return std::cerr << "pangea bench model: " << s.message() << "\n", kUsageExitCode;
  auto header = ReadCheckpointHeader(b.deployment.model);
  if (!header.ok()) return Refuse(std::string(header.status().message()));
  b.header = *std::move(header);
  if (b.deployment.parallel.transport == "nccl") b.deployment.parallel.transport = "auto";
  b.deployment.agents.launch = "local";  // agents are threads here
  for (AgentConfig& agent : b.deployment.agent_list) agent.launch = "local";
  PlanResult planned = MakePlan(b.header, b.deployment);
  if (!planned.faults.empty()) {
    for (const DeploymentFault& fault : planned.faults) Refuse(fault.Text());
    return kConfigExitCode;
  }
  b.plan = std::move(planned.plan);
  if (const std::string fault = HostFault(b.deployment, b.plan, AvailableMemory()); !fault.empty())
    return Refuse(fault);
  const int longest = std::max(o.context + o.steps + kWarmUp, o.prompt);
  if (longest > b.plan.context)
    return Refuse(absl::StrCat("--context and --steps, or --prompt, come to ", longest,
                               " positions; the deployment's context is ", b.plan.context));
  for (const RankPlan& agent : b.plan.agents) b.read_a_step += agent.memory.packed;
  if (const absl::Status s = RunAll(b, batches); !s.ok())
    return std::cerr << "pangea bench model: " << s.message() << "\n", 1;
  if (o.json) std::cout << b.rows.dump() << "\n";
  return 0;
}

}  // namespace pangea
