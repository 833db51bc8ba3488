// Test only. What is drawn for a random life: the engine's options, requests, and what its stages cost.
#pragma once
#include <random>

#include "master/schedule/engine.h"
#include "master/schedule/virtual_pipeline.h"

namespace pangea {

class Dice {
 public:
  explicit Dice(uint64_t seed) : random_(seed) {}
  int Uniform(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }
  bool OneIn(int n) { return Uniform(1, n) == 1; }
  std::mt19937_64& random() { return random_; }

 private:
  std::mt19937_64 random_;
};

EngineOptions DrawOptions(Dice* dice);
int CapacityOf(const EngineOptions& options);  // positions that one sequence can have
// Another layout of agents with the same cache groups.
EngineLayout DrawLayout(Dice* dice, const EngineLayout& before);
// next: the lowest number that no request had. now: on the clock of the events.
SequenceRequest DrawRequest(Dice* dice, uint64_t next, double now);
VirtualCosts DrawCosts(std::mt19937_64 random, int stages);

// Steps that the request needs when it has the agents for itself.
int64_t PassesOf(const SequenceRequest& request, const EngineOptions& options);

}  // namespace pangea
