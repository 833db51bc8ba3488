#include "pipeline/balance.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>
#include <tuple>

namespace pangea {
namespace {

using Key = std::tuple<int64_t, int64_t, int64_t>;  // fullest, squares, vectors

Key KeyOf(const BalanceProblem& p, const std::vector<int>& cuts) {
  Key key{0, 0, 0};
  for (size_t part = 0; part < p.parts.size(); ++part) {
    int64_t cost = p.parts[part];
    for (int i = cuts[part]; i < cuts[part + 1]; ++i) cost += p.items[i];
    std::get<0>(key) = std::max(std::get<0>(key), cost);
    std::get<1>(key) += cost * cost;
    if (p.vectors) std::get<2>(key) += p.vectors(cuts[part], cuts[part + 1]);
  }
  return key;
}

// Every cut there is.
Key BruteForce(const BalanceProblem& p) {
  Key best{INT64_MAX, 0, 0};
  std::vector<int> cuts = {0};
  const std::function<void()> visit = [&] {
    if (cuts.size() == p.parts.size()) {
      if (static_cast<int>(p.items.size()) - cuts.back() < p.min_items) return;
      cuts.push_back(static_cast<int>(p.items.size()));
      best = std::min(best, KeyOf(p, cuts));
      cuts.pop_back();
      return;
    }
    const int from = cuts.back();
    for (int next = from + p.min_items; next <= static_cast<int>(p.items.size()); ++next) {
      cuts.push_back(next);
      visit();
      cuts.pop_back();
    }
  };
  visit();
  return best;
}

TEST(Balance, EqualsBruteForce) {
  std::mt19937 random(7);
  for (int trial = 0; trial < 400; ++trial) {
    BalanceProblem p;
    p.parts.resize(1 + random() % 4);
    p.min_items = static_cast<int>(random() % 2);
    p.items.resize(p.parts.size() + random() % 7);
    for (auto& item : p.items) item = 1 + random() % 9;
    for (auto& part : p.parts) part = random() % 20;
    if (trial % 3 != 0) p.vectors = [](int first, int last) { return (first * 7 + last * 3) % 5; };
    const auto cuts = Balance(p);
    ASSERT_EQ(cuts.size(), p.parts.size() + 1);
    ASSERT_EQ(cuts.back(), static_cast<int>(p.items.size()));
    for (size_t i = 0; i + 1 < cuts.size(); ++i) ASSERT_GE(cuts[i + 1] - cuts[i], p.min_items);
    EXPECT_EQ(KeyOf(p, cuts), BruteForce(p)) << "trial " << trial;
  }
}

TEST(Balance, EqualCostsGiveTheEarlierPartsMore) {
  BalanceProblem p;
  p.items.assign(7, 5);
  p.parts.assign(3, 0);
  EXPECT_EQ(Balance(p), (std::vector<int>{0, 3, 5, 7}));
}

}  // namespace
}  // namespace pangea
