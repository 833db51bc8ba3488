// Element types of tensors as they lie in checkpoints and in caches. No dependency: the planner includes this file
// alone.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace pangea {

enum class DType : uint8_t { kF32, kF16, kBF16, kI8, kI32, kI64, kU8, kQ8_0, kQ4_0, kQ4_1, kF64, kBool };

struct DTypeInfo {
  std::string_view name;  // "f32", "q8_0", …
  int block;              // elements a block (1 for plain types)
  int bytes;              // bytes a block
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
      return {"q8_0", 32, 34};
    case DType::kQ4_0:
      return {"q4_0", 32, 18};
    case DType::kQ4_1:
      return {"q4_1", 32, 20};
    case DType::kF64:
      return {"f64", 1, 8};
    case DType::kBool:
      return {"bool", 1, 1};
  }
  return {"?", 1, 0};
}
constexpr bool IsQuantised(DType t) { return t == DType::kQ8_0 || t == DType::kQ4_0 || t == DType::kQ4_1; }
constexpr bool IsWeightType(DType t) {
  return t == DType::kF32 || t == DType::kF16 || t == DType::kBF16 || IsQuantised(t);
}
// Bytes of a row of n elements; n must be a multiple of the block.
constexpr int64_t RowBytes(DType t, int64_t n) { return n / Info(t).block * Info(t).bytes; }
// Smallest width at which a K-split may cut a tensor of this type (docs/exactness.md, section 2).
constexpr int SplitUnit(DType t) { return IsQuantised(t) ? 32 : 2; }

}  // namespace pangea
