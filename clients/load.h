// A load generator for any server with the OpenAI REST API.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "clients/canceller.h"
#include "clients/rest_client.h"
#include "clients/statistics.h"

namespace pangea::clients {

struct LoadOptions {
  RestEndpoint endpoint;
  std::string model;
  bool chat = true;  // /v1/chat/completions, else /v1/completions
  int64_t requests = 100;
  int64_t concurrency = 8;                // at once; with a rate too
  double rate = 0;                        // arrivals a second, Poisson; 0: a new request as soon as one ends
  int64_t prompt_words = 64;              // random words
  int64_t prompt_tokens = 0;              // > 0: instead, so many random token ids (needs chat = false)
  int64_t first_id = 100, last_id = 400;  // ids are drawn from here
  int64_t seed = 0;                       // of prompts and arrivals
  double timeout_seconds = 600;
  SamplingOptions sampling;
};

struct LoadReport {
  // From the moment a request was due (so a late start counts) to its first text; between one text and the next; to its
  // end.
  LatencyHistogram first_token, inter_token, end_to_end;
  int64_t succeeded = 0, failed = 0, started = 0, delayed = 0;  // delayed: due while `concurrency` were open
  int64_t prompt_tokens = 0, completion_tokens = 0;
  double seconds = 0;
  std::map<std::string, int64_t> errors;  // the first 10 kinds; the rest under "other"
  bool cancelled = false;
};

// Blocking, in this thread. on_progress about once a second.
LoadReport RunLoad(const LoadOptions& options, const std::function<void(const LoadReport&)>& on_progress,
                   Canceller* canceller);

std::string ProgressLine(const LoadReport& report, int64_t requests);
std::string ReportText(const LoadReport& report);
std::string ReportJson(const LoadOptions& options, const LoadReport& report);  // one line

// The request of one index: the same seed and index give the same prompt.
GenerateRequest MakeLoadRequest(const LoadOptions& options, int64_t index);
// Seconds to the next arrival of a Poisson process.
double NextArrival(std::mt19937_64& random, double rate);

}  // namespace pangea::clients
