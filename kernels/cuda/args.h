// What each kernel is told: plain data, passed by value when it is launched. Addresses are the device's.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/attention_item.h"
#include "kernels/cuda/limits.h"
#include "kernels/exchange.h"
#include "kernels/sampling.h"
#include "kernels/types.h"

namespace pangea::cuda {

inline constexpr int kMostAdditions = 128;  // of one reduction
inline constexpr int kMostDepth = 24;       // of a leaf program's stack
inline constexpr int kQueryChunk = 8;       // queries that a block of attention computes together

// Of product_few_rows.cu: columns of a block, and rows at most.
inline constexpr int kFewRowsColumns = 16, kMostFewRows = 8;

// Of product_plain.cu: k of a tile, and tiles that are there or on their way. Of product_quantised.cu: groups of 32 k
// whose integer sums are made at a time, a warp each.
inline constexpr int kProductTileK = 64, kProductStages = 3, kProductWarps = 8;

struct Index {
  unsigned x = 0, y = 0, z = 0;
};
struct Int4 {
  int x, y, z, w;
};
// Numbers of 16 bits in shared memory, as a GroupMultiplyAdd reads them: 16 rows or more, 128 bytes apart, of 64
// columns each; the columns behind these so many bytes on. Chunk i of 16 bytes of row r, rows being counted from the
// beginning of shared memory, lies in the place of chunk i ^ r % 8.
struct GroupMatrix {
  const std::byte* at;
  int64_t next_columns;
};

struct FillLastIdsArgs {
  int32_t* ids;
  const int32_t* slots;
  const int32_t* last;
  int32_t rows;
};

// What a device reads in a second, for measurements: the sum of all words, a word a block.
struct ReadAllArgs {
  const std::byte* from;
  int64_t pieces;  // of 16 bytes
  int32_t* sums;   // [blocks]
};

struct MakeUpArgs {
  uint32_t* to;
  int64_t words;
  DType dtype;
};

struct GatherRowsArgs {
  const float* x;
  const int32_t* rows;
  float* out;
  int64_t d;
};

struct EmbeddingArgs {
  const std::byte* table;
  int64_t pitch;
  const int32_t* rows;
  float* out;
  int64_t width;
  DType dtype;
};

struct AddArgs {
  float* y;
  const float* x;
  int64_t n;
};

struct AddBiasArgs {
  float* y;  // rows of n, ld apart
  const float* b;
  int64_t n, ld;
};

// One layer's pages (ops.h, KvLayer).
struct Pages {
  std::byte* base;
  int64_t head_stride, block_stride, v_offset;
  int32_t kv_heads, head_dim, block_tokens;
  DType dtype;
};

struct CopyBlockArgs {
  Pages pages;
  int64_t from, to;
};

struct NormPart {
  NormKind kind;
  float eps;
  const float* w;  // null: all ones
  const float* b;  // null: none
  float* y;        // null: no norm
};

struct RowNormArgs {
  const float* x;
  int64_t d;
  NormPart norm;
};

struct ReduceNormArgs {
  float* vectors;
  const float* bias;
  float* x;
  int64_t m, d;
  NormPart norm;
  int32_t additions;
  uint8_t into[kMostAdditions], from[kMostAdditions];
};

struct PackPlainArgs {
  const float* x;
  int64_t pitch;
  float* out;
  int64_t k, out_pitch;
};

// Quantised activations of a row: [groups][32 upper bytes, 32 lower bytes], then [groups] scales, then [groups][2] sums
// of the integers of each half of a group. In 8 bits the upper bytes are not written.
struct PackedRows {
  std::byte* data;
  int64_t row_bytes;
  int32_t groups;
  bool wide;
};
constexpr int64_t PackedRowBytes(int64_t groups) { return (groups * 76 + 15) / 16 * 16; }

struct PackQuantisedArgs {
  const float* x;
  int64_t pitch;
  PackedRows out;
};

// Rows of f32 rounded to the 16 bits of the weights that they meet.
struct PackHalvesArgs {
  const float* x;
  int64_t pitch;
  uint16_t* out;
  int64_t k, out_pitch;
  DType dtype;
};

struct GatePackArgs {
  const float* g;
  int64_t ldg;
  const float* u;  // null: y = act(g)
  int64_t ldu;
  float* y;
  int64_t ldy;
  int64_t n;
  Gate act;
  float* plain;  // a copy of y, as a product reads it; null: none
  int64_t plain_pitch;
  uint16_t* halves;  // rounded to 16 bits of `half_type`; null: none
  int64_t half_pitch;
  DType half_type;
  PackedRows out;  // data null: none
};

// What of FinishQkv a launch does: all of it, or at kernels.fusion 0 one part after another.
enum QkvPart : uint32_t {
  kNormQuery = 1,
  kNormKey = 2,
  kRotateQuery = 4,
  kRotateKey = 8,
  kScaleQuery = 16,
  kStore = 32
};
inline constexpr uint32_t kAllParts = 63;

struct FinishQkvKernelArgs {
  Pages pages;
  const int32_t* positions;
  const int32_t* slots;
  const int32_t* tables;  // of the layer's group
  int64_t stride;
  float *q, *k, *v;
  int64_t ldq, ld;
  const float *q_norm, *k_norm;
  const float *cos, *sin;
  int32_t heads, rot;
  float eps, scale;
  RopePairs pairs;
  uint32_t parts;
};

// Of attention_many.h: positions of a tile, and the largest head; the shared memory of a block, bytes, for heads of d.
inline constexpr int kManyTile = 64, kMostManyHeadDim = 128;
constexpr int64_t ManyBytes(int64_t d) { return 2 * 2 * kManyTile * d * 2; }

struct AttentionKernelArgs {
  Pages pages;
  const AttentionItem* items;
  const int32_t* positions;
  const int32_t* slots;
  const int32_t* tables;
  int64_t stride;
  const float* q;
  int64_t ldq;
  float* out;
  int64_t ldo;
  int32_t window;
  // Of partitions that are computed apart and then folded: partitions [from, from + span) of every item, counted from
  // its first. A partial or a state is AttentionStride floats. span 0: a block folds all partitions as it goes.
  int32_t from, span, queries;  // queries: of the largest item, room for which every item has
  float* partials;              // [items][queries][span]
  float* states;                // [items][queries]
};

// A K-split product as a stack program (types.h, LeafProgram); int32 is enough for k.
struct Leaves {
  int32_t count;
  int32_t cuts[kMostLeaves + 1];
  uint8_t merges[kMostLeaves];
};

struct ProductKernelArgs {
  const std::byte* a;  // packed activations
  int64_t row_bytes;
  const std::byte* w;  // packed weight
  int64_t panel_bytes;
  float* y;  // [vectors][m][ldy]
  int64_t ldy;
  const float* bias;  // null: none
  int32_t m, n, k;
  int32_t rows;  // of a block
  int32_t vectors;
  bool wide;
  Leaves leaves;
};

// y[M][n] = x . w, each w a row of k numbers; for few rows, of which each kernel is made for so many.
struct FewRowsArgs {
  const std::byte* w;
  int64_t w_pitch;      // bytes
  const float* scales;  // of f8: [n][runs of 128 k]; x is then bf16
  const std::byte* x;
  int64_t x_pitch;  // bytes
  float* y;
  int64_t ldy;
  const float* bias;  // null: none
  int32_t m, n, k;
};

// Rows of f8 weights as bf16.
struct WidenArgs {
  const std::byte* w;   // [rows][k]
  const float* scales;  // [rows][runs of 128 k]
  uint16_t* out;        // [rows][k]
  int32_t k;
};

// Of all kernels of sampling.cu but the last.
struct SampleKernelArgs {
  SampleMemory memory;
  const float* logits;
  float* edited;
  int32_t* last;
  int64_t tops;
};
// Their shared memory, bytes: of JudgeLogits two floats an id, and the best of each warp; of CutLogits a list of ids as
// 64-bit keys, a term of each, bins of 11 bits, and some words.
inline constexpr int64_t kDrawShared = 128, kJudgeShared = kSampleIds * 8 + kDrawShared,
                         kCutShared = kMostListed * 12 + (1 << 11) * 4 + kDrawShared;
struct CountIdsArgs {
  int32_t* counts;     // [vocab] of a slot
  const int32_t* ids;  // null: all counts become 0
  int64_t n;           // ids; without ids, counts
  bool in_prompt;
};

// What each kernel that exchanges (exchange.cu) knows of its own side.
struct ExchangeSide {
  ExchangeMemory memory;
  ExchangeState* state;
  int64_t limit;  // nanoseconds
};
inline constexpr int64_t kExchangeShared = 4 * kMostExchangeRanks;  // of their shared memory, bytes
struct GatherKernelArgs {
  ExchangeSide side;
  std::byte* peers[kMostExchangeRanks];
  int32_t rank;
  const float* mine;
  float* all;
  int64_t rows, pitch;
  int64_t pieces;  // of the largest part
  bool aligned;    // all begins and widths are multiples of four
  int64_t widths[kMostExchangeRanks], offsets[kMostExchangeRanks];
};
struct MessageKernelArgs {
  ExchangeSide side;
  std::byte* other;  // agent's memory
  uint32_t* values;  // [n]
  int64_t n;
};
struct TellHostArgs {
  uint32_t* word;  // of the host
  uint32_t value;
};
struct MoveIdsKernelArgs {
  int32_t* to;
  const int32_t* to_at;
  const int32_t* from;
  const int32_t* from_at;
  int64_t n;
  int32_t limit;
};

}  // namespace pangea::cuda
