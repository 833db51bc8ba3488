#include "master/api/generation/api_metrics.h"

#include "master/api/openai/api_error.h"

namespace pangea {

void ApiMetrics::Reject(const absl::Status& status) {
  if (const std::string limit = LimitOf(status); !limit.empty()) rejected.Add(limit);
}

void ApiMetrics::Write(MetricsPage& page) const {
  page.Add(http_responses);
  page.Add(grpc_responses);
  page.Add(finished);
  page.Add(rejected);
  page.Add(prompt_tokens);
  page.Add(cached_tokens);
  page.Add(generated_tokens);
  page.Add(first_token);
  page.Add(inter_token);
  page.Add(request);
  page.Add(queue_time);
  page.Add(prefill_time);
  page.Add(decode_time);
  page.Add(inference_time);
  page.Add(token_time);
  page.Add(longest_choice);
  page.Add(asked_n);
  page.Add(asked_max_tokens);
  page.Add(prompt_size);
  page.Add(generated_size);
}

}  // namespace pangea
