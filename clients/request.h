// What a client asks and gets, whatever the transport.
#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace pangea::clients {

struct Message {
  std::string role;  // system, user, assistant
  std::string content;
};

// Absent: the server's default. Names and meanings as in the OpenAI API.
struct SamplingOptions {
  std::optional<int64_t> max_tokens, top_k, seed, min_tokens;
  std::optional<double> temperature, top_p, min_p, presence_penalty, frequency_penalty, repetition_penalty;
  std::vector<std::string> stop;
  bool ignore_eos = false;
};

struct GenerateRequest {
  std::string model;
  std::vector<Message> messages;    // not empty: a chat
  std::string prompt;               // else this text
  std::vector<int64_t> prompt_ids;  // or, not empty, these ids
  SamplingOptions sampling;
  double timeout_seconds = 600;  // of the whole call
  bool chat() const { return !messages.empty(); }
};

struct Answer {
  std::string text;
  std::string finish_reason;  // stop, length; empty: the server named none
  int64_t prompt_tokens = 0, completion_tokens = 0;
  int64_t hidden_tokens = 0;  // of completion_tokens: reasoning that the server counted but did not stream
  double seconds = 0;         // from a stream's first event to its last; 0: the answer came whole
  std::string model, fingerprint;
};

// Measures Answer::seconds.
class StreamClock {
 public:
  void Arrived(Answer& answer) {
    const auto now = std::chrono::steady_clock::now();
    if (!first_) first_ = now;
    answer.seconds = std::chrono::duration<double>(now - *first_).count();
  }

 private:
  std::optional<std::chrono::steady_clock::time_point> first_;
};

// The payload of a Status that holds the error's `code` of the OpenAI API, when the server named one.
inline constexpr char kErrorCode[] = "code";

using OnText = std::function<void(const std::string&)>;

}  // namespace pangea::clients
