#include "master/schedule/engine.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "master/schedule/check.h"
#include "master/schedule/planted_bug.h"
#include "master/schedule/scheduler.h"
#include "master/schedule/sequence.h"

namespace pangea {
namespace {

// Blocks of the smallest cache group: as many as a sequence can have.
int SmallestGroup(const EngineLayout& options) {
  return std::min_element(options.groups.begin(), options.groups.end(),
                          [](const CacheGroup& a, const CacheGroup& b) { return a.blocks < b.blocks; })
      ->blocks;
}

}  // namespace

struct Engine::State {
  State(const EngineOptions& given, StepPort* to, std::function<void(std::vector<Output>)> out)
      : options(given), port(to), deliver(std::move(out)), scheduler(given) {}

  absl::Status CheckRequest(const SequenceRequest& request) const;
  int64_t MostTokens() const;
  void FailOversized();
  void Pump(double now);
  void Started(double now, Request* request);
  void SetAlarm(Request* request, double when);
  void Flush();
  void CommitRun(const Run& run, SequenceResult* result);
  void TakeSamples(Sequence* sequence, Samples samples);
  Output& NewOutput(const Sequence& sequence);
  void SendMask(Sequence* sequence, const AllowedIds& allowed);
  void End(Sequence* sequence);
  void EndChoice(Sequence* sequence);
  void EndRequest(Request* request);
  void Fail(Request* request, int choice, const absl::Status& why);
  void FailAll(const absl::Status& why);
  void Bury();

  EngineOptions options;
  StepPort* const port;
  const std::function<void(std::vector<Output>)> deliver;
  std::unordered_map<uint64_t, std::unique_ptr<Request>> open;
  std::vector<std::unique_ptr<Request>> closing;   // ended, but named by steps in flight
  Scheduler scheduler;                             // below the requests: it points into them
  std::vector<Output> outputs;                     // of the event being handled
  std::set<std::pair<double, Request*>> alarms;    // of open requests
  std::set<std::pair<uint64_t, Request*>> queued;  // by order: those of which no choice has run yet
  absl::Status failure;                            // of the whole engine
  uint64_t next_order = 1, answered = 0;           // requests; steps that were
  EngineStats counts;
};

// Tokens of a sequence: what its context and the smallest cache group can hold.
int64_t Engine::State::MostTokens() const {
  return std::min<int64_t>(options.context, int64_t{SmallestGroup(options)} * options.block_tokens);
}

// Those that the agents' new layout cannot hold to their ends. A guard: the fleet takes no layout that holds less than
// the context.
void Engine::State::FailOversized() {
  std::vector<Request*> oversized;
  for (const auto& [number, request] : open) {
    if (request->prompt_size() + request->limit > MostTokens()) oversized.push_back(request.get());
  }
  std::sort(oversized.begin(), oversized.end(), [](const Request* a, const Request* b) { return a->order < b->order; });
  for (Request* request : oversized) {
    Fail(request, 0,
         absl::ResourceExhaustedError(absl::StrCat(
             "the agents' layout has changed, and its KV cache holds ", MostTokens(), " tokens of a sequence: not the ",
             request->prompt_size(), " of this prompt and ", request->limit, " more")));
  }
}

absl::Status Engine::State::CheckRequest(const SequenceRequest& request) const {
  if (open.contains(request.request)) return absl::InvalidArgumentError("request: this number is in use");
  if (request.prompt.empty()) return absl::InvalidArgumentError("prompt: at least one id is needed");
  if (request.n < 1) return absl::InvalidArgumentError("n: must be at least 1");
  if (!(request.weight > 0)) return absl::InvalidArgumentError("weight: must be above 0");
  if (request.max_tokens < 0) return absl::InvalidArgumentError("max_tokens: must not be negative");
  const int64_t ids = static_cast<int64_t>(request.prompt.size()) + (request.max_tokens > 0 ? 1 : 0);
  const int blocks = SmallestGroup(options);
  const int64_t cache = int64_t{blocks} * options.block_tokens;
  if (ids > options.context) {
    return absl::InvalidArgumentError(absl::StrCat(
        "prompt: ", request.prompt.size(), " ids leave no room in the context of ", options.context, " tokens"));
  }
  if (ids > cache) {
    return absl::InvalidArgumentError(absl::StrCat("prompt: ", request.prompt.size(),
                                                   " ids leave no room in the KV cache of ", blocks, " blocks of ",
                                                   options.block_tokens, " tokens (cache.memory)"));
  }
  return absl::OkStatus();
}

void Engine::State::SetAlarm(Request* request, double when) {
  alarms.erase({request->alarm, request});
  request->alarm = when;
  if (std::isfinite(when)) alarms.emplace(when, request);
}

// One of its choices runs for the first time.
void Engine::State::Started(double now, Request* request) {
  request->counted = true;
  request->started_at = now;
  counts.prompt += request->prompt_size();
  queued.erase({request->order, request});
  SetAlarm(request, request->body.deadline);
}

void Engine::State::Pump(double now) {
  while (std::optional<Step> step = scheduler.Plan(now)) {
    ++counts.steps;
    counts.largest_batch = std::max<uint64_t>(counts.largest_batch, step->sequences.size());
    for (const Run& run : scheduler.flights().back().runs) {
      counts.rows += run.rows;
      if (!run.sequence->request->counted) Started(now, run.sequence->request);
    }
    port->Send(*step);
    for (const Run& run : scheduler.flights().back().runs) {
      const bool there = run.sequence->mask && planted_bug != PlantedBug::kMaskLost;
      if (run.sequence->mask_due == step->number && there) SendMask(run.sequence, *run.sequence->mask);
    }
  }
  if (open.empty() && scheduler.flights().empty()) {
    SCHEDULE_CHECK(scheduler.cache().free() == scheduler.cache().size() && closing.empty());
  }
}

void Engine::State::Flush() {
  if (outputs.empty()) return;
  std::vector<Output> ready;
  ready.swap(outputs);
  deliver(std::move(ready));
}

Output& Engine::State::NewOutput(const Sequence& sequence) {
  Request& request = *sequence.request;
  Output& output = outputs.emplace_back();
  output.request = request.body.request;
  output.choice = sequence.choice;
  output.started = request.started_at;
  if (sequence.choice == 0 && !request.cached_delivered) {
    output.cached_tokens = request.cached;
    request.cached_delivered = true;
  }
  if (sequence.choice == 0 && request.body.prompt_logprobs && !request.prompt_delivered) {
    output.prompt = std::move(request.prompt);
    request.prompt.assign(request.prompt_size() - 1, Sample());  // keeps the count: a later run does not ask again
    request.prompt_delivered = true;
  }
  return output;
}

void Engine::State::SendMask(Sequence* sequence, const AllowedIds& allowed) {
  port->SendMask(
      {.epoch = scheduler.epoch(), .step = sequence->mask_due, .sequence = sequence->id, .allowed = allowed});
  sequence->mask_due = 0;
}

void Engine::State::End(Sequence* sequence) {
  sequence->ended = true;
  // The agents must not wait for a mask that nobody makes any more: whatever they draw is dropped.
  if (sequence->mask_due != 0 && planted_bug != PlantedBug::kMaskOwed) SendMask(sequence, {.others = true});
  scheduler.Leave(sequence);
}

// The choice has ended and its client knows; the request ends with its last choice.
void Engine::State::EndChoice(Sequence* sequence) {
  Request* request = sequence->request;
  End(sequence);
  if (std::all_of(request->choices.begin(), request->choices.end(), [](const Sequence& s) { return s.ended; }))
    EndRequest(request);
}

void Engine::State::EndRequest(Request* request) {
  for (Sequence& sequence : request->choices) End(&sequence);
  SetAlarm(request, std::numeric_limits<double>::infinity());
  queued.erase({request->order, request});
  const auto found = open.find(request->body.request);
  SCHEDULE_CHECK(found != open.end() && found->second.get() == request);
  closing.push_back(std::move(found->second));
  open.erase(found);
}

void Engine::State::Fail(Request* request, int choice, const absl::Status& why) {
  Output& output = outputs.emplace_back();
  output.request = request->body.request;
  output.choice = choice;
  output.error = why;
  EndRequest(request);
  if (planted_bug == PlantedBug::kFailNeighbour && !open.empty()) {
    outputs.push_back({.request = open.begin()->first, .error = why});
    EndRequest(open.begin()->second.get());
  }
}

void Engine::State::FailAll(const absl::Status& why) {
  failure = why;
  std::vector<Request*> all;
  for (const auto& [number, request] : open) all.push_back(request.get());
  std::sort(all.begin(), all.end(), [](const Request* a, const Request* b) { return a->order < b->order; });
  for (Request* request : all) Fail(request, 0, why);
  scheduler.Void(/*pages=*/false);
  Bury();
  SCHEDULE_CHECK(scheduler.cache().free() == scheduler.cache().size());
}

void Engine::State::Bury() {
  std::erase_if(closing, [this](const std::unique_ptr<Request>& request) {
    const bool done = std::all_of(request->choices.begin(), request->choices.end(),
                                  [](const Sequence& s) { return s.phase == Phase::kDone; });
    if (done && request->cancelled && options.on_freed)
      options.on_freed(*request->cancelled, static_cast<int>(answered - request->cancelled_step));
    return done;
  });
}

// result: null when the agents sent none for this run.
void Engine::State::CommitRun(const Run& run, SequenceResult* result) {
  Sequence* sequence = run.sequence;
  Request* request = sequence->request;
  const bool failed = result && !result->status.ok();
  if (failed) scheduler.Distrust(*sequence);
  if (sequence->ended) return;
  if (failed) return Fail(request, sequence->choice, result->status);
  if (run.logits == LogitRows::kAll) {
    const size_t expected = run.rows - (run.newest ? 1 : 0);
    if (!result || result->prompt.size() != expected) {
      return Fail(request, sequence->choice,
                  absl::InternalError("the agents sent too few or too many log-probabilities of the prompt"));
    }
    // A run after preemption repeats rows.
    for (size_t i = 0; i < expected; ++i) {
      if (run.start + i == request->prompt.size()) request->prompt.push_back(result->prompt[i]);
    }
  }
  if (!run.newest) return;
  if (request->limit == 0) {
    NewOutput(*sequence).finish = FinishReason::kLength;
    return EndChoice(sequence);
  }
  if (sequence->mask_due != 0)
    return Fail(request, sequence->choice, absl::InternalError("the agents have drawn without the mask"));
  if (!result || result->samples.empty())
    return Fail(request, sequence->choice, absl::InternalError("the agents sent no sample"));
  TakeSamples(sequence, std::move(result->samples));
}

void Engine::State::TakeSamples(Sequence* sequence, Samples samples) {
  const Request& request = *sequence->request;
  const std::vector<int32_t>& stops = request.body.stop_ids;
  Output& output = NewOutput(*sequence);
  size_t taken = 0;
  while (taken < samples.size()) {
    const Sample& sample = samples[taken++];
    sequence->generated.push_back(sample.id);
    if (planted_bug != PlantedBug::kOldMask) sequence->mask.reset();
    ++counts.generated;
    if (std::find(stops.begin(), stops.end(), sample.id) != stops.end())
      output.finish = FinishReason::kStop;
    else if (static_cast<int>(sequence->generated.size()) >= request.limit)
      output.finish = FinishReason::kLength;
    if (output.finish != FinishReason::kNone) break;
  }
  samples.resize(taken);
  output.samples = std::move(samples);
  scheduler.Accepted(sequence);
  if (output.finish == FinishReason::kNone) return;
  if (planted_bug == PlantedBug::kFinishTwice) outputs.push_back(Output(output));
  EndChoice(sequence);
}

Engine::Engine(const EngineOptions& options, StepPort* port, std::function<void(std::vector<Output>)> deliver)
    : state_(std::make_unique<State>(options, port, std::move(deliver))) {
  SCHEDULE_CHECK(SmallestGroup(options) > 0 && options.block_tokens > 0 && options.context > 0 && options.stages > 0);
  SCHEDULE_CHECK(options.max_batch_tokens > 0 && options.max_sequences > 0 && options.queue > 0);
}

Engine::~Engine() {
  state_->FailAll(absl::CancelledError("the engine is going away"));  // not delivered
}

void Engine::EpochChanged(double now, uint64_t epoch, const EngineLayout* layout, uint64_t pages_since) {
  State& state = *state_;
  if (!state.failure.ok() || epoch <= state.scheduler.epoch()) return;
  if (layout != nullptr && *layout == state.options) layout = nullptr;
  state.scheduler.BeginEpoch(epoch, layout, pages_since <= state.scheduler.epoch());
  if (layout != nullptr) {
    static_cast<EngineLayout&>(state.options) = *layout;
    if (planted_bug != PlantedBug::kKeepOversized) state.FailOversized();
  }
  state.Bury();
  state.Pump(now);
  state.Flush();
}

absl::Status Engine::Submit(double now, SequenceRequest body) {
  State& state = *state_;
  if (!state.failure.ok()) return state.failure;
  if (body.deadline <= now) return absl::DeadlineExceededError("the request's deadline has passed");
  if (absl::Status valid = state.CheckRequest(body); !valid.ok()) return valid;
  if (!body.follows && static_cast<int>(state.queued.size()) >= state.options.queue) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the queue is full: ", state.options.queue, " requests are waiting (limits.queue)"));
  }
  auto request = std::make_unique<Request>();
  const int64_t room = state.MostTokens() - static_cast<int64_t>(body.prompt.size());
  request->limit = static_cast<int>(std::min<int64_t>(body.max_tokens, room));
  request->arrival = now;
  request->order = state.next_order++;
  request->choices.resize(body.n);
  request->body = std::move(body);
  for (int choice = 0; choice < request->body.n; ++choice) {
    Sequence& sequence = request->choices[choice];
    sequence.request = request.get();
    sequence.choice = choice;
    state.scheduler.Enqueue(&sequence);
  }
  const bool follows = request->body.follows;
  if (!follows) state.queued.emplace(request->order, request.get());
  const double patience = follows ? std::numeric_limits<double>::infinity() : state.options.queue_seconds;
  state.SetAlarm(request.get(), std::min(now + patience, request->body.deadline));
  const uint64_t number = request->body.request;
  state.open.emplace(number, std::move(request));
  state.Pump(now);
  return absl::OkStatus();
}

void Engine::Cancel(double now, uint64_t request) {
  const auto found = state_->open.find(request);
  if (found == state_->open.end()) return;
  found->second->cancelled = now;
  found->second->cancelled_step = state_->answered;
  state_->EndRequest(found->second.get());
  state_->Bury();
  state_->Pump(now);
}

void Engine::Finish(double now, uint64_t request, int choice) {
  const auto found = state_->open.find(request);
  if (found == state_->open.end()) return;
  std::vector<Sequence>& choices = found->second->choices;
  if (choice < 0 || choice >= static_cast<int>(choices.size()) || choices[choice].ended) return;
  state_->EndChoice(&choices[choice]);
  state_->Bury();
  state_->Pump(now);
}

void Engine::SetMask(uint64_t request, int choice, int index, AllowedIds allowed) {
  const auto found = state_->open.find(request);
  if (found == state_->open.end() || !found->second->body.masked) return;
  std::vector<Sequence>& choices = found->second->choices;
  if (choice < 0 || choice >= static_cast<int>(choices.size()) || choices[choice].ended) return;
  Sequence& sequence = choices[choice];
  if (index != static_cast<int>(sequence.generated.size())) return;
  sequence.mask = std::move(allowed);
  if (sequence.mask_due != 0) state_->SendMask(&sequence, *sequence.mask);
}

void Engine::OnResult(double now, StepResult result) {
  State& state = *state_;
  const bool known = result.epoch == state.scheduler.epoch() || planted_bug == PlantedBug::kLateResult;
  if (!state.failure.ok() || !known) return;  // of a step that is void
  if (state.scheduler.flights().empty() || state.scheduler.flights().front().number != result.number) {
    return FailAll(absl::InternalError(absl::StrCat("the agents answered step ", result.number, " out of order")));
  }
  ++state.answered;
  const Flight flight = state.scheduler.Commit();
  state.scheduler.Learn(now, flight, result.copy_seconds);
  state.outputs.reserve(state.outputs.size() + flight.runs.size());
  size_t next = 0;  // results come in the step's order, for those that have one
  for (const Run& run : flight.runs) {
    const bool has = next < result.sequences.size() && result.sequences[next].id == run.id;
    state.CommitRun(run, has ? &result.sequences[next++] : nullptr);
  }
  for (const Run& run : flight.runs) state.scheduler.Settle(run);
  state.Bury();
  state.Pump(now);  // the agents first,
  state.Flush();    // then the clients
}

namespace {
absl::Status WaitedTooLong(double seconds) {
  auto status =
      absl::UnavailableError(absl::StrCat("waited ", seconds, " seconds in the queue (limits.queue_seconds)"));
  status.SetPayload("pangea/limit", absl::Cord("queue_seconds"));  // as OverLimit of the doors does
  return status;
}
}  // namespace

void Engine::Tick(double now) {
  State& state = *state_;
  while (!state.alarms.empty() && state.alarms.begin()->first <= now) {
    Request* request = state.alarms.begin()->second;
    state.Fail(request, 0,
               request->body.deadline <= now ? absl::DeadlineExceededError("the request's deadline has passed")
                                             : WaitedTooLong(state.options.queue_seconds));
  }
  state.Bury();
  state.Pump(now);
  state.Flush();
}

std::optional<double> Engine::NextDeadline() const {
  if (state_->alarms.empty()) return std::nullopt;
  return state_->alarms.begin()->first;
}

void Engine::FailAll(const absl::Status& why) {
  if (!state_->failure.ok()) return;
  state_->FailAll(why.ok() ? absl::InternalError("failed without a reason") : why);
  state_->Flush();
}

const absl::Status& Engine::failure() const { return state_->failure; }

EngineStats Engine::stats() const {
  const Scheduler& scheduler = state_->scheduler;
  EngineStats stats = state_->counts;
  stats.waiting = static_cast<int>(scheduler.waiting().size());
  stats.running = static_cast<int>(scheduler.running().size() + scheduler.leaving().size());
  stats.blocks = scheduler.cache().size();
  stats.blocks_free = scheduler.cache().free();
  stats.steps_in_flight = static_cast<int>(scheduler.flights().size());
  stats.preemptions = scheduler.preemptions();
  stats.swapped = scheduler.swapped();
  stats.rows_lost = scheduler.rows_lost();
  stats.queued = static_cast<int>(state_->queued.size());
  if (!state_->queued.empty()) stats.oldest_arrival = state_->queued.begin()->second->arrival;
  stats.prefix_queries = scheduler.prefix_queries();
  stats.prefix_hits = scheduler.prefix_hits();
  return stats;
}

void Engine::CheckInvariants() const {
  const State& state = *state_;
  state.scheduler.CheckInvariants();
  size_t placed = 0;
  const auto check = [&](const Request& request, bool is_open) {
    bool any_open = false;
    for (const Sequence& sequence : request.choices) {
      any_open |= !sequence.ended;
      placed += sequence.phase != Phase::kDone;
      SCHEDULE_CHECK(sequence.phase != Phase::kDone ||
                     (sequence.ended && sequence.tables.empty() && sequence.outstanding == 0));
    }
    SCHEDULE_CHECK(any_open == is_open);
    SCHEDULE_CHECK(state.queued.contains({request.order, const_cast<Request*>(&request)}) ==
                   (is_open && !request.counted && !request.body.follows));
  };
  for (const auto& [number, request] : state.open) check(*request, true);
  for (const auto& request : state.closing) check(*request, false);
  SCHEDULE_CHECK(placed == state.scheduler.waiting().size() + state.scheduler.running().size() +
                               state.scheduler.leaving().size());
}

}  // namespace pangea
