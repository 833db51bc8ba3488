#include "master/schedule/life_draws_test_util.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "master/schedule/fake_agents.h"

namespace pangea {

EngineOptions DrawOptions(Dice* dice) {
  EngineOptions options;
  options.stages = dice->Uniform(1, 5);
  options.block_tokens = dice->OneIn(4) ? 1 : dice->Uniform(2, 8);
  const bool few = dice->OneIn(2), swaps = dice->OneIn(2);
  options.groups.resize(dice->OneIn(2) ? 1 : dice->Uniform(2, 3));
  for (CacheGroup& group : options.groups) {
    group.blocks = few ? dice->Uniform(2, 12) : dice->Uniform(12, 80);
    group.swap_blocks = swaps ? dice->Uniform(1, 40) : 0;
    if (&group != &options.groups[0] && !dice->OneIn(6))
      group.window = dice->OneIn(2) ? dice->Uniform(1, 8) : dice->Uniform(9, 40);
  }
  options.context = dice->Uniform(8, 96);
  options.max_batch_tokens = dice->OneIn(4) ? dice->Uniform(1, 4) : dice->Uniform(5, 64);
  options.max_sequences = dice->OneIn(4) ? dice->Uniform(1, 2) : dice->Uniform(3, 12);
  options.queue = dice->OneIn(3) ? dice->Uniform(1, 3) : 50;
  options.prefix_cache = !dice->OneIn(4);
  options.prefix_min_tokens = dice->OneIn(4) ? dice->Uniform(1, 20) : 0;
  options.run_ahead = !dice->OneIn(4);
  options.prefill_slowdown = dice->OneIn(2) ? 1.2 : 0;
  options.queue_seconds = dice->OneIn(3) ? dice->Uniform(1, 20) : 1e6;
  if (dice->OneIn(6)) {  // a few sequences too many for a few blocks: somebody is always swapped out or comes back
    options.stages = dice->Uniform(2, 3);
    options.block_tokens = dice->Uniform(1, 3);
    options.max_sequences = dice->Uniform(3, 6);
    for (CacheGroup& group : options.groups) group.blocks = dice->Uniform(4, 10), group.swap_blocks = 40;
    options.run_ahead = true;
  }
  return options;
}

int CapacityOf(const EngineOptions& options) {
  int positions = options.context;
  for (const CacheGroup& group : options.groups) positions = std::min(positions, group.blocks * options.block_tokens);
  return positions;
}

EngineLayout DrawLayout(Dice* dice, const EngineLayout& before) {
  EngineLayout layout = before;
  layout.stages = dice->Uniform(1, 5);
  const bool few = dice->OneIn(3);
  for (CacheGroup& group : layout.groups) {
    group.blocks = few ? dice->Uniform(2, 12) : dice->Uniform(12, 80);
    group.swap_blocks = dice->OneIn(2) ? dice->Uniform(1, 40) : 0;
  }
  return layout;
}

SequenceRequest DrawRequest(Dice* dice, uint64_t next, double now) {
  SequenceRequest request;
  // A number may be used again once its request is closed.
  request.request = dice->OneIn(5) && next > 1 ? next - 1 : next;
  request.prompt.resize(dice->OneIn(3) ? dice->Uniform(1, 3) : dice->Uniform(1, 30));
  // Half of them begin as others do.
  const int alike = dice->OneIn(2) ? dice->Uniform(0, static_cast<int>(request.prompt.size())) : 0;
  const int family = dice->Uniform(1, 3);
  for (size_t i = 0; i < request.prompt.size(); ++i) {
    request.prompt[i] =
        static_cast<int>(i) < alike ? static_cast<int32_t>(family * (i + 1) % 5) : dice->Uniform(0, kFakeVocab - 1);
  }
  if (dice->OneIn(3)) request.cache_salt[dice->Uniform(0, 3)] = dice->Uniform(1, 2);
  request.follows = dice->OneIn(6);
  request.masked = dice->OneIn(4);
  request.n = dice->OneIn(3) ? dice->Uniform(2, 5) : 1;
  request.max_tokens = dice->OneIn(8) ? 0 : dice->OneIn(3) ? dice->Uniform(1, 3) : dice->Uniform(1, 40);
  for (int i = dice->Uniform(0, 2); i > 0; --i) request.stop_ids.push_back(dice->Uniform(0, kFakeVocab - 1));
  request.prompt_logprobs = dice->OneIn(4);
  request.priority = dice->OneIn(4) ? dice->Uniform(-1, 1) : 0;
  request.account = dice->Uniform(0, 3);
  request.weight = 1 + request.account;
  if (dice->OneIn(8)) request.deadline = now + dice->Uniform(0, 500) * 0.01;
  auto sampling = std::make_shared<Sampling>();
  sampling->seed = dice->Uniform(0, 100000);
  if (dice->OneIn(12)) sampling->seed = sampling->seed / 100 * 100 + 13;  // fails
  sampling->top_logprobs = dice->Uniform(-1, 2);
  if (dice->OneIn(4)) sampling->repetition_penalty = 1.5f;
  request.sampling = std::move(sampling);
  return request;
}

// Each stage has a price for a step and one for a row; one stage in some lives is slow, and every now and then any is.
VirtualCosts DrawCosts(std::mt19937_64 random, int stages) {
  const auto uniform = [](std::mt19937_64& from, double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(from);
  };
  std::vector<std::pair<double, double>> prices(stages);
  for (auto& [step, row] : prices) step = uniform(random, 1e-4, 5e-3), row = uniform(random, 1e-5, 1e-3);
  if (random() % 3 == 0) {
    auto& [step, row] = prices[random() % prices.size()];
    step *= 10, row *= 10;
  }
  VirtualCosts costs;
  costs.control_latency = uniform(random, 0, 2e-3);
  costs.stage_latency = uniform(random, 0, 2e-3);
  costs.of_step = [prices, random, uniform](const Step& step) mutable {
    std::vector<StageSeconds> seconds;
    for (const auto& [fixed, row] : prices) {
      const double slow = random() % 64 == 0 ? 20 : 1;
      seconds.push_back({.compute = slow * (fixed + row * step.rows()), .hand_over = uniform(random, 0, 1e-4)});
    }
    return seconds;
  };
  return costs;
}

int64_t PassesOf(const SequenceRequest& request, const EngineOptions& options) {
  const int64_t chunk = std::min(options.max_batch_tokens, 64);
  const int64_t prompt = static_cast<int64_t>(request.prompt.size());
  return request.n * ((prompt + chunk - 1) / chunk + std::min<int64_t>(request.max_tokens, options.context - prompt));
}

}  // namespace pangea
