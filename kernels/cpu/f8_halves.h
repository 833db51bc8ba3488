// Sixteen numbers of E4M3 as f16, a 256th of each (half.h, F8AsF16), by AVX2. Always inlined, as both classes of
// instruction sets include it.
#pragma once
#include <immintrin.h>

#include <cstdint>

#include "kernels/half.h"

namespace pangea {

// nan: NaN is NaN; else there is none.
template <bool nan>
PANGEA_INLINE __m256i F8AsHalves(const void* p) {
  const __m256i words = _mm256_cvtepi8_epi16(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  const __m256i half = _mm256_and_si256(_mm256_slli_epi16(words, 7), _mm256_set1_epi16(static_cast<int16_t>(0xbf80)));
  if constexpr (!nan) return half;
  const __m256i top = _mm256_set1_epi16(0x3f80), is_nan = _mm256_cmpeq_epi16(_mm256_and_si256(half, top), top);
  return _mm256_or_si256(half, _mm256_and_si256(is_nan, _mm256_set1_epi16(0x7c00)));
}

}  // namespace pangea
