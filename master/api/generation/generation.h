// One request on its way through the engine, whatever door it came by: ids come in as outputs, text goes out as pieces.
// Both doors pull pieces when their client takes them, so that a slow reader holds ids and not text; requests with stop
// strings are matched as ids arrive, since only the text knows where they end. A unary answer is the pieces collected.
//
// What it counts goes to ApiContext::metrics. Thread safety: EncodePrompts and the constructor run in a text thread;
// everything else on the I/O thread.
#pragma once
#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "master/api/generation/checked.h"
#include "master/schedule/engine.h"
#include "master/schedule/timeline.h"

namespace pangea {

struct PromptTokens {
  std::vector<int32_t> ids;
  int max_tokens = 0;
};

// Templates and tokenises, then the limits that need the ids. InvalidArgument: the template or tokenizer refused; code
// context_length_exceeded when prompt and max_tokens do not fit.
absl::StatusOr<std::vector<PromptTokens>> EncodePrompts(const CheckedRequest& request, const ApiContext& context);

struct GeneratedToken {
  Sample sample;
  int64_t offset = 0;  // code points of the choice's text before this token
};

struct AnswerPiece {
  int index = 0;  // of the choice; prompt-major: prompt * n + choice
  int prompt = 0;
  bool first = false;  // opens the choice; with echo, text is the prompt's
  std::string text;
  std::vector<GeneratedToken> tokens;  // when log-probabilities or ids are wanted
  std::string finish;                  // "stop", "length"; empty: goes on. A piece of its own, without text
};

// What a request took and gave, for the log.
struct GenerationUse {
  int64_t prompt = 0, cached = 0, generated = 0;  // tokens
  std::optional<double> first_token;              // seconds from its arrival
  std::string end;                                // why: stop, length, abort, error; "length,stop" where choices differ
};

class Generation {
 public:
  using Clock = std::chrono::steady_clock;
  // first_id: engine requests are first_id, first_id + 1, …, one a prompt. arrival: of the request at its door.
  Generation(CheckedRequest request, std::vector<PromptTokens> prompts, const ApiContext& context, uint64_t first_id,
             Clock::time_point arrival = Clock::now());
  ~Generation();  // cancels what is still running

  // It was not let in after all: it counts as rejected, not as begun. Any thread.
  void Refuse() { refused_ = true; }

  // What the engine is asked for, one a prompt.
  std::vector<SequenceRequest> Sequences() const;

  void OnOutput(Output output, Clock::time_point now = Clock::now());
  void Fail(const absl::Status& why);  // ends the request; what runs is cancelled. The first reason stays
  void FailChoice(uint64_t request, int choice, const absl::Status& why);  // as Fail, unless that choice has ended
  void Expire(Caller::Clock::time_point now);  // fails with DeadlineExceeded when its deadline has passed
  std::optional<AnswerPiece> Next();           // nullopt: nothing is ready
  bool started() const { return started_; }    // something has been made, or it has ended
  bool done() const { return closed_ == static_cast<int>(choices_.size()); }  // every choice's finish was pulled
  const absl::Status& error() const { return error_; }
  std::function<void()> on_progress;  // pieces or an error may be there

  // For the answer.
  const CheckedRequest& request() const { return request_; }
  const ApiContext& context() const { return context_; }
  int prompts() const { return static_cast<int>(prompts_.size()); }
  const std::vector<int32_t>& prompt_ids(int prompt) const { return prompts_[prompt].tokens.ids; }
  const std::vector<Sample>& prompt_samples(int prompt) const {
    return prompts_[prompt].samples;
  }  // of ids 1.. of the prompt
  const std::vector<int64_t>& prompt_offsets(int prompt) const { return prompts_[prompt].offsets; }
  int64_t prompt_tokens() const;
  int64_t completion_tokens() const;
  int64_t told_tokens() const;  // those of them that became text
  int64_t cached_tokens() const;
  GenerationUse Use() const;
  uint64_t first_id() const { return first_id_; }
  const std::string& id() const { return id_; }
  int64_t created() const { return created_; }
  Clock::time_point born() const { return born_; }

 private:
  struct Prompt {
    PromptTokens tokens;
    std::string echo;              // its text, with echo
    std::vector<int64_t> offsets;  // of each id in it
    std::vector<Sample> samples;
    int cached = 0;
    bool counted = false;  // in the metrics
    double started = 0;    // on the engine's clock: when it first ran; 0: not yet
    int open = 0;          // choices that have not ended
    size_t longest = 0;    // tokens of the longest choice that has
  };
  struct Choice {
    int prompt = 0, choice = 0;
    Detokenizer detokenizer;
    StopMatcher matcher;
    std::deque<Sample> waiting;         // ids that are no text yet
    std::string text;                   // ready, not pulled
    std::deque<GeneratedToken> tokens;  // likewise
    int64_t offset = 0;                 // code points of the text of all ids so far
    int count = 0;                      // ids that became text
    std::string finish;                 // set when no id will follow
    bool flushed = false, opened = false, closed = false;
    Clock::time_point first_token, last_token;  // none yet: the epoch

    size_t tokens_taken() const { return count + waiting.size(); }
  };

  void PrepareEcho(Prompt& prompt);
  void Take(Choice& choice, Output output);
  void Count(Choice& choice, size_t tokens, Clock::time_point now);
  void CountEnd(const Choice& choice, Clock::time_point now);
  void CountUnfinished(const char* reason);
  void Draw(TimelineMoment::Edge edge, const char* name, Clock::time_point now, int64_t tokens) const;
  Choice MakeChoice(int prompt, int choice) const;
  void MakeText(Choice& choice, size_t limit);
  // may_stop: a stop string that ends in it ends the choice.
  void AddText(Choice& choice, const std::string& text, bool may_stop);
  void StopAt(Choice& choice);
  bool CanOpen(const Choice& choice) const;
  bool Running(int prompt) const;
  void CancelRunning();
  bool WantsPromptSamples() const { return request_.echo && request_.sampling->top_logprobs >= 0; }
  bool KeepsTokens() const { return request_.sampling->top_logprobs >= 0 || request_.return_token_ids; }

  const CheckedRequest request_;
  const StopMatcher matcher_;  // copied for every choice: the copies share what many long stop strings make large
  const ApiContext& context_;
  const uint64_t first_id_;
  std::string id_;
  int64_t created_ = 0;
  const Clock::time_point born_;
  std::vector<Prompt> prompts_;
  std::vector<Choice> choices_;
  std::atomic<bool> refused_{false};
  bool started_ = false;
  int closed_ = 0;
  size_t cursor_ = 0;                  // choice that Next looks at first
  std::optional<double> first_token_;  // seconds from its arrival
  absl::Status error_;
};

}  // namespace pangea
