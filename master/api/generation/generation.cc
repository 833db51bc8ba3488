#include "master/api/generation/generation.h"

#include <algorithm>
#include <chrono>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "master/api/generation/context.h"
#include "master/api/generation/echo_offsets.h"
#include "master/api/generation/random_bits.h"
#include "master/api/openai/api_error.h"
#include "master/text/utf8.h"

namespace pangea {
namespace {

// Ids of the prompt that a detokenizer sees before the generated ones: enough that a word's leading space and a
// character split between prompt and answer come out as in the whole text.
constexpr size_t kContextIds = 64;
// Ids that become one piece at most: with log-probabilities a token may be kilobytes of an answer, and what a slow
// reader has not taken stays ids.
constexpr size_t kPieceTokens = 256;
// No text is tokenised that could not fit: a token stands for at most so many times the vocabulary's longest piece
// (normalisers may shorten a text, rarely by more).
constexpr uint64_t kShrink = 4;

std::string NewId(bool chat) {
  return absl::StrFormat("%s-%016x%016x", chat ? "chatcmpl" : "cmpl", RandomBits(), RandomBits());
}

size_t LongestPiece(const Text& text) {
  size_t longest = 1;
  for (int id = 0; id < text.vocab(); ++id) longest = std::max(longest, text.Bytes(id).size());
  return longest;
}

int PromptLimit(const ApiContext& context) {
  const int limit = context.deployment->limits.max_prompt_tokens;
  return limit > 0 ? std::min(limit, context.context) : context.context;
}

absl::Status TooManyBytes(uint64_t bytes, const CheckedRequest& request, const ApiContext& context) {
  const absl::Status status = ContextOverflow(
      request.chat ? "messages" : "prompt", request.chat, context.context,
      absl::StrCat("a prompt of ", bytes, " bytes, more than ", PromptLimit(context), " tokens can stand for"));
  return OverLimit("max_prompt_tokens", status);
}

absl::Status CheckBytes(uint64_t bytes, const CheckedRequest& request, const ApiContext& context) {
  // Once a process: the vocabulary does not change while it serves.
  static const size_t longest = LongestPiece(*context.text);
  const uint64_t limit = static_cast<uint64_t>(PromptLimit(context)) * longest * kShrink;
  return bytes <= limit ? absl::OkStatus() : TooManyBytes(bytes, request, context);
}

// InvalidArgument of the text library is about this parameter.
absl::Status Named(const absl::Status& status, const char* param) {
  return absl::IsInvalidArgument(status) ? Unlogged(BadParam(param, std::string(status.message()))) : status;
}

absl::StatusOr<std::vector<int32_t>> EncodeMessages(const CheckedRequest& request, const ApiContext& context) {
  const size_t bytes = request.messages.content_bytes;
  if (auto s = CheckBytes(bytes, request, context); !s.ok()) return s;
  if (!context.text->has_template() && request.options.override_template.empty()) {
    return BadParam("messages", "this model has no chat template: use /v1/completions");
  }
  auto ids = context.text->EncodeChat(request.messages.json, request.options);
  if (absl::IsOutOfRange(ids.status())) return TooManyBytes(bytes, request, context);
  if (!ids.ok()) return Named(ids.status(), "messages");
  return ids;
}

absl::StatusOr<std::vector<int32_t>> EncodeText(const std::string& text, const CheckedRequest& request,
                                                const ApiContext& context) {
  if (auto s = CheckBytes(text.size(), request, context); !s.ok()) return s;
  auto ids = context.text->Encode(text, request.add_special_tokens, /*parse_special=*/true);
  if (absl::IsOutOfRange(ids.status())) return TooManyBytes(text.size(), request, context);
  if (!ids.ok()) return Named(ids.status(), "prompt");
  return ids;
}

// Of a request that does not say how many it wants.
int DefaultTokens(const CheckedRequest& request, const ApiContext& context, int prompt) {
  constexpr int kCompletion = 16;
  int tokens = context.context - prompt;
  if (const int cap = context.deployment->limits.max_tokens; cap > 0) tokens = std::min(tokens, cap);
  // What the model's files say was meant for chats.
  const auto set = context.sampling.find("max_tokens");
  const bool counts = set != context.sampling.end() && (request.chat || set->second.from == kFromDeployment);
  if (counts) return static_cast<int>(std::min<double>(tokens, set->second.value));
  return request.chat ? tokens : std::min(tokens, kCompletion);
}

absl::StatusOr<PromptTokens> Fit(std::vector<int32_t> ids, const CheckedRequest& request, const ApiContext& context) {
  const char* param = request.chat ? "messages" : "prompt";
  const int count = static_cast<int>(std::min<size_t>(ids.size(), 1u << 30)), limit = PromptLimit(context);
  if (count == 0) return BadParam(param, absl::StrCat("'", param, "' has no tokens"));
  // A tokenizer may know more ids than the model has rows (tokens added for padding).
  for (const int32_t id : ids) {
    if (id >= context.model->vocab)
      return BadParam(param, absl::StrCat("'", param, "' holds token ", id,
                                          ", which the tokenizer knows but the model's vocabulary of ",
                                          context.model->vocab, " does not"));
  }
  const int wanted = request.max_tokens.value_or(1);
  const auto requested = [&] {
    return absl::StrCat(request.max_tokens ? "" : "at least ", static_cast<int64_t>(count) + wanted, " tokens (", count,
                        " in the ", param, ", ", wanted, " in the completion)");
  };
  if (count > limit) {
    const std::string own = limit == context.context ? ""
                                                     : absl::StrCat(", and this server takes at most ", limit,
                                                                    " in the ", param, " (limits.max_prompt_tokens)");
    return OverLimit("max_prompt_tokens", ContextOverflow(param, request.chat, context.context, requested() + own));
  }
  if (count + wanted > context.context) {
    const bool prompt_alone = count + std::min(wanted, 1) > context.context;
    return ContextOverflow(prompt_alone ? param : request.max_tokens_name, request.chat, context.context, requested());
  }
  PromptTokens tokens{std::move(ids), request.max_tokens.value_or(DefaultTokens(request, context, count))};
  if (request.sampling->min_tokens > tokens.max_tokens) {
    return BadParam("min_tokens", absl::StrCat("'min_tokens' is ", request.sampling->min_tokens, ", more than the ",
                                               tokens.max_tokens, " tokens that may be generated"));
  }
  return tokens;
}

}  // namespace

absl::StatusOr<std::vector<PromptTokens>> EncodePrompts(const CheckedRequest& request, const ApiContext& context) {
  std::vector<PromptTokens> prompts;
  const auto add = [&](absl::StatusOr<std::vector<int32_t>> ids) -> absl::Status {
    if (!ids.ok()) return ids.status();
    auto fit = Fit(*std::move(ids), request, context);
    if (!fit.ok()) return fit.status();
    prompts.push_back(*std::move(fit));
    return absl::OkStatus();
  };
  if (request.chat) {
    if (auto s = add(EncodeMessages(request, context)); !s.ok()) return s;
    return prompts;
  }
  for (const PromptInput& input : request.prompts) {
    const auto s = input.is_ids ? add(input.ids) : add(EncodeText(input.text, request, context));
    if (!s.ok()) return s;
  }
  return prompts;
}

Generation::Generation(CheckedRequest request, std::vector<PromptTokens> prompts, const ApiContext& context,
                       uint64_t first_id, Clock::time_point arrival)
    : request_(std::move(request)),
      matcher_(request_.stops),
      context_(context),
      first_id_(first_id),
      id_(NewId(request_.chat)),
      born_(arrival) {
  created_ =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  for (PromptTokens& tokens : prompts) {
    prompts_.emplace_back().tokens = std::move(tokens);
    if (request_.echo) PrepareEcho(prompts_.back());
  }
  for (int p = 0; p < this->prompts(); ++p) {
    prompts_[p].open = request_.n;
    for (int c = 0; c < request_.n; ++c) choices_.push_back(MakeChoice(p, c));
  }
  Draw(TimelineMoment::kBegin, "request", born_, prompt_tokens());
}

Generation::~Generation() {
  CancelRunning();
  if (error_.ok()) CountUnfinished("abort");
  Draw(TimelineMoment::kEnd, "request", Clock::now(), completion_tokens());
}

void Generation::PrepareEcho(Prompt& prompt) {
  const PromptInput& input = request_.prompts[&prompt - prompts_.data()];
  const std::vector<int32_t>& ids = prompt.tokens.ids;
  if (!input.is_ids) {
    prompt.echo = input.text;  // as it was sent, also where the tokenizer normalises or adds
    if (WantsPromptSamples())
      prompt.offsets = EchoOffsets(*context_.text, input.text, ids, request_.add_special_tokens);
    return;
  }
  Detokenizer detokenizer(*context_.text, request_.skip_special_tokens);
  int64_t offset = 0;
  for (const int32_t id : ids) {
    prompt.offsets.push_back(offset);
    const std::string text = detokenizer.Push(id);  // a broken tail is the beginning of the answer's text
    offset += CodePoints(text);
    prompt.echo += text;
  }
}

Generation::Choice Generation::MakeChoice(int prompt, int choice) const {
  Choice made{prompt, choice, Detokenizer(*context_.text, request_.skip_special_tokens), matcher_};
  const auto& ids = prompts_[prompt].tokens.ids;
  // The same ids with and without echo, so that the generated text is the same too.
  const size_t begin = ids.size() > kContextIds ? ids.size() - kContextIds : 0;
  for (size_t i = begin; i < ids.size(); ++i) made.detokenizer.Push(ids[i]);
  made.offset = CodePoints(prompts_[prompt].echo);
  return made;
}

std::vector<SequenceRequest> Generation::Sequences() const {
  std::vector<SequenceRequest> sequences;
  for (int p = 0; p < prompts(); ++p) {
    SequenceRequest& s = sequences.emplace_back();
    s.request = first_id_ + p;
    s.prompt = prompts_[p].tokens.ids;
    s.sampling = request_.sampling;
    s.n = request_.n;
    s.max_tokens = prompts_[p].tokens.max_tokens;
    s.stop_ids = request_.stop_ids;
    s.prompt_logprobs = WantsPromptSamples();
    s.masked = request_.form.has_value();
    s.priority = request_.priority;
    s.account = request_.caller.account;
    s.weight = request_.caller.weight;
    s.deadline = request_.caller.deadline_seconds();
    s.cache_salt = request_.cache_salt;
    s.follows = p > 0;  // one request takes one place in the queue, however many prompts it has
  }
  return sequences;
}

void Generation::OnOutput(Output output, Clock::time_point now) {
  if (!error_.ok()) return;
  if (!output.error.ok()) return Fail(output.error);
  const uint64_t index = (output.request - first_id_) * request_.n + output.choice;
  if (output.request < first_id_ || index >= choices_.size()) return;
  Choice& choice = choices_[index];
  Prompt& prompt = prompts_[choice.prompt];
  prompt.samples.insert(prompt.samples.end(), std::make_move_iterator(output.prompt.begin()),
                        std::make_move_iterator(output.prompt.end()));
  if (output.choice == 0 && output.cached_tokens > 0) {
    prompt.cached = output.cached_tokens;
    context_.metrics.cached_tokens.Add(prompt.cached);
  }
  if (prompt.started == 0) prompt.started = output.started;
  if (!choice.finish.empty()) return;  // its text had ended; these ids were on their way
  const size_t before = choice.tokens_taken();
  Take(choice, std::move(output));
  Count(choice, choice.tokens_taken() - before, now);
}

void Generation::Take(Choice& choice, Output output) {
  choice.waiting.insert(choice.waiting.end(), std::make_move_iterator(output.samples.begin()),
                        std::make_move_iterator(output.samples.end()));
  if (output.finish != FinishReason::kNone) choice.finish = output.finish == FinishReason::kStop ? "stop" : "length";
  if (!request_.stops.empty()) MakeText(choice, choice.waiting.size());
  started_ = started_ || !choice.waiting.empty() || choice.count > 0 || !choice.finish.empty();
}

// Of one output, after it was taken.
void Generation::Count(Choice& choice, size_t tokens, Clock::time_point now) {
  using Seconds = std::chrono::duration<double>;
  ApiMetrics& metrics = context_.metrics;
  Prompt& prompt = prompts_[choice.prompt];
  if (!std::exchange(prompt.counted, true)) {
    metrics.prompt_tokens.Add(prompt.tokens.ids.size());
    metrics.prompt_size.Add(prompt.tokens.ids.size());
  }
  if (tokens > 0) {
    const bool first = choice.last_token == Clock::time_point();
    metrics.generated_tokens.Add(tokens);
    if (first) {
      if (!first_token_) first_token_ = Seconds(now - born_).count();
      choice.first_token = now;
      metrics.first_token.Add(Seconds(now - born_).count());
      Draw(TimelineMoment::kMoment, "first token", now, 1);
    }
    const double each = Seconds(now - choice.last_token).count() / tokens;
    for (size_t i = first ? tokens : 0; i < tokens; ++i) metrics.inter_token.Add(each);
    choice.last_token = now;
  }
  if (!choice.finish.empty()) CountEnd(choice, now);
}

void Generation::CountEnd(const Choice& choice, Clock::time_point now) {
  using Seconds = std::chrono::duration<double>;
  ApiMetrics& metrics = context_.metrics;
  Prompt& prompt = prompts_[choice.prompt];
  const size_t tokens = choice.tokens_taken();
  metrics.finished.Add(choice.finish);
  metrics.request.Add(Seconds(now - born_).count());
  metrics.generated_size.Add(tokens);
  if (prompt.started > 0) {
    const double started = prompt.started, end = Seconds(now.time_since_epoch()).count();
    const double first = tokens > 0 ? Seconds(choice.first_token.time_since_epoch()).count() : end;
    metrics.queue_time.Add(started - Seconds(born_.time_since_epoch()).count());
    metrics.prefill_time.Add(first - started);
    metrics.decode_time.Add(end - first);
    metrics.inference_time.Add(end - started);
    metrics.token_time.Add(tokens > 1 ? (end - first) / (tokens - 1) : 0);
  }
  prompt.longest = std::max(prompt.longest, tokens);
  if (--prompt.open > 0) return;
  metrics.longest_choice.Add(prompt.longest);
  metrics.asked_n.Add(request_.n);
  metrics.asked_max_tokens.Add(prompt.tokens.max_tokens);
}

void Generation::CountUnfinished(const char* reason) {
  if (refused_) return;
  const auto unfinished =
      std::count_if(choices_.begin(), choices_.end(), [](const Choice& c) { return c.finish.empty(); });
  if (unfinished > 0) context_.metrics.finished.Add(reason, unfinished);
}

void Generation::Draw(TimelineMoment::Edge edge, const char* name, Clock::time_point now, int64_t tokens) const {
  if (context_.timeline == nullptr) return;
  context_.timeline->Add(TimelineMoment{.edge = edge,
                                        .id = first_id_,
                                        .name = name,
                                        .seconds = std::chrono::duration<double>(now.time_since_epoch()).count(),
                                        .args = {{"tokens", tokens}}});
}

// The choice's next ids, at most `limit`, -> text. Ends early where a stop string is complete.
void Generation::MakeText(Choice& choice, size_t limit) {
  if (choice.flushed) return;
  const bool ended = !choice.finish.empty();
  for (size_t made = 0; made < limit && !choice.waiting.empty(); ++made) {
    const Sample sample = std::move(choice.waiting.front());
    choice.waiting.pop_front();
    ++choice.count;
    if (KeepsTokens()) choice.tokens.push_back({sample, choice.offset});
    // The end token counts, but is no text.
    if (std::binary_search(request_.stop_ids.begin(), request_.stop_ids.end(), sample.id)) continue;
    // Until min_tokens ids are there, stop strings are not looked for; one that has begun by then may end later.
    AddText(choice, choice.detokenizer.Push(sample.id), choice.count > request_.sampling->min_tokens);
    if (choice.flushed) {
      choice.waiting.clear();
      if (!ended) context_.engine->Finish(first_id_ + choice.prompt, choice.choice);
      return;
    }
  }
  if (!ended || !choice.waiting.empty()) return;
  AddText(choice, choice.detokenizer.Flush(), choice.count > request_.sampling->min_tokens);
  if (!choice.flushed) choice.text += choice.matcher.Flush();
  choice.flushed = true;
}

void Generation::AddText(Choice& choice, const std::string& text, bool may_stop) {
  if (text.empty()) return;
  choice.offset += CodePoints(text);
  StopMatcher::Piece piece = choice.matcher.Push(text, may_stop);
  choice.text += piece.text;
  if (!piece.stopped) return;
  choice.flushed = true;
  choice.finish = "stop";
}

bool Generation::CanOpen(const Choice& choice) const {
  if (choice.waiting.empty() && choice.count == 0 && choice.finish.empty()) return false;
  const Prompt& prompt = prompts_[choice.prompt];
  return !WantsPromptSamples() || prompt.samples.size() + 1 >= prompt.tokens.ids.size();
}

std::optional<AnswerPiece> Generation::Next() {
  if (!error_.ok()) return std::nullopt;
  // Goes on where the last call stopped: with many choices, a call finds the next ready one without looking at all.
  for (size_t looked = 0; looked < choices_.size(); ++looked, cursor_ = (cursor_ + 1) % choices_.size()) {
    Choice& choice = choices_[cursor_];
    if (choice.closed) continue;
    AnswerPiece piece;
    piece.index = static_cast<int>(cursor_);
    piece.prompt = choice.prompt;
    if (!choice.opened) {
      if (!CanOpen(choice)) continue;
      choice.opened = piece.first = true;
      piece.text = prompts_[choice.prompt].echo;
      return piece;
    }
    // Ids that are skipped or held back make no piece; those behind them may.
    do {
      MakeText(choice, kPieceTokens);
    } while (choice.text.empty() && choice.tokens.empty() && !choice.waiting.empty());
    if (!choice.text.empty() || !choice.tokens.empty()) {
      piece.text = std::exchange(choice.text, {});
      const auto end = choice.tokens.begin() + std::min(choice.tokens.size(), kPieceTokens);
      piece.tokens.assign(std::make_move_iterator(choice.tokens.begin()), std::make_move_iterator(end));
      choice.tokens.erase(choice.tokens.begin(), end);
      return piece;
    }
    if (!choice.finish.empty()) {
      choice.closed = true;
      ++closed_;
      piece.finish = choice.finish;
      return piece;
    }
  }
  return std::nullopt;
}

bool Generation::Running(int prompt) const {
  return std::any_of(choices_.begin(), choices_.end(),
                     [&](const Choice& c) { return c.prompt == prompt && c.finish.empty(); });
}

void Generation::CancelRunning() {
  // Also after a failure: a prompt may have been submitted since. The engine ignores what it does not know.
  if (context_.engine == nullptr) return;
  for (int p = 0; p < prompts(); ++p) {
    if (Running(p)) context_.engine->Cancel(first_id_ + p);
  }
}

void Generation::FailChoice(uint64_t request, int choice, const absl::Status& why) {
  if (choices_.at((request - first_id_) * request_.n + choice).finish.empty()) Fail(why);
}

void Generation::Fail(const absl::Status& why) {
  if (!error_.ok() || done()) return;
  CancelRunning();
  CountUnfinished("error");
  context_.metrics.Reject(absl::IsDeadlineExceeded(why) ? OverLimit("request_seconds", why) : why);
  error_ = why;
  started_ = true;
}

void Generation::Expire(Caller::Clock::time_point now) {
  if (now < request_.caller.deadline) return;
  Fail(absl::DeadlineExceededError("the request took longer than it, or this server, allows"));
}

int64_t Generation::prompt_tokens() const {
  int64_t sum = 0;
  for (const Prompt& p : prompts_) sum += p.tokens.ids.size();
  return sum;
}

int64_t Generation::completion_tokens() const {
  int64_t sum = 0;
  for (const Choice& c : choices_) sum += c.count + c.waiting.size();
  return sum;
}

int64_t Generation::told_tokens() const {
  int64_t sum = 0;
  for (const Choice& c : choices_) sum += c.count;
  return sum;
}

int64_t Generation::cached_tokens() const {
  int64_t sum = 0;
  for (const Prompt& p : prompts_) sum += p.cached;
  return sum;
}

GenerationUse Generation::Use() const {
  std::set<std::string> ends;
  for (const Choice& c : choices_) ends.insert(!c.finish.empty() ? c.finish : error_.ok() ? "abort" : "error");
  return {prompt_tokens(), cached_tokens(), completion_tokens(), first_token_, absl::StrJoin(ends, ",")};
}

}  // namespace pangea
