#include "clients/load.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <memory>
#include <utility>

#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

namespace pangea::clients {
namespace {

using Clock = std::chrono::steady_clock;
double Seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }

constexpr const char* kWords[] = {"the",    "river",  "carries", "small", "stones", "under", "an",    "old",
                                  "bridge", "while",  "seven",   "birds", "watch",  "from",  "a",     "roof",
                                  "and",    "nobody", "knows",   "when",  "rain",   "will",  "come",  "again",
                                  "to",     "this",   "quiet",   "town",  "by",     "green", "hills", "far"};

// Uniform in [0, n) from the generator's own bits: the standard distributions differ between libraries.
uint64_t Draw(std::mt19937_64& random, uint64_t n) {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(random()) * n) >> 64);
}

class Run {
 public:
  Run(const LoadOptions& options, std::function<void(const LoadReport&)> on_progress)
      : options_(options), on_progress_(std::move(on_progress)), arrivals_(static_cast<uint64_t>(options.seed)) {}

  LoadReport Go(Canceller* canceller) {
    start_ = Clock::now();
    if (canceller != nullptr) canceller->Set([this] { loop_.Post([this] { Cancel(); }); });
    if (options_.rate > 0) {
      Arrive();
    } else {
      for (int64_t i = std::min(options_.concurrency, options_.requests); i > 0; --i) Start(Clock::now());
    }
    Tick();
    loop_.Run();
    if (canceller != nullptr) canceller->Clear();
    report_.seconds = Seconds(Clock::now() - start_);
    return std::move(report_);
  }

 private:
  struct Flight {
    Clock::time_point due, last;
    bool has_text = false;
    int64_t pieces = 0;
    RestStream stream;
    absl::Status broken;
  };

  void Cancel() {
    report_.cancelled = true;
    due_.clear();
    loop_.CancelAll();
  }

  void Tick() {
    loop_.After(1, [this] {
      report_.seconds = Seconds(Clock::now() - start_);
      if (on_progress_) on_progress_(report_);
      Tick();
    });
  }

  // One arrival now, and the next one when it is due.
  void Arrive() {
    ++arrived_;
    if (open_ < options_.concurrency) {
      Start(Clock::now());
    } else {
      ++report_.delayed;
      due_.push_back(Clock::now());
    }
    if (arrived_ < options_.requests) loop_.After(NextArrival(arrivals_, options_.rate), [this] { Arrive(); });
  }

  void Start(Clock::time_point due) {
    auto flight = std::make_shared<Flight>();
    flight->due = due;
    ++open_;
    const GenerateRequest request = MakeLoadRequest(options_, report_.started++);
    loop_.Start(
        MakeRestRequest(options_.endpoint, request, true),
        [this, flight](const std::string& data) { OnEvent(*flight, data); },
        [this, flight](const absl::StatusOr<HttpResponse>& response) { OnDone(*flight, response); });
  }

  void OnEvent(Flight& flight, const std::string& data) {
    const auto text = flight.stream.Push(data);
    if (!text.ok()) {
      flight.broken = text.status();
      return;
    }
    if (text->empty()) return;
    const auto now = Clock::now();
    if (flight.has_text) {
      report_.inter_token.Add(Seconds(now - flight.last));
    } else {
      report_.first_token.Add(Seconds(now - flight.due));
    }
    flight.has_text = true;
    flight.last = now;
    ++flight.pieces;
  }

  void OnDone(const Flight& flight, const absl::StatusOr<HttpResponse>& response) {
    --open_;
    absl::Status status = flight.broken;
    if (status.ok() && !flight.stream.done()) {
      status = !response.ok()            ? response.status()
               : response->status == 200 ? absl::UnavailableError("the stream ended before [DONE]")
                                         : RestError(response->status, response->body);
    }
    Count(flight, status);
    if (report_.cancelled) return;
    if (options_.rate > 0) {
      if (!due_.empty()) {
        const auto due = due_.front();
        due_.pop_front();
        Start(due);
      }
    } else if (report_.started < options_.requests) {
      Start(Clock::now());
    }
    if (report_.succeeded + report_.failed == options_.requests) loop_.CancelAll();  // the progress timer
  }

  void Count(const Flight& flight, const absl::Status& status) {
    if (report_.cancelled && absl::IsCancelled(status)) return;
    if (!status.ok()) {
      ++report_.failed;
      const std::string kind =
          absl::StatusCodeToString(status.code()) + ": " + std::string(status.message()).substr(0, 200);
      if (report_.errors.size() < 10 || report_.errors.contains(kind)) {
        ++report_.errors[kind];
      } else {
        ++report_.errors["other"];
      }
      return;
    }
    ++report_.succeeded;
    report_.end_to_end.Add(Seconds(Clock::now() - flight.due));
    const Answer& answer = flight.stream.answer();
    report_.prompt_tokens += answer.prompt_tokens;
    // A server without usage in streams: a piece of text is taken for a token.
    report_.completion_tokens += answer.completion_tokens > 0 ? answer.completion_tokens : flight.pieces;
  }

  const LoadOptions& options_;
  std::function<void(const LoadReport&)> on_progress_;
  HttpLoop loop_;
  LoadReport report_;
  std::mt19937_64 arrivals_;
  std::deque<Clock::time_point> due_;
  int64_t open_ = 0, arrived_ = 0;
  Clock::time_point start_;
};

std::string Line(const char* name, const LatencyHistogram& h) {
  auto ms = [](double seconds) { return seconds * 1000; };
  return absl::StrFormat("%-22s %10.2f %10.2f %10.2f %10.2f %10.2f\n", name, ms(h.Percentile(50)), ms(h.Percentile(90)),
                         ms(h.Percentile(99)), ms(h.mean()), ms(h.max()));
}

nlohmann::ordered_json Json(const LatencyHistogram& h) {
  return {{"p50", h.Percentile(50)}, {"p90", h.Percentile(90)}, {"p99", h.Percentile(99)},
          {"mean", h.mean()},        {"max", h.max()},          {"samples", h.count()}};
}

double PerSecond(const LoadReport& report, int64_t count) {
  return report.seconds > 0 ? static_cast<double>(count) / report.seconds : 0;
}

}  // namespace

double NextArrival(std::mt19937_64& random, double rate) {
  const double uniform = static_cast<double>(random() >> 11) * 0x1p-53;  // [0, 1)
  return -std::log1p(-uniform) / rate;
}

GenerateRequest MakeLoadRequest(const LoadOptions& options, int64_t index) {
  std::mt19937_64 random(static_cast<uint64_t>(options.seed) * 0x9E3779B97F4A7C15ull + static_cast<uint64_t>(index) +
                         1);
  GenerateRequest request;
  request.model = options.model;
  request.sampling = options.sampling;
  request.timeout_seconds = options.timeout_seconds;
  if (options.prompt_tokens > 0) {
    const uint64_t span = static_cast<uint64_t>(options.last_id - options.first_id + 1);
    for (int64_t i = 0; i < options.prompt_tokens; ++i)
      request.prompt_ids.push_back(options.first_id + static_cast<int64_t>(Draw(random, span)));
    return request;
  }
  std::string text;
  for (int64_t i = 0; i < options.prompt_words; ++i) {
    if (i > 0) text += ' ';
    text += kWords[Draw(random, std::size(kWords))];
  }
  if (options.chat) {
    request.messages = {{"user", text}};
  } else {
    request.prompt = text;
  }
  return request;
}

LoadReport RunLoad(const LoadOptions& options, const std::function<void(const LoadReport&)>& on_progress,
                   Canceller* canceller) {
  return Run(options, on_progress).Go(canceller);
}

std::string ProgressLine(const LoadReport& report, int64_t requests) {
  const int64_t ended = report.succeeded + report.failed;
  return absl::StrFormat("%d of %d requests, %d failed, %d open, %.1f tokens/s, first token p50 %.1f ms", ended,
                         requests, report.failed, report.started - ended, PerSecond(report, report.completion_tokens),
                         report.first_token.Percentile(50) * 1000);
}

std::string ReportText(const LoadReport& report) {
  std::string out = absl::StrFormat("requests   %d succeeded, %d failed in %.2f s (%.2f a second)%s\n",
                                    report.succeeded, report.failed, report.seconds,
                                    PerSecond(report, report.succeeded), report.cancelled ? ", interrupted" : "");
  out += absl::StrFormat("tokens     %d of prompts, %d generated (%.1f a second)\n", report.prompt_tokens,
                         report.completion_tokens, PerSecond(report, report.completion_tokens));
  if (report.delayed > 0)
    out += absl::StrFormat("delayed    %d requests waited for a free place; their wait is counted\n", report.delayed);
  out += absl::StrFormat("%-22s %10s %10s %10s %10s %10s\n", "milliseconds", "p50", "p90", "p99", "mean", "max");
  out += Line("time to first token", report.first_token);
  out += Line("between texts", report.inter_token);
  out += Line("end to end", report.end_to_end);
  for (const auto& [what, count] : report.errors) out += absl::StrFormat("error      %d x %s\n", count, what);
  return out;
}

std::string ReportJson(const LoadOptions& options, const LoadReport& report) {
  nlohmann::ordered_json json = {{"model", options.model},
                                 {"concurrency", options.concurrency},
                                 {"rate", options.rate},
                                 {"seed", options.seed},
                                 {"succeeded", report.succeeded},
                                 {"failed", report.failed},
                                 {"delayed", report.delayed},
                                 {"interrupted", report.cancelled},
                                 {"seconds", report.seconds},
                                 {"requests_per_second", PerSecond(report, report.succeeded)},
                                 {"prompt_tokens", report.prompt_tokens},
                                 {"completion_tokens", report.completion_tokens},
                                 {"tokens_per_second", PerSecond(report, report.completion_tokens)},
                                 {"time_to_first_token_seconds", Json(report.first_token)},
                                 {"inter_token_seconds", Json(report.inter_token)},
                                 {"end_to_end_seconds", Json(report.end_to_end)},
                                 {"errors", report.errors}};
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace pangea::clients
