// Stored blocks of the quantised formats taken apart. The layouts are GGUF's:
// https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h (block_q8_0 and on) and dequantize_row_* of
// ggml-quants.c beside it.
#include <cstring>

#include "kernels/types.h"

namespace pangea {
namespace {

uint8_t Byte(const std::byte* p) { return static_cast<uint8_t>(*p); }

uint16_t Half(const std::byte* p) {
  uint16_t h;
  std::memcpy(&h, p, 2);
  return h;
}

// d, for formats with one scale a block; 1 times m is their minimum.
void OneScale(const std::byte* d, const std::byte* m, QuantBlock* block) {
  block->d = Half(d);
  block->m = m == nullptr ? uint16_t{0} : Half(m);
  block->scales[0] = block->minima[0] = 1;
}

// n bytes of two numbers: the low ones are q[0..n), the high ones q[n..2n).
void Nibbles(const std::byte* stored, int n, uint8_t* q) {
  for (int i = 0; i < n; ++i) {
    q[i] = Byte(stored + i) & 15;
    q[n + i] = Byte(stored + i) >> 4;
  }
}

// The fifth bits of 32 numbers lie in one word, in their order.
void FifthBits(const std::byte* stored, uint8_t* q) {
  uint32_t word;
  std::memcpy(&word, stored, 4);
  for (int i = 0; i < 32; ++i) q[i] |= static_cast<uint8_t>((word >> i & 1) << 4);
}

// d, the d of the minima, then 8 scales and 8 minima of 6 bits in 12 bytes. A minimum is subtracted: m is the negative.
void SixBitScales(const std::byte* stored, QuantBlock* block) {
  block->d = Half(stored);
  block->m = Half(stored + 2) ^ 0x8000u;
  const std::byte* packed = stored + 4;
  for (int i = 0; i < 4; ++i) {
    const int first = Byte(packed + i), second = Byte(packed + 4 + i), upper = Byte(packed + 8 + i);
    block->scales[i] = static_cast<int8_t>(first & 63);
    block->minima[i] = static_cast<int8_t>(second & 63);
    block->scales[4 + i] = static_cast<int8_t>((upper & 15) | first >> 6 << 4);
    block->minima[4 + i] = static_cast<int8_t>(upper >> 4 | second >> 6 << 4);
  }
}

}  // namespace

// f16 d, 32 int8.
void TakeApartQ8_0(const std::byte* stored, QuantBlock* block) {
  OneScale(stored, nullptr, block);
  for (int i = 0; i < 32; ++i) block->q[i] = Byte(stored + 2 + i) ^ 0x80;  // w + 128
}

// f16 d, 16 bytes of two numbers.
void TakeApartQ4_0(const std::byte* stored, QuantBlock* block) {
  OneScale(stored, nullptr, block);
  Nibbles(stored + 2, 16, block->q);
}

// f16 d, f16 m, 16 bytes of two numbers.
void TakeApartQ4_1(const std::byte* stored, QuantBlock* block) {
  OneScale(stored, stored + 2, block);
  Nibbles(stored + 4, 16, block->q);
}

// f16 d, a word of fifth bits, 16 bytes of two numbers.
void TakeApartQ5_0(const std::byte* stored, QuantBlock* block) {
  OneScale(stored, nullptr, block);
  Nibbles(stored + 6, 16, block->q);
  FifthBits(stored + 2, block->q);
}

// f16 d, f16 m, a word of fifth bits, 16 bytes of two numbers.
void TakeApartQ5_1(const std::byte* stored, QuantBlock* block) {
  OneScale(stored, stored + 2, block);
  Nibbles(stored + 8, 16, block->q);
  FifthBits(stored + 4, block->q);
}

// 16 bytes of scales, 128 bytes of two numbers: 32 bytes at a time are 64 weights.
void TakeApartQ4K(const std::byte* stored, QuantBlock* block) {
  SixBitScales(stored, block);
  for (int part = 0; part < 4; ++part) Nibbles(stored + 16 + 32 * part, 32, block->q + 64 * part);
}

// 16 bytes of scales, 32 bytes of fifth bits (byte i has those of weights i, 32 + i, …), then as Q4_K.
void TakeApartQ5K(const std::byte* stored, QuantBlock* block) {
  SixBitScales(stored, block);
  for (int part = 0; part < 4; ++part) Nibbles(stored + 48 + 32 * part, 32, block->q + 64 * part);
  for (int part = 0; part < 8; ++part) {
    for (int i = 0; i < 32; ++i) {
      block->q[32 * part + i] |= static_cast<uint8_t>((Byte(stored + 16 + i) >> part & 1) << 4);
    }
  }
}

// 128 bytes of two numbers, 64 bytes of upper bit pairs, 16 int8 scales, f16 d. Of each half of the block, 64 bytes are
// 128 weights, and byte i of 32 has the upper bits of weights i, 32 + i, 64 + i and 96 + i.
void TakeApartQ6K(const std::byte* stored, QuantBlock* block) {
  block->d = Half(stored + 208);
  block->m = 0;
  std::memcpy(block->scales, stored + 192, 16);
  for (int half = 0; half < 2; ++half) {
    uint8_t* q = block->q + 128 * half;
    Nibbles(stored + 64 * half, 64, q);
    for (int part = 0; part < 4; ++part) {
      for (int i = 0; i < 32; ++i) {
        q[32 * part + i] |= static_cast<uint8_t>((Byte(stored + 128 + 32 * half + i) >> 2 * part & 3) << 4);
      }
    }
  }
}

}  // namespace pangea
