// What a plan may know of the kernels: element types as they lie in checkpoints and in caches, how an op is meant, and
// the bytes that packed weights and pages take. Plain data and pure functions: the master includes this file alone.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pangea {

enum class DType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kI8,
  kI32,
  kI64,
  kU8,
  kQ8_0,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kF64,
  kBool,
  kF8E4M3  // OCP's 8 bits, "E4M3FN": no infinities, the largest number is 448
};

inline constexpr int kPanel = 16;       // columns of a packed weight are padded to a multiple of it
inline constexpr int kQuantGroup = 32;  // activations that are quantised together, and k of a packed cell
inline constexpr int kMaxBlock = 256;   // weights of the largest stored block
inline constexpr int kScaleRun = 128;   // k of an f8 weight that share a scale, as do 128 columns or fewer

// A stored block taken apart: weight i is (q[i] - offset) * (d * scales[i / run]) + m * minima[i / kQuantGroup], the
// second part in formats with minima only. d and m are f16; scales and minima are 1 in formats that have one of each a
// block.
struct QuantBlock {
  uint16_t d, m;
  int8_t scales[kMaxBlock / 16], minima[kMaxBlock / kQuantGroup];
  uint8_t q[kMaxBlock];
};

// All that is known of a quantised weight format. Packing, dequantising and products follow from the row; how a packed
// weight lies in memory is in kernels/weight.h.
struct QuantFormat {
  DType dtype;
  std::string_view name;
  uint32_t gguf;     // number of the type in GGUF files, whose layout this is
  int block, bytes;  // weights a stored block, and its bytes
  int bits;          // of a packed weight, which is unsigned
  int offset;        // packed weight minus real weight
  int run;           // weights that share a scale: kQuantGroup or half of it
  bool minima;       // a weight has a minimum besides, kQuantGroup weights share one
  bool two_level;    // scales and minima are small integers times the block's d and m
  void (*take_apart)(const std::byte* stored, QuantBlock* block);

  constexpr int runs() const { return kQuantGroup / run; }  // of a cell
  // Bytes of a cell of kPanel columns x kQuantGroup k, and the parts that it consists of.
  constexpr int number_bytes() const { return two_level ? 1 : 2; }
  constexpr int line_bytes() const { return kPanel * kQuantGroup * bits / 8; }
  constexpr int scale_bytes() const { return kPanel * runs() * number_bytes(); }
  constexpr int cell_bytes() const { return line_bytes() + scale_bytes() + (minima ? kPanel * number_bytes() : 0); }
  // Of kPanel columns of a block: d and m if its scales are relative to them, then its cells.
  constexpr int head_bytes() const { return two_level ? kPanel * (minima ? 4 : 2) : 0; }
  constexpr int packed_bytes() const { return head_bytes() + block / kQuantGroup * cell_bytes(); }
};

void TakeApartQ8_0(const std::byte* stored, QuantBlock* block);
void TakeApartQ4_0(const std::byte* stored, QuantBlock* block);
void TakeApartQ4_1(const std::byte* stored, QuantBlock* block);
void TakeApartQ5_0(const std::byte* stored, QuantBlock* block);
void TakeApartQ5_1(const std::byte* stored, QuantBlock* block);
void TakeApartQ4K(const std::byte* stored, QuantBlock* block);
void TakeApartQ5K(const std::byte* stored, QuantBlock* block);
void TakeApartQ6K(const std::byte* stored, QuantBlock* block);

// A format is one row.
inline constexpr QuantFormat kQuantFormats[] = {
    // dtype, name, gguf, block, bytes, bits, offset, run, minima, two_level, take_apart
    {DType::kQ8_0, "q8_0", 8, 32, 34, 8, 128, 32, false, false, TakeApartQ8_0},
    {DType::kQ4_0, "q4_0", 2, 32, 18, 4, 8, 32, false, false, TakeApartQ4_0},
    {DType::kQ4_1, "q4_1", 3, 32, 20, 4, 0, 32, true, false, TakeApartQ4_1},
    {DType::kQ5_0, "q5_0", 6, 32, 22, 5, 16, 32, false, false, TakeApartQ5_0},
    {DType::kQ5_1, "q5_1", 7, 32, 24, 5, 0, 32, true, false, TakeApartQ5_1},
    {DType::kQ4_K, "q4_k", 12, 256, 144, 4, 0, 32, true, true, TakeApartQ4K},
    {DType::kQ5_K, "q5_k", 13, 256, 176, 5, 0, 32, true, true, TakeApartQ5K},
    {DType::kQ6_K, "q6_k", 14, 256, 210, 6, 32, 16, false, true, TakeApartQ6K},
};
// Null: not a quantised type.
constexpr const QuantFormat* FindFormat(DType dtype) {
  for (const QuantFormat& format : kQuantFormats) {
    if (format.dtype == dtype) return &format;
  }
  return nullptr;
}

struct DTypeInfo {
  std::string_view name;  // "f32", "q8_0", …
  int block;              // elements a block (1 for plain types)
  int bytes;              // bytes a block
};
constexpr DTypeInfo Info(DType t) {
  switch (t) {
    case DType::kF32:
      return {"f32", 1, 4};
    case DType::kF16:
      return {"f16", 1, 2};
    case DType::kBF16:
      return {"bf16", 1, 2};
    case DType::kI8:
      return {"i8", 1, 1};
    case DType::kI32:
      return {"i32", 1, 4};
    case DType::kI64:
      return {"i64", 1, 8};
    case DType::kU8:
      return {"u8", 1, 1};
    case DType::kF64:
      return {"f64", 1, 8};
    case DType::kBool:
      return {"bool", 1, 1};
    case DType::kF8E4M3:
      return {"f8_e4m3", 1, 1};
    default: {
      const QuantFormat* format = FindFormat(t);
      return format == nullptr ? DTypeInfo{"?", 1, 0} : DTypeInfo{format->name, format->block, format->bytes};
    }
  }
}
constexpr bool IsQuantised(DType t) { return FindFormat(t) != nullptr; }
constexpr bool IsWeightType(DType t) {
  return t == DType::kF32 || t == DType::kF16 || t == DType::kBF16 || t == DType::kF8E4M3 || IsQuantised(t);
}
// "f32, f16, bf16", with the quantised types behind them if asked for: what a message says that a weight may be.
std::string WeightTypeNames(bool quantised);
// Bytes of a row of n elements; n must be a multiple of the block.
constexpr int64_t RowBytes(DType t, int64_t n) { return n / Info(t).block * Info(t).bytes; }
// Smallest width at which a K-split may cut a tensor of this type (docs/exactness.md, section 2).
constexpr int SplitUnit(DType t) { return IsQuantised(t) ? Info(t).block : t == DType::kF8E4M3 ? kScaleRun : 2; }

enum class ActivationBits : uint8_t { k16, k8 };  // width of quantised activations (docs/activations.md)
// kHalves: (i, i + rot/2) as Hugging Face stores. kAdjacent: (2i, 2i+1) as llama GGUF does.
enum class RopePairs : uint8_t { kHalves, kAdjacent };
enum class NormKind : uint8_t { kRms, kLayer };
enum class Gate : uint8_t { kSilu, kGeluErf, kGeluTanh, kGeluQuick, kRelu };

// A K-split product as a stack program: leaf i covers k in [cuts[i], cuts[i+1]) of this rank's run; after its product
// is pushed, merges[i] times the two topmost are popped and their sum (lower + upper) pushed. What is left on the
// stack, from the bottom, are this rank's maximal whole subtrees. A plain product is one leaf without merges.
struct LeafProgram {
  std::vector<int64_t> cuts{0};
  std::vector<int> merges;
  int vectors() const;  // left on the stack
};

// Bytes that a packed weight of n columns over k holds; the same for every instruction set.
int64_t PackedBytes(DType dtype, int64_t n, int64_t k);
// Bytes that m rows of k activations need once packed for a product, of whatever weight type and instruction set.
int64_t PackedActivationBytes(int64_t m, int64_t k);
// Of KV pages: what they may consist of.
constexpr bool IsPageType(DType t) {
  return t == DType::kF16 || t == DType::kBF16 || t == DType::kI8 || t == DType::kF8E4M3;
}
// Bytes of one extent of KV pages: one (layer, KV head, block, K or V).
int64_t KvExtentBytes(DType dtype, int block_tokens, int head_dim);

// Of a packed f8 weight: a whole run of a panel of so many columns (kernels/weight.h).
constexpr int64_t F8RunBytes(int64_t columns) { return columns * (4 + kScaleRun); }

inline constexpr int kPartition = 128;      // absolute positions of an attention partial (docs/exactness.md, section 4)
inline constexpr int kMaxQueries = 32;      // (row, head) pairs that attention computes together
inline constexpr int kCudaMaxQueries = 64;  // where tensor cores do (kernels.exact: false)
inline constexpr int kPartialsAThread = 16;  // full tiles that wait for their fold, where partitions are spread out
// Floats of one query's partial: m, l, padding to 16, then o padded to 16.
constexpr int64_t AttentionStride(int64_t head_dim) { return 16 + (head_dim + 15) / 16 * 16; }
// Bytes that attention works in, whatever the step: bounded by what so many threads fill at a time.
int64_t AttentionScratchBytes(int threads, int64_t head_dim);
// The same of a device that runs CUDA's kernels: so many queries at most have their partitions computed apart, each so
// many at a time (fewer queries, more).
inline constexpr int64_t kCudaSplitQueries = 2048, kCudaPartials = 16;
int64_t CudaAttentionScratchBytes(int64_t head_dim);
inline constexpr int64_t kCudaWorkspaceBytes = 32 << 20;  // of a library's products
inline constexpr int64_t kCudaWidenedBytes = 64 << 20;    // behind it: f8 weights as bf16, for such a product

// Of a device that draws ids itself (kernels/sampling.h): rows at a time, slots, ids, and the most likely ids that a
// row may tell.
struct SamplingShape {
  int64_t rows = 0, slots = 0, vocab = 0, tops = 0;
};
int64_t SamplingBytes(const SamplingShape& shape);

// Of what devices exchange by themselves (kernels/exchange.h): ranks of a stage; and with several stages, how many
// pieces each block of a kernel may send to the next stage before the first is taken there, and how many ids travel
// between stages at most.
struct ExchangeShape {
  int ranks = 1;
  int64_t pieces = 0;  // a power of two; 0: one stage
  int64_t slots = 0;
  bool library = false;  // by a library instead, which has its own memory
};
inline constexpr int kMostExchangeRanks = 16;     // of a stage
inline constexpr int kExchangeBlocks = 32;        // of a kernel that exchanges, at most
inline constexpr int64_t kExchangeFloats = 4096;  // of a piece: of f32, or of ids
int64_t ExchangeBytes(const ExchangeShape& shape);

// What the batches of one agent have in common (kernels/batch.h).
struct BatchShape {
  int64_t rows = 0, slots = 0;  // at most
  int64_t stride = 0;           // blocks of one slot's table, at most
  int groups = 1;               // cache groups: a slot has a table in each
  int block_tokens = 16;
  int queries = kMaxQueries;        // of an item of attention, at most
  bool alone_first = false;         // items of one row come before the others
  std::vector<int32_t> kv_of_head;  // [heads of this rank] -> KV head of this rank; ascending from 0
  std::vector<int> windows;         // of this agent's layers, each once
};
inline constexpr int kAttentionItemBytes = 32;
int64_t MaxAttentionItems(const BatchShape& shape);  // of one window
int64_t BatchBytes(const BatchShape& shape);

}  // namespace pangea
