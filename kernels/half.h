// Conversions between f32 and the two 16-bit formats, and the one of 8 bits, on bits alone: rounding to nearest even,
// whatever MXCSR says; NaN stays NaN (quiet, upper payload kept, as vcvtps2ph does). Always inlined: files compiled for
// different instruction sets include this one.
#pragma once
#include <bit>
#include <cstdint>

namespace pangea {

#ifndef PANGEA_INLINE  // a compiler of devices says it otherwise
#define PANGEA_INLINE inline __attribute__((always_inline))
#endif

PANGEA_INLINE float Bf16ToF32(uint16_t h) { return __builtin_bit_cast(float, static_cast<uint32_t>(h) << 16); }

PANGEA_INLINE uint16_t F32ToBf16(float f) {
  const uint32_t u = __builtin_bit_cast(uint32_t, f);
  if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((u >> 16) | 0x40u);
  return static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

PANGEA_INLINE float F16ToF32(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  uint32_t mantissa = h & 0x3ffu;
  uint32_t exponent = (h >> 10) & 0x1fu;
  if (exponent == 0x1fu) {
    return __builtin_bit_cast(float, sign | 0x7f800000u | (mantissa << 13) | (mantissa != 0 ? 0x400000u : 0u));
  }
  if (exponent == 0) {
    if (mantissa == 0) return __builtin_bit_cast(float, sign);
    const int shift = __builtin_clz(mantissa) - 21;  // a subnormal of f16 is a normal number of f32
    mantissa = (mantissa << shift) & 0x3ffu;
    exponent = 1u - static_cast<uint32_t>(shift);  // wraps; the bias below brings it back
  }
  return __builtin_bit_cast(float, sign | ((exponent + 112u) << 23) | (mantissa << 13));
}

PANGEA_INLINE uint16_t F32ToF16(float f) {
  const uint32_t u = __builtin_bit_cast(uint32_t, f);
  const uint32_t sign = (u >> 16) & 0x8000u;
  const uint32_t a = u & 0x7fffffffu;
  if (a > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u | ((a >> 13) & 0x1ffu));
  if (a >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // 65520 and up round to infinity
  if (a >= 0x38800000u) return static_cast<uint16_t>(sign | ((a - 0x38000000u + 0xfffu + ((a >> 13) & 1u)) >> 13));
  if (a < 0x33000000u) return static_cast<uint16_t>(sign);  // below half the smallest subnormal
  const int shift = 126 - static_cast<int>(a >> 23);        // 14..24: bits that fall off the 24-bit significand
  const uint32_t significand = (a & 0x7fffffu) | 0x800000u;
  const uint32_t kept = significand >> shift;
  const uint32_t rest = significand & ((1u << shift) - 1u);
  const uint32_t half = 1u << (shift - 1);
  return static_cast<uint16_t>(sign | (kept + ((rest > half || (rest == half && (kept & 1u))) ? 1u : 0u)));
}

// E4M3 as a number of f16, a 256th as large: that has all of its numbers, the subnormal ones too. NaN becomes 480 /
// 256.
PANGEA_INLINE uint16_t F8AsF16(uint8_t q) { return static_cast<uint16_t>((q & 0x80u) << 8 | (q & 0x7fu) << 7); }
PANGEA_INLINE float F8ToF32(uint8_t q) {
  const uint16_t nan = (q & 0x7fu) == 0x7fu ? 0x7c00u : 0;
  return F16ToF32(static_cast<uint16_t>(F8AsF16(q) | nan)) * 256.0f;
}
// Larger numbers become 448; infinities NaN.
PANGEA_INLINE uint8_t F32ToF8(float f) {
  const uint32_t u = __builtin_bit_cast(uint32_t, f), sign = u >> 24 & 0x80u, a = u & 0x7fffffffu;
  if (a >= 0x7f800000u) return static_cast<uint8_t>(sign | 0x7fu);
  if (a >= 0x43e00000u) return static_cast<uint8_t>(sign | 0x7eu);
  if (a >= 0x3c800000u) return static_cast<uint8_t>(sign | ((a - 0x3c000000u + 0x7ffffu + (a >> 20 & 1u)) >> 20));
  if (a < 0x3a000000u) return static_cast<uint8_t>(sign);  // below a quarter of the smallest, 2^-9
  const int shift = 141 - static_cast<int>(a >> 23);       // 21..25 bits that fall off the 24-bit significand
  const uint32_t significand = (a & 0x7fffffu) | 0x800000u, kept = significand >> shift;
  const uint32_t rest = significand & ((1u << shift) - 1u), half = 1u << (shift - 1);
  return static_cast<uint8_t>(sign | (kept + ((rest > half || (rest == half && (kept & 1u))) ? 1u : 0u)));
}

}  // namespace pangea
