// What `pangea simulate` prints.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "master/simulate.h"
#include "pipeline/cost_model.h"

namespace pangea {
namespace {

double PerSecond(double count, const SimulationReport& report) {
  return report.seconds > 0 ? count / report.seconds : 0;
}

double Share(double part, double whole) { return whole > 0 ? part / whole : 0; }

std::string MemoryText(const PlannedDeployment& planned) {
  const ParallelPlan& plan = planned.plan;
  const auto bytes = [&](const RankPlan& agent) { return agent.memory.total(); };
  const auto [least, most] = std::minmax_element(plan.agents.begin(), plan.agents.end(),
                                                 [&](const auto& a, const auto& b) { return bytes(a) < bytes(b); });
  std::string text =
      absl::StrFormat("memory      %s to %s a device", BytesText(bytes(*least)), BytesText(bytes(*most)));
  if (planned.deployment.simulate.memory > 0)
    absl::StrAppend(&text, ", which has ", BytesText(static_cast<int64_t>(planned.deployment.simulate.memory)));
  return text + "\n";
}

std::string LatencyRow(const char* name, const Distribution& d) {
  return absl::StrFormat("  %-14s %10.2f %10.2f %10.2f %10.2f %10.2f\n", name, d.mean * 1e3, d.p50 * 1e3, d.p90 * 1e3,
                         d.p99 * 1e3, d.max * 1e3);
}

nlohmann::ordered_json Json(const Distribution& d) {
  return {{"mean", d.mean}, {"p50", d.p50}, {"p90", d.p90}, {"p99", d.p99}, {"max", d.max}};
}

}  // namespace

std::string ReportText(const PlannedDeployment& planned, const SimulationReport& r) {
  std::string text = planned.plan.Text(planned.header.config);
  absl::StrAppend(&text, MemoryText(planned));
  absl::StrAppendFormat(
      &text, "\nrequests    %d: %d finished, %d refused, %d expired in the queue, in %.3f s of virtual time\n",
      r.requests, r.finished, r.refused, r.expired, r.seconds);
  absl::StrAppendFormat(&text, "throughput  %.1f tokens/s generated, %.1f tokens/s of prompts, %.2f requests/s\n",
                        PerSecond(r.generated_tokens, r), PerSecond(r.prompt_tokens, r), PerSecond(r.finished, r));
  absl::StrAppendFormat(&text,
                        "steps       %d, %.1f rows each, at most %d sequences; %d preemptions; %d of %d prompt tokens "
                        "from the prefix cache\n",
                        r.engine.steps, Share(r.engine.rows, r.engine.steps), r.engine.largest_batch,
                        r.engine.preemptions, r.engine.prefix_hits, r.engine.prefix_queries);
  absl::StrAppendFormat(&text, "KV cache    %.1f %% of the blocks used on average, %.1f %% at most\n", r.kv_mean * 100,
                        r.kv_peak * 100);
  absl::StrAppendFormat(&text, "\n  %-14s %10s %10s %10s %10s %10s\n", "milliseconds", "mean", "p50", "p90", "p99",
                        "max");
  absl::StrAppend(&text, LatencyRow("first token", r.first_token), LatencyRow("inter-token", r.inter_token),
                  LatencyRow("end to end", r.end_to_end));
  absl::StrAppendFormat(&text, "\n  %-5s %12s %15s %12s %9s\n", "stage", "compute s", "communication s", "bubble s",
                        "bubble");
  for (size_t stage = 0; stage < r.stages.size(); ++stage) {
    const StageUse& use = r.stages[stage];
    absl::StrAppendFormat(&text, "  %5d %12.3f %15.3f %12.3f %7.1f %%\n", stage, use.compute, use.communication,
                          use.bubble, Share(use.bubble, r.loaded_seconds) * 100);
  }
  return text;
}

std::string ReportJson(const PlannedDeployment& planned, const SimulationReport& r) {
  nlohmann::ordered_json json = {
      {"stages", planned.plan.stages},
      {"ranks", planned.plan.ranks},
      {"kv_blocks", planned.plan.kv_blocks},
      {"block_tokens", planned.plan.block_tokens},
      {"requests", r.requests},
      {"finished", r.finished},
      {"refused", r.refused},
      {"expired", r.expired},
      {"seconds", r.seconds},
      {"loaded_seconds", r.loaded_seconds},
      {"prompt_tokens", r.prompt_tokens},
      {"generated_tokens", r.generated_tokens},
      {"generated_per_second", PerSecond(r.generated_tokens, r)},
      {"prompt_per_second", PerSecond(r.prompt_tokens, r)},
      {"first_token_seconds", Json(r.first_token)},
      {"inter_token_seconds", Json(r.inter_token)},
      {"end_to_end_seconds", Json(r.end_to_end)},
      {"steps", r.engine.steps},
      {"rows", r.engine.rows},
      {"largest_batch", r.engine.largest_batch},
      {"preemptions", r.engine.preemptions},
      {"prefix_queries", r.engine.prefix_queries},
      {"prefix_hits", r.engine.prefix_hits},
      {"kv_mean", r.kv_mean},
      {"kv_peak", r.kv_peak},
  };
  for (const StageUse& use : r.stages) {
    json["per_stage"].push_back({{"compute_seconds", use.compute},
                                 {"communication_seconds", use.communication},
                                 {"bubble_seconds", use.bubble},
                                 {"bubble", Share(use.bubble, r.loaded_seconds)}});
  }
  for (const RankPlan& agent : planned.plan.agents) {
    const AgentMemory& m = agent.memory;
    json["per_device"].push_back({{"stage", agent.stage},
                                  {"rank", agent.rank},
                                  {"weight_bytes", m.weights()},
                                  {"kv_bytes", m.pages},
                                  {"activation_bytes", m.activations + m.sampler + m.attention},
                                  {"communication_bytes", m.communication},
                                  {"bytes", m.total()}});
  }
  return json.dump() + "\n";
}

}  // namespace pangea
