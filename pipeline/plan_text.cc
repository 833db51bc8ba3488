// What `pangea check` prints.
#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "pipeline/capacity.h"
#include "pipeline/parallel_plan.h"

namespace pangea {
namespace {

std::string RangeText(const Range& range) {
  if (range.size() == 0) return "-";
  return range.size() == 1 ? absl::StrCat(range.begin) : absl::StrCat(range.begin, "-", range.end - 1);
}

// Columns as wide as their widest cell.
std::string Table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> width(rows[0].size(), 0);
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) width[i] = std::max(width[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i)
      absl::StrAppend(&line, i == 0 ? "  " : "   ", std::string(width[i] - row[i].size(), ' '), row[i]);
    absl::StrAppend(&text, line, "\n");
  }
  return text;
}

std::vector<std::vector<std::string>> MemoryRows(const std::vector<RankPlan>& agents) {
  std::vector<std::vector<std::string>> rows = {{"agent"}};
  for (const auto& part : AgentMemory().list()) rows[0].emplace_back(part.first);
  for (size_t i = 0; i < agents.size(); ++i) {
    auto& row = rows.emplace_back(std::vector<std::string>{absl::StrCat(i)});
    for (const auto& part : agents[i].memory.list()) row.push_back(absl::StrCat(part.second));
  }
  return rows;
}

}  // namespace

std::string ParallelPlan::Text(const ModelConfig& model) const {
  std::string text = absl::StrFormat(
      "model       %s: %d layers, width %d, %d heads (%d KV) of %d, feed-forward %d, vocabulary %d, mostly %s\n",
      model.architecture_name, model.layers, model.hidden, model.heads, model.kv_heads, model.head_dim, model.ffn,
      model.vocab, std::string(Info(model.dtype).name));
  absl::StrAppendFormat(&text, "layout      %d stages x %d ranks = %d agents, tensors over %s%s, waiting %s\n", stages,
                        ranks, stages * ranks, transport, devices_exchange ? " and from device to device" : "",
                        remote ? "as the cores of each host allow when all have joined"
                        : spin ? "by a short spin, then on futexes (a core for every agent thread)"
                               : "on futexes (fewer cores than agent threads)");
  std::vector<std::vector<std::string>> rows = {
      {"agent", "stage", "rank", "layers", "heads", "KV heads", "FFN columns", "vocabulary", "memory"}};
  for (size_t i = 0; i < agents.size(); ++i) {
    const RankPlan& a = agents[i];
    rows.push_back({absl::StrCat(i), absl::StrCat(a.stage), absl::StrCat(a.rank), RangeText(a.layers),
                    RangeText(a.heads), RangeText(a.kv_heads), RangeText(a.ffn_columns), RangeText(a.vocab),
                    BytesText(a.memory.total())});
  }
  absl::StrAppend(&text, Table(rows), "memory      of each agent, to the byte\n", Table(MemoryRows(agents)));
  const int64_t tokens = int64_t{kv_blocks} * block_tokens;
  absl::StrAppendFormat(&text, "KV cache    %d blocks of %d tokens = %d tokens", kv_blocks, block_tokens, tokens);
  absl::StrAppendFormat(&text, " (%.1f sequences of full context)\n",
                        static_cast<double>(tokens) / std::max(context, 1));
  if (swap_blocks > 0) absl::StrAppendFormat(&text, "swap        %d blocks for preempted sequences\n", swap_blocks);
  absl::StrAppendFormat(&text, "context     %d tokens a sequence", context);
  if (context < model.max_positions) absl::StrAppendFormat(&text, " (the checkpoint declares %d)", model.max_positions);
  absl::StrAppend(&text, "\n");
  if (predicted_tokens_per_second == 0) return text;
  absl::StrAppendFormat(&text,
                        "prediction  %.1f tokens/s for one stream, from weight bytes at an assumed %.0f GB/s a "
                        "thread and %.0f GB/s a host\n",
                        predicted_tokens_per_second, kThreadBandwidth / 1e9, kHostBandwidth / 1e9);
  return text;
}

}  // namespace pangea
