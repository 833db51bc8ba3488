// The pages themselves: one arena per agent. An extent is one (layer, KV head, block, K or V), at
// ((layer * kv_heads + head) * blocks + block) * block_bytes, K first; so a block's extents can be copied whole (copy
// on write, and later swap and hand-over). Executor thread only.
#pragma once
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/ops.h"
#include "pipeline/step.h"

namespace pangea {

struct KvShape {
  int layers = 0, kv_heads = 0, head_dim = 0, block_tokens = 16, blocks = 0;
  DType dtype = DType::kF16;
};

class KvCache {
 public:
  // Memory is reserved now and touched when first written. ResourceExhausted when the reservation fails.
  static absl::StatusOr<std::unique_ptr<KvCache>> Create(const KvShape& shape);
  ~KvCache();
  std::span<const KvLayer> layers() const { return layers_; }
  int64_t bytes() const { return bytes_; }
  void Copy(int from, int to);  // every extent of a block

 private:
  KvCache() = default;
  KvShape shape_;
  std::byte* base_ = nullptr;
  int64_t bytes_ = 0;
  std::vector<KvLayer> layers_;
};

}  // namespace pangea
