// Checkpoint headers without files, for tests of what needs only names, types and shapes.
#pragma once
#include "pipeline/checkpoint/tensor_table.h"

namespace pangea {

struct TestShape {
  int layers = 2, hidden = 64, heads = 4, kv_heads = 4, head_dim = 16, ffn = 160, vocab = 512;
  DType dtype = DType::kF32, head_dtype = DType::kF32;
  bool tied = false;
};

// A Llama of that shape with every tensor that it needs.
inline CheckpointHeader MakeTestCheckpoint(const TestShape& shape) {
  CheckpointHeader header;
  header.format = CheckpointFormat::kGguf;
  ModelConfig& c = header.config;
  c.architecture_name = "llama";
  c.layers = shape.layers, c.hidden = shape.hidden, c.heads = shape.heads, c.kv_heads = shape.kv_heads;
  c.head_dim = shape.head_dim, c.ffn = shape.ffn, c.vocab = shape.vocab, c.tied = shape.tied;
  c.max_positions = 512;
  c.rope.rot = c.head_dim;
  c.window.assign(c.layers, 0);
  c.dtype = shape.dtype;
  for (const TensorRow& row : TensorTable(header)) {
    TensorInfo info;
    info.name = row.name;
    const bool table = row.role == Role::kTokenEmbedding || row.role == Role::kHead;
    info.dtype = row.k == 0 ? DType::kF32 : table ? shape.head_dtype : shape.dtype;
    info.shape = row.k == 0 ? std::vector<int64_t>{row.n} : std::vector<int64_t>{row.n, row.k};
    info.bytes = static_cast<uint64_t>(row.k == 0 ? RowBytes(info.dtype, row.n) : row.n * RowBytes(info.dtype, row.k));
    header.tensors[row.name] = info;
  }
  return header;
}

}  // namespace pangea
