// Weights that are made up, on any device: word i of 32 bits of a weight of this type, packed or not. Numbers of 16 and
// 32 bits are between 2^-7 and 2^-5 and of either sign; in quantised types no byte is above 0x1f, so that every scale,
// wherever it lies, is small and finite.
#pragma once
#include <cstdint>

#include "kernels/half.h"
#include "kernels/types.h"

namespace pangea {

PANGEA_INLINE uint32_t MadeUpWord(uint64_t i, DType dtype) {
  uint64_t mixed = (i + 1) * 0x9E3779B97F4A7C15ull;  // splitmix64 (Steele et al., 2014), less its last step
  mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9ull;
  const uint32_t random = static_cast<uint32_t>(mixed >> 32);
  switch (dtype) {
    case DType::kF32:
      return 0x3C000000u | (random & 0x80ffffffu);
    case DType::kF16:
      return 0x24002400u | (random & 0x83ff83ffu);
    case DType::kBF16:
      return 0x3C003C00u | (random & 0x80ff80ffu);
    default:
      return random & 0x1f1f1f1fu;
  }
}

}  // namespace pangea
