// Cutting a row of items into runs of nearly equal cost: layers over stages, FFN leaves over ranks.
#pragma once
#include <cstdint>
#include <functional>
#include <vector>

namespace pangea {

struct BalanceProblem {
  std::vector<int64_t> items;                       // cost of each
  std::vector<int64_t> parts;                       // what each part carries anyway
  int min_items = 0;                                // a part has at least so many
  std::function<int(int first, int last)> vectors;  // tie-break: what a part holding the run sends; null: 0
};

// Boundaries b[0] = 0 <= … <= b[parts] = items. Least fullest part first, then least sum of squares, then fewest
// vectors, then the earlier parts longer. REQUIRES items >= parts * min_items and at least one part.
std::vector<int> Balance(const BalanceProblem& problem);

}  // namespace pangea
