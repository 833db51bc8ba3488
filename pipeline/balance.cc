#include "pipeline/balance.h"

#include <algorithm>
#include <limits>
#include <tuple>

namespace pangea {
namespace {

__extension__ using Square = unsigned __int128;

struct Best {
  bool possible = false;
  Square squares = 0;
  int64_t vectors = 0;
  int next = 0;
};

}  // namespace

std::vector<int> Balance(const BalanceProblem& problem) {
  const int items = static_cast<int>(problem.items.size()), parts = static_cast<int>(problem.parts.size());
  std::vector<int64_t> sum(items + 1, 0);
  for (int i = 0; i < items; ++i) sum[i + 1] = sum[i] + problem.items[i];
  const auto cost = [&](int part, int first, int last) { return problem.parts[part] + sum[last] - sum[first]; };

  // First the least possible fullest part, from the last part backwards.
  constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
  std::vector<std::vector<int64_t>> fullest(parts + 1, std::vector<int64_t>(items + 1, kNever));
  fullest[parts][items] = 0;
  for (int part = parts - 1; part >= 0; --part) {
    for (int first = 0; first <= items; ++first) {
      for (int last = first + problem.min_items; last <= items; ++last) {
        const int64_t own = cost(part, first, last);
        if (own >= fullest[part][first]) break;  // longer runs only cost more
        fullest[part][first] = std::min(fullest[part][first], std::max(own, fullest[part + 1][last]));
      }
    }
  }
  const int64_t limit = fullest[0][0];

  // Then, within that limit, evenness and vectors: both are sums, so the best of the rest extends to the best of the
  // whole.
  std::vector<std::vector<Best>> best(parts + 1, std::vector<Best>(items + 1));
  best[parts][items].possible = true;
  for (int part = parts - 1; part >= 0; --part) {
    for (int first = 0; first <= items; ++first) {
      Best& here = best[part][first];
      for (int last = first + problem.min_items; last <= items; ++last) {
        const int64_t own = cost(part, first, last);
        if (own > limit) break;
        const Best& rest = best[part + 1][last];
        if (!rest.possible) continue;
        const Square squares = rest.squares + static_cast<Square>(own) * static_cast<Square>(own);
        const int64_t vectors = rest.vectors + (problem.vectors ? problem.vectors(first, last) : 0);
        if (!here.possible || std::tie(squares, vectors) <= std::tie(here.squares, here.vectors))
          here = {true, squares, vectors, last};
      }
    }
  }
  std::vector<int> boundaries = {0};
  for (int part = 0; part < parts; ++part) boundaries.push_back(best[part][boundaries.back()].next);
  return boundaries;
}

}  // namespace pangea
