#include "kernels/types.h"

#include "kernels/exchange.h"
#include "kernels/sampling.h"

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
  if (format != nullptr) return panels * (k / format->block) * format->packed_bytes();
  const int64_t scales = dtype == DType::kF8E4M3 ? (k + kScaleRun - 1) / kScaleRun * 4 : 0;
  return panels * kPanel * (k * Info(dtype).bytes + scales);
}

int64_t PackedActivationBytes(int64_t m, int64_t k) {
  // Per 32 k, the most that any text takes: a scale and 32 integers of the scalar one (f32 as it is takes 128).
  return m * ((k + 31) / 32) * 132;
}

int64_t KvExtentBytes(DType dtype, int block_tokens, int head_dim) {
  const int64_t values = int64_t{block_tokens} * head_dim;
  return values * Info(dtype).bytes + (dtype == DType::kI8 ? 4 * int64_t{block_tokens} : 0);
}

int64_t AttentionScratchBytes(int threads, int64_t head_dim) {
  // Of each thread: its tile's state, partial and packed queries; two states of items that all threads share; and the
  // partials between two folds.
  constexpr int64_t kEach = 3 + 2 + kPartialsAThread;
  return threads * kEach * kMaxQueries * AttentionStride(head_dim) * static_cast<int64_t>(sizeof(float));
}

int64_t CudaAttentionScratchBytes(int64_t head_dim) {
  return kCudaSplitQueries * (1 + kCudaPartials) * AttentionStride(head_dim) * static_cast<int64_t>(sizeof(float));
}

int64_t SamplingBytes(const SamplingShape& shape) { return SampleMemory(shape, nullptr).bytes; }
int64_t ExchangeBytes(const ExchangeShape& shape) { return ExchangeMemory(shape, nullptr).bytes; }

int64_t MaxAttentionItems(const BatchShape& shape) {
  // An item has at least one row; the heads of one KV head take one item in shape.queries.
  int64_t of_a_row = 0;
  for (size_t begin = 0, end; begin < shape.kv_of_head.size(); begin = end) {
    end = begin + 1;
    while (end < shape.kv_of_head.size() && shape.kv_of_head[end] == shape.kv_of_head[begin]) ++end;
    of_a_row += (static_cast<int64_t>(end - begin) + shape.queries - 1) / shape.queries;
  }
  return shape.rows * of_a_row;
}

int64_t BatchBytes(const BatchShape& shape) {
  const int64_t ids = 5 * shape.rows + 2 * shape.slots + shape.groups * shape.slots * shape.stride;
  return ids * static_cast<int64_t>(sizeof(int32_t)) +
         MaxAttentionItems(shape) * static_cast<int64_t>(shape.windows.size()) * kAttentionItemBytes;
}

}  // namespace pangea
