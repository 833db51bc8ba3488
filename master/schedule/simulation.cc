#include "master/schedule/simulation.h"

#include <algorithm>
#include <deque>
#include <limits>
#include <numeric>
#include <set>
#include <unordered_map>
#include <utility>

#include "master/schedule/check.h"

namespace pangea {
namespace {

constexpr int32_t kEndId = 0, kOtherId = 1;
constexpr double kNever = std::numeric_limits<double>::infinity();

// Sorts the values.
Distribution Describe(std::vector<double>* values) {
  Distribution d;
  if (values->empty()) return d;
  std::sort(values->begin(), values->end());
  const auto at = [&](double share) { return (*values)[static_cast<size_t>(share * (values->size() - 1) + 0.5)]; };
  d.mean = std::accumulate(values->begin(), values->end(), 0.0) / values->size();
  d.p50 = at(0.5), d.p90 = at(0.9), d.p99 = at(0.99), d.max = values->back();
  return d;
}

class Simulation : public StepPort {
 public:
  Simulation(const SimulationOptions& options, const std::vector<SimulatedRequest>& requests)
      : options_(options),
        requests_(requests),
        pipeline_(options.engine.stages, options.costs, options.timeline),
        clients_(requests.size()),
        engine_(options.engine, this, [this](std::vector<Output> outputs) { Deliver(outputs); }) {}

  void Send(const Step& step) override {
    if (broken_) return;
    const VirtualPipeline::Sent sent = pipeline_.Send(now_, step);
    due_.push_back({sent.answered, ResultOf(step)});
    due_.back().second.copy_seconds = sent.copy_seconds;
  }

  // It is there before the draw, as it is sent at the time of its step or before that.
  void SendMask(const Mask& mask) override {
    if (broken_) return;
    SCHEDULE_CHECK(mask.epoch == epoch_ && unmasked_.erase({mask.step, mask.sequence}) == 1);
  }

  SimulationReport Run() {
    std::vector<size_t> order(requests_.size());
    std::iota(order.begin(), order.end(), 0);
    if (options_.streams == 0) {
      std::stable_sort(order.begin(), order.end(),
                       [&](size_t a, size_t b) { return requests_[a].arrival < requests_[b].arrival; });
    }
    if (!order.empty() && options_.streams == 0) now_ = requests_[order[0]].arrival;
    const double begin = last_end_ = now_;
    engine_.EpochChanged(now_, ++epoch_);
    size_t next = 0, outage = 0;
    for (;;) {
      while (options_.streams > 0 && next < order.size() && open_ < options_.streams) Submit(order[next++]);
      const double arrival = options_.streams == 0 && next < order.size() ? requests_[order[next]].arrival : kNever;
      const double result = due_.empty() ? kNever : due_.front().first;
      const double tick = engine_.NextDeadline().value_or(kNever);
      const bool more = outage < options_.outages.size() && (open_ > 0 || arrival < kNever);
      const double agents = more ? std::max(now_, NextOutage(outage)) : kNever;
      const double first = std::min({arrival, result, tick, agents});
      if (first == kNever) break;
      PassTo(first);
      if (arrival == first) {
        Submit(order[next++]);
      } else if (result == first) {
        const StepResult committed = std::move(due_.front().second);
        due_.pop_front();
        SCHEDULE_CHECK(unmasked_.lower_bound({committed.number + 1, 0}) ==
                       unmasked_.begin());  // all drawn under theirs
        engine_.OnResult(now_, committed);
        GiveMasks();
      } else if (agents == first) {
        outage += broken_;
        broken_ ? BeginEpoch() : Break();
      } else {
        engine_.Tick(now_);
      }
      report_.kv_peak = std::max(report_.kv_peak, Used());
    }
    SCHEDULE_CHECK(open_ == 0);
    report_.seconds = last_end_ - begin;
    return Report();
  }

 private:
  struct Client {
    double arrival = 0, first = 0, last = 0;
    int tokens = 0;
  };
  struct Drawn {
    int ids = 0, end_after = std::numeric_limits<int>::max();  // end_after: the end id comes as this one
  };

  double Used() const {
    const EngineStats stats = engine_.stats();
    return static_cast<double>(stats.blocks - stats.blocks_free) / stats.blocks;
  }
  // When the agents are lost, or are there again.
  double NextOutage(size_t outage) const {
    return options_.outages[outage].at + (broken_ ? options_.outages[outage].seconds : 0);
  }
  void Break() {
    broken_ = true;
    due_.clear();
    drawn_.clear();
    unmasked_.clear();
  }
  void BeginEpoch() {
    broken_ = false;
    pipeline_.Reset(now_);
    engine_.EpochChanged(now_, ++epoch_);
  }
  void PassTo(double time) {
    if (open_ > 0 || !due_.empty()) {
      report_.loaded_seconds += time - now_;
      report_.kv_mean += (time - now_) * Used();
    }
    now_ = time;
  }

  void Submit(size_t index) {
    const SimulatedRequest& asked = requests_[index];
    SequenceRequest request;
    request.request = index + 1;
    request.prompt.resize(asked.prompt);
    for (int i = 0; i < asked.prompt; ++i) {
      // Ids of a prefix depend on it alone; all others are the request's own.
      const uint64_t owner = i < asked.prefix_tokens ? asked.prefix * 2 : index * 2 + 1;
      request.prompt[i] = static_cast<int32_t>((owner * 0x9E3779B97F4A7C15u + i * 0xBF58476D1CE4E5B9u) >> 33);
    }
    request.priority = asked.priority;
    request.masked = asked.masked;
    request.max_tokens = asked.output;
    if (!options_.ends_known) {
      request.max_tokens = options_.engine.context;
      request.stop_ids = {kEndId};
      request.sampling = std::make_shared<Sampling>(
          Sampling{.min_tokens = asked.output - 1, .end_ids = {kEndId}});  // and then at once
    }
    ++report_.requests;
    clients_[index].arrival = now_;
    if (engine_.Submit(now_, std::move(request)).ok()) {
      ++open_;
      if (asked.masked) masks_owed_.emplace_back(index + 1, 0);
    } else {
      ++report_.refused;
    }
    GiveMasks();
  }

  // For every id that is the next one since the last call.
  void GiveMasks() {
    for (const auto& [request, index] : masks_owed_) engine_.SetMask(request, 0, index, {.others = true});
    masks_owed_.clear();
  }

  StepResult ResultOf(const Step& step) {
    StepResult result{.epoch = step.epoch, .number = step.number, .sequences = {}};
    for (const uint64_t id : step.ended) drawn_.erase(id);
    for (const StepSequence& part : step.sequences) {
      Drawn& drawn = drawn_[part.id];
      if (part.sampling) {
        drawn.ids = static_cast<int>(part.sampling->generated_ids.size());
        if (!part.sampling->params->end_ids.empty()) drawn.end_after = part.sampling->params->min_tokens + 1;
      }
      if (part.masked) unmasked_.insert({step.number, part.id});
      if (part.logits == LogitRows::kNone) continue;
      SequenceResult& answer = result.sequences.emplace_back();
      answer.id = part.id;
      answer.samples.push_back({.id = ++drawn.ids >= drawn.end_after ? kEndId : kOtherId, .logprob = 0, .top = {}});
    }
    return result;
  }

  void Deliver(const std::vector<Output>& outputs) {
    for (const Output& output : outputs) {
      Client& client = clients_[output.request - 1];
      for (size_t i = 0; i < output.samples.size(); ++i) {
        if (client.tokens++ == 0)
          client.first = now_;
        else
          gaps_.push_back(now_ - client.last);
        client.last = now_;
      }
      if (output.error.ok() && output.finish == FinishReason::kNone) {
        if (requests_[output.request - 1].masked) masks_owed_.emplace_back(output.request, client.tokens);
        continue;
      }
      --open_;
      last_end_ = now_;
      if (!output.error.ok()) {
        ++report_.expired;
        continue;
      }
      ++report_.finished;
      report_.prompt_tokens += requests_[output.request - 1].prompt;
      report_.generated_tokens += client.tokens;
      waits_.push_back(client.first - client.arrival);
      totals_.push_back(client.last - client.arrival);
    }
  }

  SimulationReport Report() {
    report_.first_token = Describe(&waits_);
    report_.inter_token = Describe(&gaps_);
    report_.end_to_end = Describe(&totals_);
    report_.stages = pipeline_.use();
    for (StageUse& use : report_.stages)
      use.bubble = std::max(0.0, report_.loaded_seconds - use.compute - use.communication);
    if (report_.loaded_seconds > 0) report_.kv_mean /= report_.loaded_seconds;
    report_.engine = engine_.stats();
    return report_;
  }

  const SimulationOptions& options_;
  const std::vector<SimulatedRequest>& requests_;
  VirtualPipeline pipeline_;
  std::vector<Client> clients_;
  std::deque<std::pair<double, StepResult>> due_;     // in order of time, which is the steps' order
  std::unordered_map<uint64_t, Drawn> drawn_;         // by sequence at the agents
  std::set<std::pair<uint64_t, uint64_t>> unmasked_;  // step and sequence: it draws, and its mask is not there yet
  std::vector<std::pair<uint64_t, int>> masks_owed_;  // request, id
  std::vector<double> waits_, gaps_, totals_;
  double now_ = 0, last_end_ = 0;
  int open_ = 0;
  bool broken_ = false;
  uint64_t epoch_ = 0;
  SimulationReport report_;
  Engine engine_;  // last: it sends steps while it is being made, and its destructor checks the blocks
};

}  // namespace

SimulationReport Simulate(const SimulationOptions& options, const std::vector<SimulatedRequest>& requests) {
  return Simulation(options, requests).Run();
}

}  // namespace pangea
