#include "kernels/types.h"

namespace pangea {

int LeafProgram::vectors() const {
  int count = static_cast<int>(cuts.size()) - 1;
  for (const int m : merges) count -= m;
  return count;
}

int64_t PackedBytes(DType dtype, int64_t n, int64_t k) {
  const int64_t panels = (n + kPanel - 1) / kPanel;
  const DTypeInfo info = Info(dtype);
  return IsQuantised(dtype) ? panels * (k / info.block) * info.cell : panels * kPanel * k * info.bytes;
}

int64_t KvExtentBytes(DType dtype, int block_tokens, int head_dim) {
  const int64_t values = int64_t{block_tokens} * head_dim;
  return dtype == DType::kI8 ? values + 4 * int64_t{block_tokens} : 2 * values;
}

}  // namespace pangea
