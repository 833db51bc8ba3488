#include "agent/kv_cache.h"

#include "absl/strings/str_cat.h"

namespace pangea {

absl::StatusOr<std::unique_ptr<KvCache>> KvCache::Create(const KvShape& shape, Queue* queue,
                                                         std::span<std::byte> given) {
  auto cache = std::unique_ptr<KvCache>(new KvCache);
  const int64_t extent = KvExtentBytes(shape.dtype, shape.block_tokens, shape.head_dim);
  const int64_t block = 2 * extent;
  for (const int group : shape.group_of_layer) cache->bytes_ += block * shape.blocks[group] * shape.kv_heads;
  cache->queue_ = queue;
  if (!given.empty() && static_cast<int64_t>(given.size()) != cache->bytes_)
    return absl::InternalError(
        absl::StrCat("KV blocks take ", cache->bytes_, " bytes, not the ", given.size(), " given"));
  if (cache->bytes_ > 0 && given.empty()) {
    cache->memory_ = queue->Allocate(cache->bytes_);
    if (cache->memory_ == nullptr)
      return absl::ResourceExhaustedError(absl::StrCat("cannot reserve ", cache->bytes_, " bytes for KV blocks"));
  }
  if (cache->memory_ != nullptr && queue->makes_weights_up())
    queue->MakeUp(cache->memory_.get(), cache->bytes_, shape.dtype);
  std::byte* base = given.empty() ? cache->memory_.get() : given.data();
  for (const int group : shape.group_of_layer) {
    const int64_t head = block * shape.blocks[group];
    cache->layers_.push_back(KvLayer{.base = base,
                                     .head_stride = head,
                                     .block_stride = block,
                                     .v_offset = extent,
                                     .kv_heads = shape.kv_heads,
                                     .head_dim = shape.head_dim,
                                     .block_tokens = shape.block_tokens,
                                     .dtype = shape.dtype,
                                     .group = group});
    base += head * shape.kv_heads;
  }
  return cache;
}

void KvCache::Copy(int group, int from, int to) {
  for (const KvLayer& layer : layers_) {
    if (layer.group == group) CopyBlock(layer, from, to, *queue_);
  }
}

}  // namespace pangea
