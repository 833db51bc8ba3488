// Layouts of one deployment: which stages and ranks its model is split over, and who takes which place. Pure functions.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "configs/deployment.h"
#include "pipeline/checkpoint/header.h"
#include "pipeline/parallel_plan.h"

namespace pangea {

std::string LayoutName(int stages, int ranks);  // "2 stages x 1 rank"

struct Layout {
  Deployment deployment;
  ParallelPlan plan;
  std::string Name() const { return LayoutName(plan.stages, plan.ranks); }
};

// The layout of so many stages and ranks. context: tokens that a sequence may have, as in the layout before: requests
// rely on it. InvalidArgument: it cannot be, with every fault of deployment and plan; or `agents` is a list that is too
// short.
absl::StatusOr<Layout> MakeLayout(const CheckpointHeader& header, Deployment deployment, int pipeline, int tensor,
                                  int context);

// What is left of a layout when only these of its agents are: of all that the plan allows, the one that uses the most
// of them; then the one with as many stages as before, or else the fewest. Nothing: no layout of them holds the model.
// fits: says no where the plan alone does not know; may be empty.
std::optional<Layout> ShrunkLayout(const CheckpointHeader& header, const Layout& before, const std::vector<int>& left,
                                   int context, const std::function<bool(const Layout&)>& fits = nullptr);

// "1 of 4 agents: 1 stage x 3 ranks; 2: 2 stages x 1 rank; 3: none": what it shrinks to when so many of its agents are
// lost for good: the last ones. fits: as above.
std::string WhatMayBeLost(const CheckpointHeader& header, const Layout& layout,
                          const std::function<bool(const Layout&)>& fits = nullptr);

// An agent that looks for a place, and the place that it may have.
struct Seeker {
  bool local = true;
  std::string host;     // where its peers reach it
  std::string machine;  // which agents of it share
};
// For every place of the layout the number of the seeker that takes it, -1: none. Agents that the master has started
// take places of its own host, the others those of others: first those whose `host` names theirs. Earlier seekers come
// first.
std::vector<int> Seats(const Layout& layout, const std::vector<Seeker>& seekers);

// Which of the other machines has too little memory for those of its agents that take a place; "": none. memory: bytes
// by machine; 0 or nothing: not known.
std::string RemoteFault(const Layout& layout, const std::vector<Seeker>& seekers,
                        const std::map<std::string, int64_t>& memory);

}  // namespace pangea
