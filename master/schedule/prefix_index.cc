#include "master/schedule/prefix_index.h"

#include <algorithm>

#include "master/schedule/check.h"

namespace pangea {
namespace {

constexpr int kLookAt = 64;

}  // namespace

uint64_t PrefixIndex::Key(uint64_t before, std::span<const int32_t> ids) {
  uint64_t hash = before;
  for (const int32_t id : ids) {
    hash = (hash ^ static_cast<uint32_t>(id)) * 0x9E3779B97F4A7C15u;
    hash ^= hash >> 32;
  }
  return hash;
}

uint64_t PrefixIndex::Root(int32_t adapter, const CacheSalt& salt) const {
  const auto found = roots_.find({adapter, salt});
  return found == roots_.end() ? 0 : found->second;
}

uint64_t PrefixIndex::MakeRoot(int32_t adapter, const CacheSalt& salt) {
  const auto [root, added] = roots_.try_emplace({adapter, salt}, next_serial_);
  if (added) root_of_[next_serial_++] = root;
  return root->second;
}

int32_t PrefixIndex::Find(uint64_t before, std::span<const int32_t> ids) const {
  const auto [first, last] = by_key_.equal_range(Key(before, ids));
  for (auto it = first; it != last; ++it) {
    const Entry& entry = entries_[it->second];
    if (entry.before == before && std::equal(ids.begin(), ids.end(), entry.ids.begin(), entry.ids.end()))
      return it->second;
  }
  return -1;
}

PrefixIndex::Beginning PrefixIndex::FindBeginning(uint64_t before, std::span<const int32_t> ids) const {
  Beginning best;
  const auto found = after_.find(before);
  if (found == after_.end()) return best;
  int looked_at = 0;
  for (auto block = found->second.rbegin(); block != found->second.rend() && looked_at < kLookAt;
       ++block, ++looked_at) {
    const std::vector<int32_t>& own = entries_[*block].ids;
    const auto differs = std::mismatch(ids.begin(), ids.end(), own.begin(), own.end()).first;
    const int alike = static_cast<int>(differs - ids.begin());
    if (alike > best.alike) best = {*block, alike};
  }
  return best;
}

void PrefixIndex::Insert(uint64_t before, std::span<const int32_t> ids, int32_t block) {
  SCHEDULE_CHECK(!Has(block));
  entries_[block] = {.serial = next_serial_++, .before = before, .ids = {ids.begin(), ids.end()}};
  by_key_.emplace(Key(before, ids), block);
  after_[before].push_back(block);
}

void PrefixIndex::Erase(int32_t block) {
  SCHEDULE_CHECK(Has(block));
  Entry& entry = entries_[block];
  const auto [first, last] = by_key_.equal_range(Key(entry.before, entry.ids));
  const auto it = std::find_if(first, last, [&](const auto& pair) { return pair.second == block; });
  SCHEDULE_CHECK(it != last);
  by_key_.erase(it);
  const auto siblings = after_.find(entry.before);
  std::erase(siblings->second, block);
  if (siblings->second.empty()) {
    after_.erase(siblings);
    if (const auto root = root_of_.find(entry.before); root != root_of_.end()) {
      roots_.erase(root->second);
      root_of_.erase(root);
    }
  }
  entry = Entry();
}

}  // namespace pangea
