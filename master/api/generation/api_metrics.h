// What the doors count: the same numbers whichever door a request comes by. Thread safe.
#pragma once
#include "absl/status/status.h"
#include "master/metrics/metrics.h"

namespace pangea {

// vLLM's own, so that its dashboards read alike.
inline constexpr double kFirstTokenBounds[] = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
                                               1,     2.5,   5,    7.5,  10,   20,   40,   80,  160,  640, 2560};
inline constexpr double kTokenBounds[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3,
                                          0.4,   0.5,    0.75,  1,    2.5,   5,    7.5,   10,  20,   40,  80};
inline constexpr double kRequestBounds[] = {0.05, 0.1, 0.3, 0.5, 0.8, 1,   1.5, 2,   2.5, 5,    10,  15,
                                            20,   30,  40,  50,  60,  120, 240, 480, 960, 1920, 7680};
inline constexpr double kTokenCountBounds[] = {1,   2,    5,    10,   20,    50,    100,   200,
                                               500, 1000, 2000, 5000, 10000, 20000, 50000, 100000};
inline constexpr double kChoicesBounds[] = {1, 2, 5, 10, 20};

struct ApiMetrics {
  PairCounter http_responses{{"pangea_http_responses_total",
                              "Answers over HTTP by route and status; 499: the client went away before there was one."},
                             "route",
                             {"/v1/chat/completions", "/v1/completions", "/v1/models", "/tokenize", "/metrics"},
                             "status",
                             "200"};
  PairCounter grpc_responses{{"pangea_grpc_responses_total", "gRPC calls that ended, by method and code."},
                             "method",
                             {"ChatCompletion", "ChatCompletionStream", "Completion", "CompletionStream"},
                             "code",
                             "OK"};
  LabelledCounter finished{{"pangea_requests_total",
                            "Choices that ended, by why: stop (an end token or a stop string), length, abort (the "
                            "client went away), error.",
                            {"vllm:request_success_total"}},
                           "finished_reason",
                           {"stop", "length", "abort", "error"}};
  LabelledCounter rejected{{"pangea_rejected_total", "Requests and connections that a limit ended, by the limit."},
                           "limit",
                           {"connections", "queue", "queue_seconds", "requests_per_key", "request_seconds",
                            "max_prompt_tokens", "body", "bodies"}};
  Counter prompt_tokens{{"pangea_prompt_tokens_total",
                         "Tokens of the prompts of requests that began to answer, cached ones included.",
                         {"vllm:prompt_tokens_total"}}};
  Counter cached_tokens{{"pangea_prompt_tokens_cached_total",
                         "Those of them that the prefix cache had.",
                         {"vllm:prompt_tokens_cached_total"}}};
  Counter generated_tokens{
      {"pangea_generated_tokens_total", "Tokens generated, as usage counts them.", {"vllm:generation_tokens_total"}}};
  Histogram first_token{{"pangea_time_to_first_token_seconds",
                         "Time from the arrival of a request to the first token of a choice.",
                         {"vllm:time_to_first_token_seconds"}},
                        kFirstTokenBounds};
  Histogram inter_token{{"pangea_inter_token_latency_seconds",
                         "Time from one token of a choice to its next.",
                         {"vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"}},
                        kTokenBounds};
  Histogram request{{"pangea_request_latency_seconds",
                     "Time from the arrival of a request to the last token of a choice.",
                     {"vllm:e2e_request_latency_seconds"}},
                    kRequestBounds};
  Histogram queue_time{{"pangea_request_queue_time_seconds",
                        "Time from the arrival of a request to when it first ran.",
                        {"vllm:request_queue_time_seconds"}},
                       kRequestBounds};
  Histogram prefill_time{{"pangea_request_prefill_time_seconds",
                          "Time from when a request first ran to the first token of a choice.",
                          {"vllm:request_prefill_time_seconds"}},
                         kRequestBounds};
  Histogram decode_time{{"pangea_request_decode_time_seconds",
                         "Time from the first token of a choice to its last.",
                         {"vllm:request_decode_time_seconds"}},
                        kRequestBounds};
  Histogram inference_time{{"pangea_request_inference_time_seconds",
                            "Time from when a request first ran to the last token of a choice.",
                            {"vllm:request_inference_time_seconds"}},
                           kRequestBounds};
  Histogram token_time{{"pangea_request_time_per_output_token_seconds",
                        "Time of a choice's decoding, by its tokens after the first.",
                        {"vllm:request_time_per_output_token_seconds"}},
                       kTokenBounds};
  Histogram longest_choice{{"pangea_request_max_generated_tokens",
                            "Tokens of the longest choice of a prompt.",
                            {"vllm:request_max_num_generation_tokens"}},
                           kTokenCountBounds};
  Histogram asked_n{{"pangea_request_params_n", "Choices asked for, a prompt.", {"vllm:request_params_n"}},
                    kChoicesBounds};
  Histogram asked_max_tokens{{"pangea_request_params_max_tokens",
                              "Tokens that a choice was allowed, a prompt.",
                              {"vllm:request_params_max_tokens"}},
                             kTokenCountBounds};
  Histogram prompt_size{{"pangea_request_prompt_tokens", "Tokens of a prompt.", {"vllm:request_prompt_tokens"}},
                        kTokenCountBounds};
  Histogram generated_size{{"pangea_request_generated_tokens",
                            "Tokens of a choice that ended by stop or length.",
                            {"vllm:request_generation_tokens"}},
                           kTokenCountBounds};

  // Counts what OverLimit (api_error.h) has marked, nothing else.
  void Reject(const absl::Status& status);
  void Write(MetricsPage& page) const;
};

}  // namespace pangea
