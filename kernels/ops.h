// THE contract of the kernels: every arithmetic that a decoder needs, one signature per op, one file per op and backend
// (reference/ is the oracle, cpu/ is compiled once per ISA class). Order and number of roundings of each op are those
// of docs/exactness.md: a row's result depends on the row alone, never on M (the number of rows), tile, thread or on
// how columns and leaves are spread over ranks. All activations are f32, row-major. Thread safety: ops may run
// concurrently on disjoint outputs, but a ThreadPool has one caller at a time.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/threads.h"
#include "kernels/types.h"

namespace pangea {

// ---------------------------------------------------------------------------------------------------- products

// A run of rows of a checkpoint tensor: n output columns of a product. Element (column j, k) lies at
// data + j*pitch + bytes(k0 + k) or, transposed (GPT-2's Conv1D, MindSpore), at data + (k0+k)*pitch +
// (first+j)*element.
struct WeightRows {
  DType dtype = DType::kF32;
  const std::byte* data = nullptr;  // element (0, 0) of the run: the caller has already added its first column and k0
  int64_t pitch = 0;                // bytes from one stored row to the next
  int64_t n = 0;                    // output columns in this run
  bool transposed = false;          // never with a quantised dtype
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
  static Weight Pack(std::span<const WeightRows> runs, int64_t k, const LeafProgram& program, ThreadPool& pool);
  static Weight Pack(std::span<const WeightRows> runs, int64_t k, ThreadPool& pool);
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

// Scratch for one packed activation matrix, reused from call to call.
class Activations {
 public:
  Activations();
  ~Activations();
  Activations(Activations&&) noexcept;
  Activations& operator=(Activations&&) noexcept;
  struct Impl;
  Impl& impl() { return *impl_; }
  const Impl& impl() const { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

// Prepares x [M, K] (row pitch ldx elements) for products with weights of w's dtype: f32, f16 and bf16 take it as it
// is; quantised row by row, 32 at a time, to 16 or 8 bits.
void PackActivations(const float* x, int64_t m, int64_t ldx, const Weight& w, ActivationBits bits, Activations* out,
                     ThreadPool& pool);
// y[v][i][j] = vector v of x[i] . w[j]; y is [w.vectors()][M][ldy], ldy >= N. Columns n0.. of y are written only.
// `a` must have been packed for a weight of the same dtype and K.
void MatMul(const Activations& a, const Weight& w, float* y, int64_t ldy, ThreadPool& pool);

// out[i] = row ids[i] of a table as f32. rows: as stored, not packed; every id within [0, rows.n).
void EmbeddingRows(const WeightRows& table, int64_t width, std::span<const int32_t> rows, float* out, int64_t ldo);

// ---------------------------------------------------------------------------------------------------- row ops

// y = x / sqrt(mean(x^2) + eps) * w, per row of d; w null: all ones. y may be x.
void RmsNorm(const float* x, const float* w, float eps, int64_t m, int64_t d, float* y, ThreadPool& pool);
// The same over each head of `heads` of `d` in a row (Qwen3's query and key norms); row pitch ld.
void RmsNormHeads(float* x, const float* w, float eps, int64_t m, int64_t ld, int heads, int64_t d, ThreadPool& pool);
// y = (x - mean) / sqrt(var + eps) * w + b, biased variance, mean first. b may be null.
void LayerNorm(const float* x, const float* w, const float* b, float eps, int64_t m, int64_t d, float* y,
               ThreadPool& pool);
// y[i] += b for every row; y += x over n.
void AddBias(float* y, const float* b, int64_t m, int64_t n, int64_t ldy, ThreadPool& pool);
void Add(float* y, const float* x, int64_t n, ThreadPool& pool);                  // y = y + x
void Sum(const float* a, const float* b, float* y, int64_t n, ThreadPool& pool);  // y = a + b

// Rotates the first rot elements of each head; cos, sin: [positions][rot/2] f32. a' = fma(a,c,-(b*s)), b' =
// fma(b,c,a*s).
void Rope(float* x, const int32_t* positions, int64_t m, int64_t ld, int heads, int64_t head_dim, int64_t rot,
          RopePairs pairs, const float* cos, const float* sin, ThreadPool& pool);
void Scale(float* x, float s, int64_t m, int64_t n, int64_t ld, ThreadPool& pool);

// y = act(g) * u, rows of n with pitches ldg, ldu -> ldy. u null: y = act(g).
void GateUp(Gate act, const float* g, int64_t ldg, const float* u, int64_t ldu, int64_t m, int64_t n, float* y,
            int64_t ldy, ThreadPool& pool);

// ------------------------------------------------------------------------------------------ KV pages and attention

// One layer's pages of the KV heads that a rank holds. An extent is one (layer, KV head, block, K or V): K in pages of
// 16 tokens [d][16] (lanes are tokens), V [token][d]; f16, bf16, or int8 with one f32 scale a token and head after the
// values.
struct KvLayer {
  std::byte* base = nullptr;
  int64_t head_stride = 0;   // bytes
  int64_t block_stride = 0;  // bytes
  int64_t v_offset = 0;      // bytes from a block's K extent to its V extent
  int kv_heads = 0;
  int head_dim = 0;
  int block_tokens = 16;  // multiple of 16
  DType dtype = DType::kF16;
};

struct KvRow {
  int32_t sequence;  // index into tables
  int32_t position;
};
// Stores k, v [M][kv_heads*head_dim] (pitches ldk, ldv) at each row's position. tables[s][position / block_tokens] is a
// block.
void KvWrite(const KvLayer& kv, const float* k, int64_t ldk, const float* v, int64_t ldv, std::span<const KvRow> rows,
             const int32_t* const* tables, ThreadPool& pool);

struct AttentionArgs {
  const float* q = nullptr;  // [M][heads*head_dim], already scaled
  int64_t ldq = 0;
  int heads = 0;
  const int32_t* kv_of_head = nullptr;  // [heads] -> KV head within the layer
  int window = 0;                       // 0: all; else a query at p sees p-window+1..p
  std::span<const KvRow> rows;          // rows of one sequence are adjacent and ascending
  const int32_t* const* tables = nullptr;
  float* out = nullptr;  // [M][heads*head_dim]
  int64_t ldo = 0;
};
// Causal attention over the pages: partitions of 128 absolute positions, folded left to right (docs/exactness.md,
// section 4).
void Attention(const KvLayer& kv, const AttentionArgs& args, ThreadPool& pool);

// ---------------------------------------------------------------------------------------------------- logits

// Per chunk of 256 absolute ids (first = absolute id of x[0], a multiple of 256): m = max, l = sum of exp(x - m), lane
// = id mod 16. out: 2 floats a chunk.
void LseChunks(const float* x, int64_t n, float* out);
// Folds chunk pairs in chunk order: M = max, log(sum l*exp(m-M)) + M.
float LseFold(const float* pairs, int64_t chunks);
// exp of the definition, for callers outside: exactly 0 below -87.
float ExpExact(float x);
float LogExact(float x);
// Index of the largest of x[i] + gumbel(id = first + i); ties to the lowest. Gumbel from Philox4x32-10, key = seed,
// counter = (id/4, position, choice, 0), component id%4. x = -inf never wins unless all are. value: the winning sum.
int64_t GumbelArgmax(const float* x, int64_t n, int64_t first, uint64_t seed, uint32_t position, uint32_t choice,
                     float* value);
int64_t Argmax(const float* x, int64_t n, float* value);  // ties to the lowest
bool AllFinite(const float* x, int64_t n);                // -inf counts as not finite

}  // namespace pangea
