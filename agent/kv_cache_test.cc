#include "agent/kv_cache.h"

#include <cstring>

#include "gtest/gtest.h"

namespace pangea {
namespace {

// Three layers, the middle one of another cache group with fewer blocks. Where an extent lies is worked out from the
// header's words and not from KvLayer's strides.
TEST(KvCache, CopiesEveryExtentOfABlockOfItsGroupAndNothingElse) {
  const std::vector<int> groups = {0, 1, 0}, blocks = {5, 3};
  for (const DType type : {DType::kF16, DType::kBF16, DType::kI8, DType::kF8E4M3}) {
    const KvShape shape{.group_of_layer = groups, .blocks = blocks, .kv_heads = 2, .head_dim = 8, .dtype = type};
    const auto queue = MakeCpuQueue(1, BestIsa());
    auto cache = KvCache::Create(shape, queue.get());
    ASSERT_TRUE(cache.ok()) << cache.status();
    const int64_t extent = KvExtentBytes(type, shape.block_tokens, shape.head_dim);
    ASSERT_EQ((*cache)->bytes(), (5 + 3 + 5) * 2 * 2 * extent);
    const auto at = [&](int layer, int head, int block, int value) {
      const int before[] = {0, 5, 8};  // blocks of the layers before
      return static_cast<size_t>(((2 * before[layer] + head * blocks[groups[layer]] + block) * 2 + value) * extent);
    };
    std::byte* base = (*cache)->layers()[0].base;
    std::vector<std::byte> want(static_cast<size_t>((*cache)->bytes()));
    for (size_t i = 0; i < want.size(); ++i) want[i] = static_cast<std::byte>(i * 2654435761u >> 24);
    std::memcpy(base, want.data(), want.size());
    const auto copy = [&](int group, int from, int to) {
      (*cache)->Copy(group, from, to);
      for (int layer = 0; layer < 3; ++layer) {
        for (int part = 0; part < 4 && groups[layer] == group; ++part)
          std::memcpy(&want[at(layer, part / 2, to, part % 2)], &want[at(layer, part / 2, from, part % 2)],
                      static_cast<size_t>(extent));
      }
    };
    copy(0, 1, 4);
    EXPECT_EQ(std::memcmp(base, want.data(), want.size()), 0);
    copy(1, 2, 0);
    EXPECT_EQ(std::memcmp(base, want.data(), want.size()), 0);
  }
}

}  // namespace
}  // namespace pangea
