#include "master/api/generation/request_log.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "configs/log.h"
#include "master/api/generation/context.h"
#include "master/api/generation/random_bits.h"

namespace pangea {
namespace {

using Seconds = std::chrono::duration<double>;

constexpr Seconds kEvery{10};
constexpr size_t kReasonBytes = 400;

bool SafeId(std::string_view id) {
  return !id.empty() && id.size() <= 128 &&
         std::all_of(id.begin(), id.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}

}  // namespace

std::string RequestId(std::string_view sent) {
  return SafeId(sent) ? std::string(sent) : absl::StrFormat("req-%016x", RandomBits());
}

std::string RequestText(const RequestRecord& record, std::string_view key, RequestRecord::Clock::time_point now) {
  std::string text = absl::StrFormat("%s %s id=%s key=%s", record.what, record.status, record.id, key);
  if (record.use) {
    absl::StrAppendFormat(&text, " prompt=%d cached=%d generated=%d", record.use->prompt, record.use->cached,
                          record.use->generated);
    if (record.use->first_token) absl::StrAppendFormat(&text, " first_token=%.3fs", *record.use->first_token);
  }
  absl::StrAppendFormat(&text, " duration=%.3fs", Seconds(now - record.begun).count());
  if (record.use) absl::StrAppend(&text, " end=", record.use->end);
  if (!record.reason.empty()) absl::StrAppend(&text, ": ", record.reason.substr(0, kReasonBytes));
  return text;
}

void LogRequest(const RequestRecord& record, const ApiContext& context) {
  const LogLevel level = record.routine && record.reason.empty() ? LogLevel::kDebug : LogLevel::kInfo;
  if (!context.deployment->log.requests || !LogEnabled(level)) return;
  const std::string_view key =
      record.account > 0 ? std::string_view(context.keys->keys()[record.account - 1].name) : "-";
  LogLine(level, RequestText(record, key, RequestRecord::Clock::now()));
}

std::optional<std::string> Throughput::Look(Clock::time_point now, uint64_t prompt, uint64_t generated,
                                            const EngineStats& stats) {
  const bool idle = prompt == prompt_ && generated == generated_ && stats.running + stats.waiting == 0;
  if (idle || since_ == Clock::time_point()) since_ = now;  // the ten seconds begin with the work
  const double seconds = Seconds(now - since_).count();
  if (seconds < kEvery.count()) return std::nullopt;
  const auto rate = [&](uint64_t after, uint64_t before) { return static_cast<double>(after - before) / seconds; };
  std::string text =
      absl::StrFormat("throughput: prompt %.1f tok/s, generation %.1f tok/s; running %d, waiting %d; KV use %.1f %%",
                      rate(prompt, prompt_), rate(generated, generated_), stats.running, stats.waiting,
                      stats.blocks > 0 ? 100 - 100.0 * stats.blocks_free / stats.blocks : 0);
  since_ = now;
  prompt_ = prompt;
  generated_ = generated;
  return text;
}

}  // namespace pangea
