// What a plan may know of the kernels: element types as they lie in checkpoints and in caches, how an op is meant, and
// the bytes that packed weights and pages take. Plain data and pure functions: the master includes this file alone.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace pangea {

enum class DType : uint8_t { kF32, kF16, kBF16, kI8, kI32, kI64, kU8, kQ8_0, kQ4_0, kQ4_1, kF64, kBool };

struct DTypeInfo {
  std::string_view name;  // "f32", "q8_0", …
  int block;              // elements a block (1 for plain types)
  int bytes;              // bytes a block
  int cell = 0;           // bytes of a block of 16 packed columns (kernels/weight.h); 0: not quantised
};

// Q8_0: f16 d, 32 int8 (w = q*d). Q4_0: f16 d, 16 bytes (w = (q-8)*d; low nibbles are elements 0..15, high 16..31).
// Q4_1: f16 d, f16 m, 16 bytes (w = q*d + m). As in GGUF.
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
    case DType::kQ8_0:
      return {"q8_0", 32, 34, 544};
    case DType::kQ4_0:
      return {"q4_0", 32, 18, 288};
    case DType::kQ4_1:
      return {"q4_1", 32, 20, 320};
    case DType::kF64:
      return {"f64", 1, 8};
    case DType::kBool:
      return {"bool", 1, 1};
  }
  return {"?", 1, 0};
}
constexpr bool IsQuantised(DType t) { return Info(t).cell > 0; }
constexpr bool IsWeightType(DType t) {
  return t == DType::kF32 || t == DType::kF16 || t == DType::kBF16 || IsQuantised(t);
}
// Bytes of a row of n elements; n must be a multiple of the block.
constexpr int64_t RowBytes(DType t, int64_t n) { return n / Info(t).block * Info(t).bytes; }
// Smallest width at which a K-split may cut a tensor of this type (docs/exactness.md, section 2).
constexpr int SplitUnit(DType t) { return IsQuantised(t) ? Info(t).block : 2; }

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

inline constexpr int kPanel = 16;  // columns of a packed weight are padded to a multiple of it
// Bytes that a packed weight of n columns over k holds; the same for every instruction set.
int64_t PackedBytes(DType dtype, int64_t n, int64_t k);
// Bytes that m rows of k activations need once packed for a product, of whatever weight type and instruction set.
int64_t PackedActivationBytes(int64_t m, int64_t k);
// Bytes of one extent of KV pages: one (layer, KV head, block, K or V). dtype: kF16, kBF16 or kI8.
int64_t KvExtentBytes(DType dtype, int block_tokens, int head_dim);

inline constexpr int kPartition = 128;  // absolute positions of an attention partial (docs/exactness.md, section 4)
inline constexpr int kMaxQueries = 32;  // (row, head) pairs that attention computes together
inline constexpr int kPartialsAThread = 16;  // full tiles that wait for their fold, where partitions are spread out
// Floats of one query's partial: m, l, padding to 16, then o padded to 16.
constexpr int64_t AttentionStride(int64_t head_dim) { return 16 + (head_dim + 15) / 16 * 16; }
// Bytes that attention works in, whatever the step: bounded by what so many threads fill at a time.
int64_t AttentionScratchBytes(int threads, int64_t head_dim);

// What the batches of one agent have in common (kernels/batch.h).
struct BatchShape {
  int64_t rows = 0, slots = 0;  // at most
  int64_t stride = 0;           // blocks of one slot's table, at most
  int block_tokens = 16;
  std::vector<int32_t> kv_of_head;  // [heads of this rank] -> KV head of this rank; ascending from 0
  std::vector<int> windows;         // of this agent's layers, each once
};
inline constexpr int kAttentionItemBytes = 32;
int64_t MaxAttentionItems(const BatchShape& shape);  // of one window
int64_t BatchBytes(const BatchShape& shape);

}  // namespace pangea
