#include "master/schedule/random_life_test_util.h"

#include <algorithm>
#include <deque>
#include <limits>
#include <map>
#include <optional>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "master/schedule/engine.h"
#include "master/schedule/fake_agents.h"
#include "master/schedule/life_draws_test_util.h"
#include "master/schedule/virtual_pipeline.h"

namespace pangea {
namespace {

constexpr int kClientEvents = 6;
constexpr double kLongestWait = 1.5;  // see CheckProgress; 20,000 lives came to 0.92

class Life : public StepPort {
 public:
  Life(uint64_t seed, LifeCounts* counts)
      : dice_(seed),
        layout_dice_(seed ^ 0x9e3779b97f4a7c15),
        counts_(counts),
        options_(DrawOptions(&dice_)),
        agents_(options_),
        pipeline_(std::in_place, options_.stages, DrawCosts(dice_.random(), options_.stages)),
        epochs_come_(OneIn(2)),
        layouts_change_(layout_dice_.OneIn(2)),
        engine_(options_, this, [this](std::vector<Output> outputs) { Deliver(outputs); }) {
    if (!OneIn(4)) BeginEpoch();  // otherwise the first clients are there before the agents
  }

  // In no time: events in a random order, results whenever the dice say so.
  std::string Run();
  // In virtual time: results when the stages are done, one of them perhaps slow.
  std::string RunTimed();
  void Send(const Step& step) override;
  void SendMask(const Mask& mask) override { agents_.SendMask(mask); }

 private:
  struct Choice {
    std::vector<Sample> samples;
    FinishReason finish = FinishReason::kNone;
    bool stopped = false;  // by Finish
    int masked = 0;        // ids for which it has given a mask
  };
  struct Client {
    SequenceRequest request;
    std::vector<Choice> choices;
    std::vector<Sample> prompt;
    bool ended = false, cancelled = false, failed = false, expired = false, outgrown = false;
    int capacity = 0;  // as Capacity() was at its arrival
    double arrival = 0;
    int64_t passes = 0;  // through the pipeline that all requests open at its arrival need, one after the other
    int64_t before = 0;  // passes_ as it was then
  };

  int Uniform(int low, int high) { return dice_.Uniform(low, high); }
  bool OneIn(int n) { return dice_.OneIn(n); }
  void Break();
  void BeginEpoch();
  void Submit();
  void Cancel();
  void StopString();
  void Result();
  void LateResult();
  std::vector<std::pair<Client*, int>> WithoutMask();  // choices whose next id needs one that their client owes
  bool GiveMask();                                     // to one of them, if there is any
  void Deliver(const std::vector<Output>& outputs);
  void Take(const Output& output);
  bool MayShare(const SequenceRequest& request, int cached) const;
  void CloseIfDone(Client* client);
  void ClientEvent(int dice);
  int Capacity() const { return CapacityOf(options_); }
  std::optional<EngineLayout> NextLayout();
  void CheckProgress(const Client& client);
  std::string End();
  void Check();
  void CheckClient(const Client& client);
  void Fault(const std::string& what) {
    if (fault_.empty()) fault_ = what;
  }
  Client* RandomOpen();

  Dice dice_, layout_dice_;
  LifeCounts* counts_;
  EngineOptions options_;
  FakeAgents agents_;
  std::optional<VirtualPipeline> pipeline_;
  const bool epochs_come_, layouts_change_;  // after the first
  bool timed_ = false;
  std::deque<double> due_;   // timed: when the results come that agents_ has
  double slowest_pass_ = 0;  // from a step's sending to its result
  int64_t passes_ = 0;       // of all requests so far
  std::map<uint64_t, Client> clients_;
  std::map<CacheSalt, std::vector<std::vector<int32_t>>> prompts_;  // of all requests so far
  int open_ = 0, delivered_calls_ = 0;
  uint64_t next_request_ = 1;
  double now_ = 1000, broken_at_ = 1000;
  uint64_t epoch_ = 0, pages_since_ = 0;
  std::string fault_;
  Engine engine_;  // last: its destructor checks the blocks
};

void Life::Submit() {
  SequenceRequest request = DrawRequest(&dice_, next_request_, now_);
  const auto used = clients_.find(request.request);
  const bool in_use = used != clients_.end() && !used->second.ended;
  const int before = delivered_calls_;
  const absl::Status status = engine_.Submit(now_, request);
  if (delivered_calls_ != before) Fault("Submit delivered something");
  const int capacity = Capacity();
  const bool fits = static_cast<int>(request.prompt.size()) + (request.max_tokens > 0) <= capacity;
  const bool late = request.deadline <= now_;
  if (status.ok() != (fits && !in_use && !late && status.code() != absl::StatusCode::kResourceExhausted)) {
    return Fault(absl::StrCat("Submit answered ", status.ToString()));
  }
  if (absl::IsResourceExhausted(status) && request.follows) Fault("no place for one that needs none");
  if (!status.ok()) {
    if (counts_) ++counts_->refused;
    return;
  }
  prompts_[request.cache_salt].push_back(request.prompt);
  if (used != clients_.end()) {
    CheckClient(used->second);
    clients_.erase(used);
  }
  if (counts_) ++counts_->requests;
  Client& client = clients_[request.request];
  client.choices.resize(request.n);
  client.capacity = Capacity();
  next_request_ = std::max(next_request_, request.request + 1);
  client.request = std::move(request);
  ++open_;
  passes_ += PassesOf(client.request, options_);
  client.arrival = now_;
  client.before = passes_;
  for (const auto& [number, other] : clients_) client.passes += other.ended ? 0 : PassesOf(other.request, options_);
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
  choice.stopped = true;
  if (counts_) ++counts_->stopped;
  CloseIfDone(client);
  engine_.Finish(now_, client->request.request, index);
}

// Whether a request of the same salt, other than this one, began as it does: for all of the cached tokens, or with its
// whole prompt (an answer followed).
bool Life::MayShare(const SequenceRequest& request, int cached) const {
  int alike = 0;
  for (const std::vector<int32_t>& prompt : prompts_.at(request.cache_salt)) {
    const size_t wanted = std::min(static_cast<size_t>(cached), prompt.size());
    alike += std::equal(prompt.begin(), prompt.begin() + wanted, request.prompt.begin());
  }
  return alike > 1;
}

void Life::CloseIfDone(Client* client) {
  for (const Choice& choice : client->choices) {
    if (!choice.stopped && choice.finish == FinishReason::kNone) return;
  }
  client->ended = true;
  --open_;
  CheckProgress(*client);
  if (counts_) ++counts_->finished;
}

void Life::Result() {
  if (!agents_.HasResult()) return;
  const int before = delivered_calls_;
  StepResult result = agents_.TakeResult();
  result.copy_seconds = OneIn(2) ? 0 : Uniform(1, 50) * 1e-4;  // sometimes dear, sometimes cheap against computing
  if (!agents_.late.empty() && OneIn(4)) LateResult();
  engine_.OnResult(now_, result);
  if (delivered_calls_ > before + 1) Fault("several deliveries for one result");
}

void Life::Break() {
  if (agents_.broken()) return;
  agents_.Break();
  due_.clear();
  broken_at_ = now_;
}

void Life::BeginEpoch() {
  Break();
  epoch_ += Uniform(1, 3);
  const std::optional<EngineLayout> next = NextLayout();
  const EngineLayout* layout = next ? &*next : nullptr;
  const bool pages = layout == nullptr && layout_dice_.OneIn(2);
  if (!pages) pages_since_ = epoch_;
  agents_.BeginEpoch(epoch_, layout, pages);
  pipeline_->Reset(now_);
  // Whoever is open is computed again at most, and has waited for nothing meanwhile.
  for (auto& [number, client] : clients_) {
    if (client.ended) continue;
    // Beside streams, what it had computed may be read a row a step.
    const int64_t rows = static_cast<int64_t>(client.request.prompt.size()) + client.request.max_tokens;
    passes_ += PassesOf(client.request, options_) + client.request.n * std::min<int64_t>(rows, options_.context);
    client.arrival += now_ - std::max(broken_at_, client.arrival);
  }
  const bool any_ran = engine_.stats().running > 0;
  const int delivered = delivered_calls_;
  bool outgrown = false;
  for (const auto& [number, client] : clients_) outgrown |= client.outgrown && !client.ended;
  engine_.EpochChanged(now_, epoch_, layout, pages_since_);
  if (delivered_calls_ != delivered + (outgrown ? 1 : 0)) Fault("a new epoch delivered something");
  for (const auto& [number, client] : clients_) {
    if (client.outgrown && !client.ended) Fault("a request goes on that the layout cannot hold");
  }
  if (counts_) counts_->epochs += any_ran, counts_->kept += any_ran && pages;
  if (OneIn(4)) engine_.EpochChanged(now_, Uniform(0, static_cast<int>(epoch_)));  // old news
}

// Also tells the requests that it cannot hold to their ends.
std::optional<EngineLayout> Life::NextLayout() {
  if (!layouts_change_ || epoch_ <= 3 || !layout_dice_.OneIn(2)) return std::nullopt;  // not in the first epoch
  EngineLayout layout = DrawLayout(&layout_dice_, options_);
  static_cast<EngineLayout&>(options_) = layout;
  pipeline_.emplace(layout.stages, DrawCosts(layout_dice_.random(), layout.stages));
  for (auto& [number, client] : clients_) {
    const int tokens = static_cast<int>(client.request.prompt.size()) + client.request.max_tokens;
    client.outgrown |= !client.ended && std::min(tokens, client.capacity) > Capacity();
  }
  if (counts_) ++counts_->layouts;
  return layout;
}

// The result of a step of an older epoch, as it stands or altered, so that it would be seen.
void Life::LateResult() {
  StepResult result = std::move(agents_.late.front());
  agents_.late.pop_front();
  if (OneIn(2)) result.number = 1;
  const int before = delivered_calls_;
  engine_.OnResult(now_, std::move(result));
  if (delivered_calls_ != before) Fault("a result of an older epoch was delivered");
  if (counts_) ++counts_->late;
}

std::vector<std::pair<Life::Client*, int>> Life::WithoutMask() {
  std::vector<std::pair<Client*, int>> owed;
  for (auto& [number, client] : clients_) {
    for (size_t i = 0; i < client.choices.size() && client.request.masked && !client.ended; ++i) {
      const Choice& choice = client.choices[i];
      const bool goes_on = choice.finish == FinishReason::kNone && !choice.stopped;
      if (goes_on && choice.masked == static_cast<int>(choice.samples.size())) owed.emplace_back(&client, i);
    }
  }
  return owed;
}

bool Life::GiveMask() {
  const std::vector<std::pair<Client*, int>> owed = WithoutMask();
  if (owed.empty()) return false;
  const auto [client, index] = owed[Uniform(0, static_cast<int>(owed.size()) - 1)];
  const SequenceRequest& request = client->request;
  const int next = client->choices[index].masked++;
  const auto give = [&](int id) {
    engine_.SetMask(request.request, index, id, FakeMask(request.sampling->seed, index, id));
  };
  if (OneIn(8))
    give(next - 1);  // for an id that has been drawn, and for one that cannot be known yet: both are dropped
  if (OneIn(8)) give(next + 1);
  give(next);
  return true;
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
    if (absl::IsResourceExhausted(output.error) != client.outgrown) Fault("ended for its size");
    client.failed = !client.expired && !client.outgrown;
    if (counts_) ++(client.expired ? counts_->expired : client.outgrown ? counts_->outgrown : counts_->failed);
    return;
  }
  if (output.choice < 0 || output.choice >= static_cast<int>(client.choices.size())) return Fault("no such choice");
  Choice& choice = client.choices[output.choice];
  if (choice.stopped || choice.finish != FinishReason::kNone) return Fault("output of a choice that had ended");
  if (output.cached_tokens != 0) {
    const SequenceRequest& request = client.request;
    if (!options_.prefix_cache || request.prompt_logprobs || output.choice != 0 || !choice.samples.empty() ||
        output.cached_tokens < 0 || output.cached_tokens >= static_cast<int>(request.prompt.size()) ||
        output.cached_tokens < options_.prefix_min_tokens) {
      return Fault(absl::StrCat("cached_tokens is ", output.cached_tokens));
    }
    if (!MayShare(request, output.cached_tokens)) return Fault("cached tokens of another salt");
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
  bool may_fail = false;
  for (size_t i = 0; i < client.choices.size(); ++i) {
    const Choice& choice = client.choices[i];
    const Expected expected = ExpectedOf(request, static_cast<int>(i), client.capacity);
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
  if (agents_.broken()) return;
  if (stats.waiting + stats.running > 0 && !agents_.HasResult() && WithoutMask().empty())
    Fault("deadlock: work, but no step under way");
  if (open_ == 0 && !agents_.HasResult() && stats.blocks_free != stats.blocks) Fault("blocks are missing when idle");
}

std::string Life::Run() {
  const int events = Uniform(20, 160);
  const int busy = Uniform(1, 6);  // how often results come, against arrivals
  for (int i = 0; i < events && fault_.empty(); ++i) {
    now_ += Uniform(0, 100) * 0.01;
    const int dice = Uniform(0, 5 + 4 * busy);
    dice < kClientEvents ? ClientEvent(dice) : Result();
    Check();
    if (epochs_come_ && OneIn(30)) Break();
    if (agents_.broken() && OneIn(4)) BeginEpoch();
    if (OneIn(2)) GiveMask();
    Check();
  }
  if (agents_.broken()) BeginEpoch();
  for (int i = 0; fault_.empty() && (agents_.HasResult() || GiveMask()); ++i) {
    if (i > 200000) Fault("no end");
    Result();
    Check();
  }
  return End();
}

std::string Life::RunTimed() {
  constexpr double kNever = std::numeric_limits<double>::infinity();
  timed_ = true;
  const double pause = 1.0 / Uniform(1, 200);  // between two events of clients, on average
  double event = now_, epoch = now_;
  for (int left = Uniform(10, 60); fault_.empty();) {
    while (GiveMask()) {
    }
    const double result = due_.empty() ? kNever : due_.front();
    const double alarm = engine_.NextDeadline().value_or(kNever);
    const double client = left > 0 ? event : kNever;
    const double agents = agents_.broken() || (epochs_come_ && left > 0) ? epoch : kNever;
    const double first = std::min({result, alarm, client, agents});
    if (first == kNever) break;
    if (first < now_) Fault("time goes back");
    now_ = first;
    if (first == result) {
      due_.pop_front();
      Result();
    } else if (first == client) {
      --left;
      event += std::exponential_distribution<double>(1 / pause)(dice_.random());
      ClientEvent(Uniform(0, kClientEvents - 1));
    } else if (first == agents) {
      epoch += std::exponential_distribution<double>(1 / (10 * pause))(dice_.random());
      agents_.broken() ? BeginEpoch() : Break();
    } else {
      engine_.Tick(now_);
    }
    Check();
  }
  return End();
}

void Life::ClientEvent(int dice) {
  if (dice <= 2)
    Submit();
  else if (dice == 3)
    OneIn(2) ? Cancel() : StopString();
  else if (dice == 4)
    StopString();
  else
    engine_.Tick(now_);
}

void Life::Send(const Step& step) {
  agents_.Send(step);
  if (!timed_ || agents_.broken() || !agents_.fault().empty()) return;
  const double answered = pipeline_->Send(now_, step).answered;
  slowest_pass_ = std::max(slowest_pass_, answered - now_);
  due_.push_back(answered);
}

// Nobody waits longer than it would take to serve all requests that were open meanwhile one after the other, with some
// room for rows that were computed again.
void Life::CheckProgress(const Client& client) {
  if (!timed_ || agents_.broken()) return;  // it has ended while nobody could serve it
  const int64_t passes = client.passes + passes_ - client.before;
  const double share = (now_ - client.arrival) / (slowest_pass_ * static_cast<double>(passes + 1));
  if (counts_) counts_->longest_wait = std::max(counts_->longest_wait, share);
  if (share > kLongestWait) Fault(absl::StrCat("request ", client.request.request, " took ", share, " of its bound"));
}

std::string Life::End() {
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
    counts_->void_steps += agents_.void_steps;
    counts_->given_back += agents_.given_back;
    counts_->masks += agents_.masks;
    counts_->rewound += agents_.rewound;
    counts_->grouped += options_.groups.size() > 1 && agents_.swap_ins + agents_.copies > 0;
  }
  return fault_;
}

}  // namespace

std::string RunLife(uint64_t seed, LifeCounts* counts) { return Life(seed, counts).Run(); }
std::string RunTimedLife(uint64_t seed, LifeCounts* counts) { return Life(seed, counts).RunTimed(); }

}  // namespace pangea
