// What the log says of requests: a line for each when it has ended, whichever door it came by, and a line of throughput
// while there are any. Never a word of a prompt or of an answer.
#pragma once
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "master/api/generation/generation.h"
#include "master/schedule/engine.h"

namespace pangea {

struct ApiContext;

struct RequestRecord {
  using Clock = std::chrono::steady_clock;
  std::string what;    // "POST /v1/completions", "gRPC Completion"
  std::string status;  // "200", "INVALID_ARGUMENT"
  std::string id;
  std::string reason;  // of what was refused or failed; nothing that the client wrote, but for names
  uint32_t account = 0;
  Clock::time_point begun;
  std::optional<GenerationUse> use;
  bool routine = false;  // health checks and the like, which come every few seconds: told at debug
};

// "POST /v1/completions 200 id=req-1 key=alice prompt=37 cached=0 generated=8 first_token=0.041s duration=0.350s
// end=stop"; with a reason, ": REASON" behind it.
std::string RequestText(const RequestRecord& record, std::string_view key, RequestRecord::Clock::time_point now);
// Writes it, where log.requests says so. Any thread.
void LogRequest(const RequestRecord& record, const ApiContext& context);

// The client's own id where it can stand in a header and in a line, else a new one.
std::string RequestId(std::string_view sent);

// One thread.
class Throughput {
 public:
  using Clock = std::chrono::steady_clock;
  // Called about once a second with what has been counted so far. Every ten seconds in which something was done or
  // waited, what to say of them.
  std::optional<std::string> Look(Clock::time_point now, uint64_t prompt, uint64_t generated, const EngineStats& stats);

 private:
  Clock::time_point since_;
  uint64_t prompt_ = 0, generated_ = 0;
};

}  // namespace pangea
