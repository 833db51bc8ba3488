#include "master/schedule/random_life.h"

#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "master/schedule/engine.h"
#include "master/schedule/fake_agents.h"

namespace pangea {
namespace {

class Life {
 public:
  Life(uint64_t seed, LifeCounts* counts)
      : random_(seed),
        counts_(counts),
        options_(RandomOptions()),
        agents_(options_),
        engine_(options_, &agents_, [this](std::vector<Output> outputs) { Deliver(outputs); }) {}

  std::string Run();

 private:
  struct Choice {
    std::vector<Sample> samples;
    FinishReason finish = FinishReason::kNone;
    bool stopped = false;  // by Finish
  };
  struct Client {
    SequenceRequest request;
    std::vector<Choice> choices;
    std::vector<Sample> prompt;
    bool ended = false, cancelled = false, failed = false, expired = false;
  };

  int Uniform(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }
  bool OneIn(int n) { return Uniform(1, n) == 1; }
  EngineOptions RandomOptions();
  SequenceRequest RandomRequest();
  void Submit();
  void Cancel();
  void StopString();
  void Result();
  void Deliver(const std::vector<Output>& outputs);
  void Take(const Output& output);
  void CloseIfDone(Client* client);
  void Check();
  void CheckClient(const Client& client);
  void Fault(const std::string& what) {
    if (fault_.empty()) fault_ = what;
  }
  Client* RandomOpen();

  std::mt19937_64 random_;
  LifeCounts* counts_;
  const EngineOptions options_;
  FakeAgents agents_;
  std::map<uint64_t, Client> clients_;
  int open_ = 0, delivered_calls_ = 0;
  uint64_t next_request_ = 1;
  double now_ = 1000;
  std::string fault_;
  Engine engine_;  // last: its destructor checks the blocks
};

EngineOptions Life::RandomOptions() {
  EngineOptions options;
  options.epoch = Uniform(1, 3);
  options.stages = Uniform(1, 5);
  options.block_tokens = OneIn(4) ? 1 : Uniform(2, 8);
  options.blocks = OneIn(2) ? Uniform(2, 12) : Uniform(12, 80);
  options.context = Uniform(8, 96);
  options.max_batch_tokens = OneIn(4) ? Uniform(1, 4) : Uniform(5, 64);
  options.max_sequences = OneIn(4) ? Uniform(1, 2) : Uniform(3, 12);
  options.queue = OneIn(3) ? Uniform(1, 3) : 50;
  options.prefix_cache = !OneIn(4);
  options.prefix_min_tokens = OneIn(4) ? Uniform(1, 20) : 0;
  options.swap_blocks = OneIn(2) ? Uniform(1, 40) : 0;
  options.run_ahead = !OneIn(4);
  options.prefill_slowdown = OneIn(2) ? 1.2 : 0;
  options.queue_seconds = OneIn(3) ? Uniform(1, 20) : 1e6;
  return options;
}

SequenceRequest Life::RandomRequest() {
  SequenceRequest request;
  // A number may be used again once its request is closed.
  request.request = OneIn(5) && next_request_ > 1 ? next_request_ - 1 : next_request_;
  request.prompt.resize(OneIn(3) ? Uniform(1, 3) : Uniform(1, 30));
  // Half of them begin as others do.
  const int alike = OneIn(2) ? Uniform(0, static_cast<int>(request.prompt.size())) : 0;
  const int family = Uniform(1, 3);
  for (size_t i = 0; i < request.prompt.size(); ++i) {
    request.prompt[i] =
        static_cast<int>(i) < alike ? static_cast<int32_t>(family * (i + 1) % 5) : Uniform(0, kFakeVocab - 1);
  }
  request.n = OneIn(3) ? Uniform(2, 5) : 1;
  request.max_tokens = OneIn(8) ? 0 : OneIn(3) ? Uniform(1, 3) : Uniform(1, 40);
  for (int i = Uniform(0, 2); i > 0; --i) request.stop_ids.push_back(Uniform(0, kFakeVocab - 1));
  request.prompt_logprobs = OneIn(4);
  request.priority = OneIn(4) ? Uniform(-1, 1) : 0;
  request.account = Uniform(0, 3);
  request.weight = 1 + request.account;
  if (OneIn(8)) request.deadline = now_ + Uniform(0, 500) * 0.01;
  request.sampling.seed = Uniform(0, 100000);
  if (OneIn(12)) request.sampling.seed = request.sampling.seed / 100 * 100 + 13;  // fails
  request.sampling.top_logprobs = Uniform(-1, 2);
  if (OneIn(4)) request.sampling.repetition_penalty = 1.5f;
  return request;
}

void Life::Submit() {
  SequenceRequest request = RandomRequest();
  const auto used = clients_.find(request.request);
  const bool in_use = used != clients_.end() && !used->second.ended;
  const int before = delivered_calls_;
  const absl::Status status = engine_.Submit(now_, request);
  if (delivered_calls_ != before) Fault("Submit delivered something");
  const int capacity = std::min(options_.context, options_.blocks * options_.block_tokens);
  const bool fits = static_cast<int>(request.prompt.size()) + (request.max_tokens > 0) <= capacity;
  const bool late = request.deadline <= now_;
  if (status.ok() != (fits && !in_use && !late && status.code() != absl::StatusCode::kResourceExhausted)) {
    return Fault(absl::StrCat("Submit answered ", status.ToString()));
  }
  if (!status.ok()) {
    if (counts_) ++counts_->refused;
    return;
  }
  if (used != clients_.end()) {
    CheckClient(used->second);
    clients_.erase(used);
  }
  if (counts_) ++counts_->requests;
  Client& client = clients_[request.request];
  client.choices.resize(request.n);
  next_request_ = std::max(next_request_, request.request + 1);
  client.request = std::move(request);
  ++open_;
}

Life::Client* Life::RandomOpen() {
  std::vector<Client*> open;
  for (auto& [number, client] : clients_) {
    if (!client.ended) open.push_back(&client);
  }
  return open.empty() ? nullptr : open[Uniform(0, static_cast<int>(open.size()) - 1)];
}

void Life::Cancel() {
  Client* client = RandomOpen();
  if (!client) return engine_.Cancel(now_, 1u << 30);
  client->cancelled = client->ended = true;
  --open_;
  if (counts_) ++counts_->cancelled;
  engine_.Cancel(now_, client->request.request);
}

void Life::StopString() {
  Client* client = RandomOpen();
  if (!client) return;
  const int index = Uniform(0, static_cast<int>(client->choices.size()) - 1);
  Choice& choice = client->choices[index];
  if (choice.stopped || choice.finish != FinishReason::kNone || choice.samples.empty()) return;
  const int tokens = Uniform(1, static_cast<int>(choice.samples.size()));
  choice.stopped = true;
  if (counts_) ++counts_->stopped;
  CloseIfDone(client);
  engine_.Finish(now_, client->request.request, index, tokens);
}

void Life::CloseIfDone(Client* client) {
  for (const Choice& choice : client->choices) {
    if (!choice.stopped && choice.finish == FinishReason::kNone) return;
  }
  client->ended = true;
  --open_;
  if (counts_) ++counts_->finished;
}

void Life::Result() {
  if (!agents_.HasResult()) return;
  const int before = delivered_calls_;
  StepResult result = agents_.TakeResult();
  result.copy_seconds = OneIn(2) ? 0 : Uniform(1, 50) * 1e-4;  // sometimes dear, sometimes cheap against computing
  if (OneIn(50)) {  // late news of another epoch
    StepResult stale = result;
    stale.epoch = options_.epoch + 7;
    engine_.OnResult(now_, stale);
  }
  engine_.OnResult(now_, result);
  if (delivered_calls_ > before + 1) Fault("several deliveries for one result");
}

void Life::Deliver(const std::vector<Output>& outputs) {
  ++delivered_calls_;
  if (outputs.empty()) Fault("an empty delivery");
  for (const Output& output : outputs) Take(output);
}

void Life::Take(const Output& output) {
  const auto found = clients_.find(output.request);
  if (found == clients_.end()) return Fault("output of an unknown request");
  Client& client = found->second;
  if (client.ended) return Fault(absl::StrCat("request ", output.request, ": output after its end"));
  if (!output.error.ok()) {
    client.ended = true;
    --open_;
    client.expired = absl::IsUnavailable(output.error) || absl::IsDeadlineExceeded(output.error);
    if (absl::IsDeadlineExceeded(output.error) && client.request.deadline > now_) Fault("ended before its deadline");
    client.failed = !client.expired;
    if (counts_) ++(client.expired ? counts_->expired : counts_->failed);
    return;
  }
  if (output.choice < 0 || output.choice >= static_cast<int>(client.choices.size())) return Fault("no such choice");
  Choice& choice = client.choices[output.choice];
  if (choice.stopped || choice.finish != FinishReason::kNone) return Fault("output of a choice that had ended");
  if (output.cached_tokens != 0) {
    const SequenceRequest& request = client.request;
    if (!options_.prefix_cache || request.prompt_logprobs || output.choice != 0 || !choice.samples.empty() ||
        output.cached_tokens < 0 || output.cached_tokens >= static_cast<int>(request.prompt.size()) ||
        output.cached_tokens % options_.block_tokens != 0) {
      return Fault(absl::StrCat("cached_tokens is ", output.cached_tokens));
    }
    if (counts_) ++counts_->hits;
  }
  if (!output.prompt.empty()) {
    if (output.choice != 0 || !client.prompt.empty()) return Fault("prompt log-probabilities twice");
    if (!choice.samples.empty()) return Fault("prompt log-probabilities after the first sample");
    client.prompt = output.prompt;
    if (counts_) ++counts_->echoes;
  }
  choice.samples.insert(choice.samples.end(), output.samples.begin(), output.samples.end());
  if (choice.samples.empty() && output.finish == FinishReason::kNone) Fault("an output that says nothing");
  choice.finish = output.finish;
  if (choice.finish != FinishReason::kNone) CloseIfDone(&client);
}

void Life::CheckClient(const Client& client) {
  const SequenceRequest& request = client.request;
  const int capacity = std::min(options_.context, options_.blocks * options_.block_tokens);
  bool may_fail = false;
  for (size_t i = 0; i < client.choices.size(); ++i) {
    const Choice& choice = client.choices[i];
    const Expected expected = ExpectedOf(request, static_cast<int>(i), capacity);
    may_fail |= expected.fails;
    if (choice.samples.size() > expected.samples.size()) return Fault("more ids than the request gives alone");
    for (size_t k = 0; k < choice.samples.size(); ++k) {
      if (!SameSample(choice.samples[k], expected.samples[k])) {
        return Fault(absl::StrCat("request ", request.request, " choice ", i, " differs at id ", k));
      }
    }
    if (choice.finish == FinishReason::kNone) continue;
    if (choice.finish != expected.finish || choice.samples.size() != expected.samples.size()) {
      return Fault(absl::StrCat("request ", request.request, " choice ", i, " ended differently"));
    }
  }
  if (client.failed && !may_fail) Fault("an error without a cause");
  const bool first_spoke = !client.choices[0].samples.empty() || client.choices[0].finish != FinishReason::kNone;
  const std::vector<Sample> prompt =
      request.prompt_logprobs && first_spoke ? ExpectedPrompt(request) : std::vector<Sample>();
  if (prompt.size() != client.prompt.size()) return Fault("wrong number of prompt log-probabilities");
  for (size_t i = 0; i < prompt.size(); ++i) {
    if (!SameSample(prompt[i], client.prompt[i])) return Fault("prompt log-probabilities differ");
  }
}

void Life::Check() {
  engine_.CheckInvariants();
  if (!agents_.fault().empty()) Fault(agents_.fault());
  const EngineStats stats = engine_.stats();
  if (counts_) counts_->deepest = std::max<uint64_t>(counts_->deepest, stats.steps_in_flight);
  if (stats.waiting + stats.running > 0 && !agents_.HasResult()) Fault("deadlock: work, but no step under way");
  if (open_ == 0 && !agents_.HasResult() && stats.blocks_free != stats.blocks) Fault("blocks are missing when idle");
}

std::string Life::Run() {
  const int events = Uniform(20, 160);
  const int busy = Uniform(1, 6);  // how often results come, against arrivals
  for (int i = 0; i < events && fault_.empty(); ++i) {
    now_ += Uniform(0, 100) * 0.01;
    const int dice = Uniform(0, 5 + 4 * busy);
    if (dice <= 2)
      Submit();
    else if (dice == 3)
      OneIn(2) ? Cancel() : StopString();
    else if (dice == 4)
      StopString();
    else if (dice == 5)
      engine_.Tick(now_);
    else
      Result();
    Check();
  }
  for (int i = 0; fault_.empty() && agents_.HasResult(); ++i) {
    if (i > 200000) Fault("no end");
    Result();
    Check();
  }
  if (fault_.empty() && open_ != 0) Fault("a request that never ended");
  for (const auto& [number, client] : clients_) {
    if (fault_.empty()) CheckClient(client);
  }
  const EngineStats stats = engine_.stats();
  if (counts_) {
    counts_->steps += stats.steps;
    counts_->shared_steps += stats.largest_batch > 1;
    counts_->preemptions += stats.preemptions;
    counts_->copies += agents_.copies;
    counts_->shared_tables += agents_.shared_tables;
    counts_->resumes += agents_.resumes;
    counts_->swap_outs += agents_.swap_outs;
    counts_->swap_ins += agents_.swap_ins;
  }
  return fault_;
}

}  // namespace

std::string RunLife(uint64_t seed, LifeCounts* counts) { return Life(seed, counts).Run(); }

}  // namespace pangea
