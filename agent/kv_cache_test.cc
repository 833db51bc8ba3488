#include "agent/kv_cache.h"

#include <cstring>

#include "gtest/gtest.h"

namespace pangea {
namespace {

// Where an extent lies, worked out from the header's words and not from KvLayer's strides.
size_t ExtentAt(const KvShape& s, int64_t extent, int layer, int head, int block, int value) {
  return static_cast<size_t>(((int64_t{layer} * s.kv_heads + head) * s.blocks + block) * 2 * extent + value * extent);
}

TEST(KvCache, CopiesEveryExtentOfABlockAndNothingElse) {
  for (const DType type : {DType::kF16, DType::kBF16, DType::kI8}) {
    const KvShape shape{.layers = 3, .kv_heads = 2, .head_dim = 8, .block_tokens = 16, .blocks = 5, .dtype = type};
    auto cache = KvCache::Create(shape);
    ASSERT_TRUE(cache.ok()) << cache.status();
    const int64_t extent = KvExtentBytes(type, shape.block_tokens, shape.head_dim);
    ASSERT_EQ((*cache)->bytes(), 3 * 2 * 5 * 2 * extent);
    std::byte* base = (*cache)->layers()[0].base;
    std::vector<std::byte> want(static_cast<size_t>((*cache)->bytes()));
    for (size_t i = 0; i < want.size(); ++i) want[i] = static_cast<std::byte>(i * 2654435761u >> 24);
    std::memcpy(base, want.data(), want.size());
    (*cache)->Copy(1, 4);
    for (int layer = 0; layer < 3; ++layer) {
      for (int head = 0; head < 2; ++head) {
        for (int value = 0; value < 2; ++value) {
          std::memcpy(&want[ExtentAt(shape, extent, layer, head, 4, value)],
                      &want[ExtentAt(shape, extent, layer, head, 1, value)], static_cast<size_t>(extent));
        }
      }
    }
    EXPECT_EQ(std::memcmp(base, want.data(), want.size()), 0);
  }
}

}  // namespace
}  // namespace pangea
