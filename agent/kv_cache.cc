#include "agent/kv_cache.h"

#include <sys/mman.h>

#include <cstring>

#include "absl/strings/str_cat.h"

namespace pangea {

absl::StatusOr<std::unique_ptr<KvCache>> KvCache::Create(const KvShape& shape) {
  auto cache = std::unique_ptr<KvCache>(new KvCache);
  cache->shape_ = shape;
  const int64_t extent = KvExtentBytes(shape.dtype, shape.block_tokens, shape.head_dim);
  const int64_t block = 2 * extent, head = block * shape.blocks;
  cache->bytes_ = head * shape.kv_heads * shape.layers;
  if (cache->bytes_ > 0) {
    void* p = mmap(nullptr, cache->bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
      return absl::ResourceExhaustedError(absl::StrCat("cannot reserve ", cache->bytes_, " bytes for KV blocks"));
    cache->base_ = static_cast<std::byte*>(p);
  }
  for (int i = 0; i < shape.layers; ++i) {
    cache->layers_.push_back(KvLayer{.base = cache->base_ + i * head * shape.kv_heads,
                                     .head_stride = head,
                                     .block_stride = block,
                                     .v_offset = extent,
                                     .kv_heads = shape.kv_heads,
                                     .head_dim = shape.head_dim,
                                     .block_tokens = shape.block_tokens,
                                     .dtype = shape.dtype});
  }
  return cache;
}

KvCache::~KvCache() {
  if (base_ != nullptr) munmap(base_, bytes_);
}

void KvCache::Copy(int from, int to) {
  for (const KvLayer& layer : layers_) {
    for (int h = 0; h < layer.kv_heads; ++h) {
      std::byte* head = layer.base + h * layer.head_stride;
      std::memcpy(head + to * layer.block_stride, head + from * layer.block_stride, layer.block_stride);
    }
  }
}

}  // namespace pangea
