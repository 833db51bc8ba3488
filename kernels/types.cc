#include "kernels/types.h"

namespace pangea {

int LeafProgram::vectors() const {
  int count = static_cast<int>(cuts.size()) - 1;
  for (const int m : merges) count -= m;
  return count;
}

std::string WeightTypeNames(bool quantised) {
  std::string names;
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    names.append(names.empty() ? "" : ", ").append(Info(dtype).name);
  }
  for (const QuantFormat& format : kQuantFormats) {
    if (quantised) names.append(", ").append(format.name);
  }
  return names;
}

int64_t PackedBytes(DType dtype, int64_t n, int64_t k) {
  const int64_t panels = (n + kPanel - 1) / kPanel;
  const QuantFormat* format = FindFormat(dtype);
  return format != nullptr ? panels * (k / format->block) * format->packed_bytes()
                           : panels * kPanel * k * Info(dtype).bytes;
}

int64_t KvExtentBytes(DType dtype, int block_tokens, int head_dim) {
  const int64_t values = int64_t{block_tokens} * head_dim;
  return dtype == DType::kI8 ? values + 4 * int64_t{block_tokens} : 2 * values;
}

}  // namespace pangea
