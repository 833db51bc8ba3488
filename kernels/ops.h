// THE contract of the kernels: every arithmetic that a decoder needs, one signature per op, one file per op and backend
// (reference/ is the oracle, cpu/ is compiled once per ISA class). Words of the layer go to the queue's device
// (device_ops.h); the single ops that they consist of are the CPU's. Order and number of roundings of each op are those
// of docs/exactness.md: a row's result depends on the row alone, never on M (the number of rows), tile, thread or on
// how columns and leaves are spread over ranks. All activations are f32, row-major. An op is put on a queue (queue.h)
// and returns nothing; what it reads and writes is memory of the queue's device (buffer.h) and must stay until the
// queue has finished it. Rows of a batch that are none (batch.h) may hold anything.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "kernels/batch.h"
#include "kernels/exchange.h"
#include "kernels/queue.h"
#include "kernels/sampling.h"
#include "kernels/types.h"

namespace pangea {

// ---------------------------------------------------------------------------------------------------- products

// What the numbers of an f8 tensor are multiplied by: number (column j, k) of the run by element (first + j) / columns
// * pitch + k / kScaleRun * step of `data`. Pitch and step 0: one for all; columns and pitch 1, step 0: one a column.
struct WeightScales {
  const std::byte* data = nullptr;
  DType dtype = DType::kF32;  // or f16, bf16
  int64_t columns = 1;        // that share a scale
  int64_t first = 0;          // columns of the tensor before the run: added to j
  int64_t pitch = 0, step = 0;
};

// A run of rows of a checkpoint tensor: n output columns of a product. Element (column j, k) lies at
// data + j*pitch + bytes(k0 + k) or, transposed (GPT-2's Conv1D, MindSpore), at data + (k0+k)*pitch +
// (first+j)*element.
struct WeightRows {
  DType dtype = DType::kF32;
  const std::byte* data = nullptr;  // element (0, 0) of the run: the caller has already added its first column and k0
  int64_t pitch = 0;                // bytes from one stored row to the next
  int64_t n = 0;                    // output columns in this run
  bool transposed = false;          // never with a quantised dtype or f8
  WeightScales scales = {};         // of f8; k0 a multiple of kScaleRun, `data` at its scale
};

// A packed weight: N output columns over K. Immutable after Pack; may be read by several threads.
class Weight {
 public:
  Weight();
  ~Weight();
  Weight(Weight&&) noexcept;
  Weight& operator=(Weight&&) noexcept;
  // Packs the runs, stacked along N in the order given; all of one dtype, K elements each. program.cuts are multiples
  // of SplitUnit(dtype) but for the last.
  static Weight Pack(std::span<const WeightRows> runs, int64_t k, const LeafProgram& program, Queue& queue);
  static Weight Pack(std::span<const WeightRows> runs, int64_t k, Queue& queue);
  bool empty() const;
  int64_t n() const;
  int64_t k() const;
  int vectors() const;
  DType dtype() const;
  int64_t bytes() const;
  struct Impl;
  const Impl& impl() const { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

// A matrix of activations packed for a product, in memory of the caller's.
struct PackedActivations {
  std::byte* data = nullptr;
  int64_t capacity = 0;  // bytes; PackedActivationBytes(m, k) suffice
  // As PackActivations left it.
  DType dtype = DType::kF32;
  bool wide = true;
  int64_t m = 0, k = 0, row_bytes = 0;
};

// M rows of a matrix of f32, `pitch` elements from one row to the next.
struct Rows {
  const float* data = nullptr;
  int64_t m = 0, pitch = 0;
};
// Prepares x [M, K] for products with weights of w's dtype: f32, f16, bf16 and f8 take it as it is (weights that
// lie as rows, rounded to 16 bits); quantised row by row, a block at a time, to 16 or 8 bits.
void PackActivations(const Rows& x, const Weight& w, ActivationBits bits, PackedActivations* out, Queue& queue);
// y[v][i][j] = vector v of x[i] . w[j]; y is [w.vectors()][M][ldy], ldy >= N. Columns n0.. of y are written only.
// `a` must have been packed for a weight of the same dtype and K.
// With a bias, and then for a weight of one vector: y[i][j] = x[i] . w[j] + bias[j], one addition after the product.
struct BiasedOut {
  float* y = nullptr;
  int64_t ldy = 0;
  const float* bias = nullptr;  // [N]; null: none
};
void MatMul(const PackedActivations& a, const Weight& w, const BiasedOut& out, Queue& queue);

// out[i] = row ids[i] of a table as f32, [rows.size()][width]. table: as stored, not packed; every id within
// [0, table.n). The first by the host, at once; the table of the second lies on the device (PlaceTable).
void ReadRows(const WeightRows& table, int64_t width, std::span<const int32_t> rows, float* out);
void EmbeddingRows(const WeightRows& table, int64_t width, std::span<const int32_t> rows, float* out, Queue& queue);
// The table, of rows that are not transposed, where the queue's device reads it: as it lies where the host's memory is
// the device's, else a copy in *memory.
WeightRows PlaceTable(const WeightRows& table, Buffer<std::byte>* memory, Queue& queue);
// Puts the last sample of its slot where a row's id is negative.
void FillLastIds(const Batch& batch, Queue& queue);
// out[i] = row rows[i] of x; rows of d elements.
void GatherRows(const float* x, int64_t d, std::span<const int32_t> rows, float* out, Queue& queue);

// ---------------------------------------------------------------------------------------------------- row ops

struct NormArgs {
  const float* x = nullptr;  // [M][d]
  const float* w = nullptr;  // [d]; null (RmsNorm only): all ones
  const float* b = nullptr;  // [d]; null: none. LayerNorm only
  float eps = 0;
  int64_t m = 0, d = 0;
  float* y = nullptr;  // [M][d]; may be x
};
void Norm(NormKind kind, const NormArgs& args, Queue& queue);
// y = x / sqrt(mean(x^2) + eps) * w, per row.
void RmsNorm(const NormArgs& args, Queue& queue);
// y = (x - mean) / sqrt(var + eps) * w + b, biased variance, mean first.
void LayerNorm(const NormArgs& args, Queue& queue);
struct HeadNormArgs {
  float* x = nullptr;  // [M][heads * d], rows ld apart
  const float* w = nullptr;
  float eps = 0;
  int64_t m = 0, ld = 0;
  int heads = 0;
  int64_t d = 0;
};
// RmsNorm over each head of a row (Qwen3's query and key norms).
void RmsNormHeads(const HeadNormArgs& args, Queue& queue);
// M rows of n elements, ld from one row to the next.
struct Shape {
  int64_t m = 0, n = 0, ld = 0;
};
void AddBias(float* y, const float* b, const Shape& shape, Queue& queue);     // y[i] = y[i] + b for every row
void Scale(float* x, float s, const Shape& shape, Queue& queue);              // x = x * s
void Add(float* y, const float* x, int64_t n, Queue& queue);                  // y = y + x
void Sum(const float* a, const float* b, float* y, int64_t n, Queue& queue);  // y = a + b

struct RopeArgs {
  float* x = nullptr;  // [M][heads * head_dim], rows ld apart
  const int32_t* positions = nullptr;
  int64_t m = 0, ld = 0;
  int heads = 0;
  int64_t head_dim = 0, rot = 0;
  RopePairs pairs = RopePairs::kHalves;
  const float* cos = nullptr;  // [positions][rot/2]
  const float* sin = nullptr;
};
// Rotates the first rot elements of each head: a' = fma(a,c,-(b*s)), b' = fma(b,c,a*s).
void Rope(const RopeArgs& args, Queue& queue);

struct GateArgs {
  Gate act = Gate::kSilu;
  const float* g = nullptr;  // [M][n], rows ldg apart
  int64_t ldg = 0;
  const float* u = nullptr;  // [M][n], rows ldu apart; null: y = act(g)
  int64_t ldu = 0;
  int64_t m = 0, n = 0;
  float* y = nullptr;  // [M][n], rows ldy apart
  int64_t ldy = 0;
};
// y = act(g) * u.
void GateUp(const GateArgs& args, Queue& queue);
// The same, and then y as PackActivations packs it for `w`.
struct PackTo {
  const Weight* w = nullptr;  // null: y is not packed
  ActivationBits bits = ActivationBits::k16;
  PackedActivations* out = nullptr;
};
void GatePack(const GateArgs& args, const PackTo& pack, Queue& queue);

// What becomes of a K-split product: the tree's remaining additions, bias, residual, and the norm that reads it next.
struct ReduceArgs {
  float* vectors = nullptr;                        // [..][M][d], all ranks'; changed
  std::span<const std::pair<int, int>> additions;  // of the host: (into, from), in order; vector 0 ends as the sum
  const float* bias = nullptr;                     // [d]; null: none
  float* x = nullptr;                              // [M][d], the residual: x = x + (sum + bias)
  int64_t m = 0, d = 0;
  NormKind kind = NormKind::kRms;
  NormArgs norm;  // of x, m, d as here; y = null: none
};
void ReduceAddNorm(const ReduceArgs& args, Queue& queue);

// ------------------------------------------------------------------------------------------ KV pages and attention

// One layer's pages of the KV heads that a rank holds. An extent is one (layer, KV head, block, K or V): K in pages of
// 16 tokens [d][16] (lanes are tokens), V [token][d]; f16, bf16, f8, or int8 with one f32 scale a token and head after
// the values.
struct KvLayer {
  std::byte* base = nullptr;
  int64_t head_stride = 0;   // bytes
  int64_t block_stride = 0;  // bytes
  int64_t v_offset = 0;      // bytes from a block's K extent to its V extent
  int kv_heads = 0;
  int head_dim = 0;
  int block_tokens = 16;  // multiple of 16
  DType dtype = DType::kF16;
  int group = 0;  // whose tables name its blocks
};

// Every extent of a block.
void CopyBlock(const KvLayer& kv, int64_t from, int64_t to, Queue& queue);
struct KvWriteArgs {
  const float* k = nullptr;  // [M][kv_heads * head_dim], rows ldk apart
  int64_t ldk = 0;
  const float* v = nullptr;  // as k, rows ldv apart
  int64_t ldv = 0;
};
// Stores k and v at each row's position.
void KvWrite(const KvLayer& kv, const Batch& batch, const KvWriteArgs& args, Queue& queue);

// What becomes of queries, keys and values before attention: norms over heads, rotation, the query's scale, and the
// keys and values into the pages.
struct FinishQkvArgs {
  float* q = nullptr;  // [M][heads * head_dim], rows ldq apart; changed
  int64_t ldq = 0;
  int heads = 0;
  float* k = nullptr;  // [M][kv_heads * head_dim], rows ld apart; changed
  float* v = nullptr;  // as k
  int64_t ld = 0;
  const float* q_norm = nullptr;  // [head_dim]; null: none
  const float* k_norm = nullptr;
  float eps = 0;
  int64_t rot = 0;  // elements of a head that are rotated; 0: none
  RopePairs pairs = RopePairs::kHalves;
  const float* cos = nullptr;  // [positions][rot/2]
  const float* sin = nullptr;
  float scale = 1;
};
void FinishQkv(const KvLayer& kv, const Batch& batch, const FinishQkvArgs& args, Queue& queue);

struct AttentionArgs {
  const float* q = nullptr;  // [M][heads*head_dim], already scaled
  int64_t ldq = 0;
  const AttentionWork* work = nullptr;  // of the batch, for the layer's window
  float* out = nullptr;                 // [M][heads*head_dim]
  int64_t ldo = 0;
  float* scratch = nullptr;  // AttentionScratchBytes(threads of the queue, head_dim)
};
// Causal attention over the pages: partitions of 128 absolute positions, folded left to right (docs/exactness.md,
// section 4).
void Attention(const KvLayer& kv, const Batch& batch, const AttentionArgs& args, Queue& queue);

// ---------------------------------------------------------------------------------------------------- logits

// Of a device that draws ids itself (sampling.h); REQUIRES CanSample(queue).
bool CanSample(const Queue& queue);
void SampleIds(const SampleArgs& args, Queue& queue);
void CountIds(const CountArgs& args, Queue& queue);

// ---------------------------------------------------------------------------------------------------- other agents

// Of a device that exchanges with others by itself (exchange.h); REQUIRE CanExchange(queue). All agents of a stage put
// the same ones in the same order, and what goes to another stage is taken there in the order in which it was sent.
// A wait that is given up is told in the exchange's state; then nothing comes any more, and what is there is void.
bool CanExchange(const Queue& queue);
void GatherParts(const DeviceExchange& exchange, const GatherArgs& args, Queue& queue);
// n values of 32 bits, to the stage behind, and from the one before.
void SendRows(const DeviceExchange& exchange, const void* from, int64_t n, Queue& queue);
void ReceiveRows(const DeviceExchange& exchange, void* to, int64_t n, Queue& queue);
void MoveIds(const MoveIdsArgs& args, Queue& queue);

// ---------------------------------------------------------------------------------------------------- of the host

// Host functions, for the sampler: of the same bits on every device and in every class; any thread. REQUIRES isa <=
// BestIsa(). Per chunk of 256 absolute ids (first = absolute id of x[0], a multiple of 256): m = max, l = sum of exp(x
// - m), lane = id mod 16. out: 2 floats a chunk.
void LseChunks(const float* x, int64_t n, float* out, Isa isa);
struct Winner {
  int64_t index = 0;  // in x
  float value = 0;
};
// What a draw is keyed by.
struct DrawKey {
  uint64_t seed = 0;
  uint32_t position = 0, choice = 0;
};
// The largest of x[i] + gumbel(id = first + i); ties to the lowest. Gumbel from Philox4x32-10, key = seed, counter =
// (id/4, position, choice, 0), component id%4. x = -inf never wins unless all are.
Winner GumbelArgmax(std::span<const float> x, int64_t first, const DrawKey& draw, Isa isa);
Winner Argmax(std::span<const float> x, Isa isa);   // ties to the lowest
bool AllFinite(std::span<const float> x, Isa isa);  // -inf counts as not finite
// Folds chunk pairs in chunk order: M = max, log(sum l*exp(m-M)) + M.
float LseFold(const float* pairs, int64_t chunks);
float ExpExact(float x);  // exactly 0 below -87
float LogExact(float x);

}  // namespace pangea
