#include "master/schedule/prefix_index.h"

#include <algorithm>

#include "master/schedule/check.h"

namespace pangea {

uint64_t PrefixIndex::Key(uint64_t before, std::span<const int32_t> ids) {
  uint64_t hash = before;
  for (const int32_t id : ids) {
    hash = (hash ^ static_cast<uint32_t>(id)) * 0x9E3779B97F4A7C15u;
    hash ^= hash >> 32;
  }
  return hash;
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

void PrefixIndex::Insert(uint64_t before, std::span<const int32_t> ids, int32_t block) {
  SCHEDULE_CHECK(!Has(block));
  entries_[block] = {.serial = next_serial_++, .before = before, .ids = {ids.begin(), ids.end()}};
  by_key_.emplace(Key(before, ids), block);
}

void PrefixIndex::Erase(int32_t block) {
  SCHEDULE_CHECK(Has(block));
  Entry& entry = entries_[block];
  const auto [first, last] = by_key_.equal_range(Key(entry.before, entry.ids));
  const auto it = std::find_if(first, last, [&](const auto& pair) { return pair.second == block; });
  SCHEDULE_CHECK(it != last);
  by_key_.erase(it);
  entry = Entry();
}

}  // namespace pangea
