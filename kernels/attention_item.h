// What attention is cut into: plain data, which a device's kernels read as the host wrote it.
#pragma once
#include <cstdint>

#include "kernels/types.h"

namespace pangea {

// Queries (rows x heads of one KV head) of one slot that are computed together.
struct AttentionItem {
  int32_t row, rows;    // rows [row, row + rows) of the batch
  int32_t kv_head;      // of this rank
  int32_t head, heads;  // heads [head, head + heads) of this rank, all of kv_head
  int32_t first, last;  // partitions of kPartition positions, from the first to the last that any query sees
  int32_t unit;         // partitions of all items before this one
};
static_assert(sizeof(AttentionItem) == kAttentionItemBytes);

}  // namespace pangea
