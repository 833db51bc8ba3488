// The pages themselves: one arena per agent. An extent is one (layer, KV head, block, K or V): layer after layer, and
// in a layer at (head * blocks + block) * block_bytes, with the blocks of the layer's cache group, K first; so a
// block's extents can be copied whole. Executor thread only.
#pragma once
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/ops.h"
#include "pipeline/step.h"

namespace pangea {

struct KvShape {
  std::vector<int> group_of_layer;  // cache group of each layer
  std::vector<int> blocks;          // of each group, swap blocks included
  int kv_heads = 0, head_dim = 0, block_tokens = 16;
  DType dtype = DType::kF16;
};

class KvCache {
 public:
  // Memory is reserved now and touched when first written. ResourceExhausted when the reservation fails. given: host
  // memory for all of it, which outlives this; empty: the queue's own.
  static absl::StatusOr<std::unique_ptr<KvCache>> Create(const KvShape& shape, Queue* queue,
                                                         std::span<std::byte> given = {});
  std::span<const KvLayer> layers() const { return layers_; }
  int64_t bytes() const { return bytes_; }
  void Copy(int group, int from, int to);  // every extent of a block

 private:
  KvCache() = default;
  Queue* queue_ = nullptr;
  DeviceMemory memory_;
  int64_t bytes_ = 0;
  std::vector<KvLayer> layers_;
};

}  // namespace pangea
