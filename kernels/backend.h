// What a back end provides: the inner pieces of the ops on plain pointers, each for one thread. The front ends
// (ops_*.cc) check arguments, cut the work over the queue's threads and call these. Three tables exist:
// reference (plain scalar loops, the oracle) and cpu/ compiled for two instruction sets; all give the same bits.
// Included by files compiled for newer instruction sets, so: plain data only, no inline function with linkage.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/isa.h"
#include "kernels/ops.h"

namespace pangea {

// Rows are packed in tiles of 8, then 4, 2, 1: a tile starts at row_begin * row_bytes.
inline constexpr int kTileRows = 8;
inline constexpr int kSuperPanel = 64;  // columns of an f32, f16, bf16, f8 panel
inline constexpr int kLseChunk = 256;

struct PackArgs {
  const float* x;
  int64_t m, k, ldx;
  DType dtype;
  bool wide;  // 16-bit activations
  std::byte* out;
  int64_t row_bytes;
};

struct ProductArgs {
  DType dtype;
  bool wide;
  const std::byte* a;  // packed activations
  int64_t row_bytes;
  int64_t m, n, k;
  const std::byte* w;   // packed weight
  int64_t panel_bytes;  // of one full panel
  const int64_t* cuts;  // leaves + 1
  const int* merges;    // leaves
  int leaves;
  int vectors;
  float* stack;        // aligned to 64; depth * kTileRows * kSuperPanel floats
  std::byte* scratch;  // aligned to 64, of product_scratch bytes; null: none
  float* y;            // [vectors][m][ldy]
  int64_t ldy;
};

struct Block2D {
  int64_t row_begin, row_end;      // on tile borders
  int64_t panel_begin, panel_end;  // super-panels for plain dtypes
};

// Up to kMaxQueries queries of one sequence that read one KV head.
struct AttentionTile {
  const KvLayer* kv;
  const int32_t* table;
  int kv_head;
  int window;
  int queries;
  const float* q[kMaxQueries];
  float* out[kMaxQueries];
  int32_t position[kMaxQueries];
  const float* packed;  // made by attention_prepare
};

struct Backend {
  int64_t (*activation_row_bytes)(DType dtype, int64_t k, bool wide);
  void (*pack_activations)(const PackArgs& args, int64_t row_begin, int64_t row_end);
  void (*product)(const ProductArgs& args, const Block2D& block);
  int64_t (*product_scratch)(DType dtype, int64_t k, int64_t m);  // bytes that it wants of each thread; mostly 0

  void (*rms_norm)(const float* x, int64_t ldx, const float* w, float eps, int64_t m, int64_t d, float* y, int64_t ldy);
  void (*layer_norm)(const float* x, const float* w, const float* b, float eps, int64_t m, int64_t d, float* y);
  void (*add_rows)(float* y, int64_t ldy, const float* b, int64_t m, int64_t n);  // y[i] += b
  void (*sum)(const float* a, const float* b, float* y, int64_t n);
  void (*rope)(const RopeArgs& args, int64_t row_begin, int64_t row_end);
  void (*scale)(float* x, int64_t ld, float s, int64_t m, int64_t n);
  void (*gate)(const GateArgs& args, int64_t row_begin, int64_t row_end);

  // One token of one KV head; k and v are its head_dim values.
  void (*kv_write)(const KvLayer& kv, int kv_head, const int32_t* table, int64_t position, const float* k,
                   const float* v);
  // A partial or a fold state is [queries][AttentionStride(head_dim)] floats: m, l, 14 unused, then o.
  void (*attention_prepare)(const AttentionTile& tile, float* packed);  // packed: head_dim * kMaxQueries floats
  void (*attention_partial)(const AttentionTile& tile, int64_t partition, float* partial);
  void (*attention_fold)(const AttentionTile& tile, const float* partial, float* state);
  void (*attention_finish)(const AttentionTile& tile, const float* state);

  void (*lse_chunks)(const float* x, int64_t n, float* out);
  float (*lse_fold)(const float* pairs, int64_t chunks);
  float (*exp)(float x);
  float (*log)(float x);
  int64_t (*gumbel_argmax)(const float* x, int64_t n, int64_t first, uint64_t seed, uint32_t position, uint32_t choice,
                           float* value);
  int64_t (*argmax)(const float* x, int64_t n, float* value);
  bool (*all_finite)(const float* x, int64_t n);
};

const Backend& BackendOf(Isa isa);

namespace reference {
extern const Backend kBackend;
}
namespace avx2 {
extern const Backend kBackend;
}
namespace avx512 {
extern const Backend kBackend, kBackendWithTiles;
}

}  // namespace pangea
