#include "master/schedule/fair_life_test_util.h"

#include <algorithm>
#include <deque>
#include <random>
#include <unordered_map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "master/schedule/engine.h"
#include "master/schedule/fake_agents.h"
#include "master/schedule/virtual_pipeline.h"

namespace pangea {
namespace {

class FairLife : public StepPort {
 public:
  explicit FairLife(uint64_t seed)
      : random_(seed),
        options_(RandomOptions()),
        agents_(options_),
        pipeline_(options_.stages, RandomCosts()),
        accounts_(RandomAccounts()),
        engine_(options_, this, [this](std::vector<Output> outputs) { Deliver(outputs); }) {
    agents_.BeginEpoch(1);
    engine_.EpochChanged(now_, 1);
  }

  void Send(const Step& step) override {
    agents_.Send(step);
    if (!agents_.fault().empty()) return;
    due_.push_back(pipeline_.Send(now_, step).answered);
    for (const StepSequence& part : step.sequences) {
      if (part.sampling) request_of_[part.id] = part.sampling->params->seed / 100;
      Client& client = clients_[request_of_.at(part.id)];
      const int end = part.start + part.rows();
      Account& account = accounts_[client.account];
      account.waiting -= !client.started;
      client.started = true;
      // A row that is computed again after preemption is nobody's gain.
      if (end <= client.served) continue;
      account.served += (end - std::max(client.served, static_cast<int>(part.start))) / account.weight;
      client.served = end;
    }
  }

  void SendMask(const Mask& mask) override { agents_.SendMask(mask); }

  std::string Run(FairCounts* counts) {
    const int results = Uniform(200, 500);
    const int late = results / 2;  // when the last account comes
    for (int i = 0; i < results && fault_.empty(); ++i) {
      for (size_t a = 0; a < accounts_.size(); ++a) {
        if (i >= late || a + 1 < accounts_.size()) TopUp(static_cast<uint32_t>(a));
      }
      Check(i >= late);
      Result();
    }
    while (fault_.empty() && !due_.empty()) Result();
    const EngineStats stats = engine_.stats();
    if (fault_.empty() && open_ != 0) Fault("a request that never ended");
    if (counts) {
      counts->requests += clients_.size();
      counts->steps += stats.steps;
      counts->preemptions += stats.preemptions;
      counts->late += accounts_.back().served > 0;
      counts->widest = std::max(counts->widest, widest_);
    }
    return fault_;
  }

 private:
  struct Account {
    double weight = 1;
    int keeps_waiting = 1, longest = 1;  // requests; rows of one
    int waiting = 0;
    double served = 0;  // rows / weight
  };
  struct Client {
    uint32_t account = 0;
    bool started = false;
    int served = 0;  // leading rows that have been counted
  };
  struct Span {
    double low = 0, high = 0;
    bool set = false;
  };

  int Uniform(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }
  void Fault(const std::string& what) {
    if (fault_.empty()) fault_ = what;
  }

  EngineOptions RandomOptions() {
    EngineOptions options;
    options.stages = Uniform(1, 4);
    options.block_tokens = Uniform(1, 8);
    options.context = 40;
    options.groups[0].blocks = Uniform(1, 3) * 40 / options.block_tokens + 5;
    options.max_batch_tokens = Uniform(4, 40);
    options.max_sequences = Uniform(1, 4);
    options.queue = 1000;
    options.prefix_cache = false;  // a request that waits for the blocks of another is overtaken
    options.run_ahead = Uniform(0, 3) > 0;
    options.prefill_slowdown = Uniform(0, 1) * 1.5;
    options.queue_seconds = 1e6;
    return options;
  }
  VirtualCosts RandomCosts() {
    VirtualCosts costs;
    std::vector<double> speed(options_.stages);
    for (double& s : speed) s = Uniform(1, 10) * 1e-3;
    costs.of_step = [speed](const Step& step) {
      std::vector<StageSeconds> seconds;
      for (const double s : speed) seconds.push_back({.compute = s * (1 + 0.1 * step.rows())});
      return seconds;
    };
    costs.control_latency = costs.stage_latency = 1e-4;
    return costs;
  }
  std::vector<Account> RandomAccounts() {
    std::vector<Account> accounts(Uniform(2, 4));
    for (Account& account : accounts) {
      account.weight = Uniform(1, 4);
      // More than one step can admit: an account that has nothing waiting even for a moment counts as idle.
      account.keeps_waiting = options_.max_sequences + Uniform(1, 6);
      account.longest = Uniform(2, 40);
    }
    return accounts;
  }

  // The account has as many requests waiting as it wants.
  void TopUp(uint32_t number) {
    Account& account = accounts_[number];
    while (account.waiting < account.keeps_waiting && fault_.empty()) {
      SequenceRequest request;
      request.request = ++last_request_;
      request.account = number;
      request.weight = account.weight;
      const int rows = Uniform(2, account.longest);
      request.prompt.resize(Uniform(1, rows - 1));
      for (int32_t& id : request.prompt) id = Uniform(0, kFakeVocab - 1);
      request.max_tokens = rows - static_cast<int>(request.prompt.size());
      request.sampling = std::make_shared<Sampling>(Sampling{.seed = last_request_ * 100});
      clients_[last_request_].account = number;
      ++account.waiting;
      ++open_;
      if (const absl::Status status = engine_.Submit(now_, std::move(request)); !status.ok()) Fault(status.ToString());
    }
  }

  void Result() {
    if (!agents_.fault().empty()) return Fault(agents_.fault());
    if (due_.empty()) return Fault("work, but no step under way");
    now_ = due_.front();
    due_.pop_front();
    engine_.OnResult(now_, agents_.TakeResult());
  }

  void Deliver(const std::vector<Output>& outputs) {
    for (const Output& output : outputs) {
      if (!output.error.ok()) Fault(output.error.ToString());
      open_ -= output.finish != FinishReason::kNone;
    }
  }

  // An account is given a turn when it has been served least. From then on it may gain all that its sequences have
  // left, of which max_sequences run at once, while the other gains nothing; and so may the other.
  void Check(bool all) {
    const size_t present = accounts_.size() - (all ? 0 : 1);
    spans_.resize(accounts_.size() * accounts_.size());
    for (size_t a = 0; a < present; ++a) {
      for (size_t b = a + 1; b < present; ++b) {
        const double difference = accounts_[a].served - accounts_[b].served;
        Span& span = spans_[a * accounts_.size() + b];
        if (!span.set) span = {difference, difference, true};
        span.low = std::min(span.low, difference);
        span.high = std::max(span.high, difference);
        const double bound = options_.max_sequences *
                             (accounts_[a].longest / accounts_[a].weight + accounts_[b].longest / accounts_[b].weight);
        widest_ = std::max(widest_, (span.high - span.low) / bound);
        if (span.high - span.low > bound) {
          Fault(absl::StrCat("accounts ", a, " and ", b, " both waited, and one was served ", span.high - span.low,
                             " rows per weight more than the other; at most ", bound));
        }
      }
    }
  }

  std::mt19937_64 random_;
  const EngineOptions options_;
  FakeAgents agents_;
  VirtualPipeline pipeline_;
  std::vector<Account> accounts_;
  std::unordered_map<uint64_t, Client> clients_;       // by request
  std::unordered_map<uint64_t, uint64_t> request_of_;  // by sequence at the agents
  std::deque<double> due_;
  std::vector<Span> spans_;
  uint64_t last_request_ = 0;
  int open_ = 0;
  double now_ = 0, widest_ = 0;
  std::string fault_;
  Engine engine_;  // last: its destructor checks the blocks
};

}  // namespace

std::string RunFairLife(uint64_t seed, FairCounts* counts) { return FairLife(seed).Run(counts); }

}  // namespace pangea
