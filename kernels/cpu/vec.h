// Sixteen lanes of f32 and of 32-bit integers, the same names for every instruction set class: F32, I32, Mask and the
// free functions below them. PANGEA_ISA (a namespace) and PANGEA_ISA_VEC (the header) come from CMake, once per class;
// every file of cpu/ is compiled once with each. Rules for those files: no function of std (its inline copies would
// carry the newer instructions into the whole program), no libm, FMA only where written.
#pragma once
#include PANGEA_ISA_VEC

namespace pangea::PANGEA_ISA {

template <class T>
constexpr PANGEA_INLINE T Smaller(T a, T b) {
  return a < b ? a : b;
}
template <class T>
constexpr PANGEA_INLINE T Larger(T a, T b) {
  return a > b ? a : b;
}

PANGEA_INLINE F32 LoadBf16Partial(const void* p, int64_t n) { return AsFloat(ShiftLeft<16>(LoadU16Partial(p, n))); }
PANGEA_INLINE F32 LoadI8(const void* p) { return ToFloat(LoadS8(p)); }
PANGEA_INLINE F32 LoadI8Partial(const void* p, int64_t n) { return ToFloat(LoadS8Partial(p, n)); }
PANGEA_INLINE F32 LoadF8(const void* p) { return Mul(LoadF8Of256<true>(p), F32(256.0f)); }

// The 16 upper bits, rounded to nearest even; NaN stays NaN (half.h, F32ToBf16).
PANGEA_INLINE I32 Bf16Bits(F32 a) {
  const I32 u = AsInt(a);
  const I32 rounded = ShiftRight<16>(AddInt(AddInt(u, I32(0x7fff)), AndInt(ShiftRight<16>(u), I32(1))));
  const Mask nan = LessInt(I32(0x7f800000), AndInt(u, I32(0x7fffffff)));
  return SelectInt(nan, OrInt(ShiftRight<16>(u), I32(0x40)), rounded);
}
// E4M3, as half.h's F32ToF8 has it: what is below 2^-6 is a multiple of 2^-9, the last place of 2^14.
PANGEA_INLINE I32 F8Bits(F32 v) {
  const I32 u = AsInt(v), a = AndInt(u, I32(0x7fffffff)), even = AndInt(ShiftRight<20>(a), I32(1));
  const I32 normal = ShiftRight<20>(AddInt(AddInt(a, I32(0x7ffff - 0x3c000000)), even));
  const I32 small = SubInt(AsInt(Add(AsFloat(a), F32(16384.0f))), I32(0x46800000));
  I32 q = SelectInt(LessInt(a, I32(0x3c800000)), small, normal);
  q = SelectInt(LessInt(I32(0x43dfffff), a), I32(0x7e), q);
  q = SelectInt(LessInt(I32(0x7f7fffff), a), I32(0x7f), q);
  return OrInt(q, AndInt(ShiftRight<24>(u), I32(0x80)));
}

// Up to 16 of n elements from p + i.
PANGEA_INLINE F32 LoadSome(const float* p, int64_t left) { return left >= 16 ? Load(p) : LoadPartial(p, left); }
PANGEA_INLINE void StoreSome(float* p, F32 v, int64_t left) {
  if (left >= 16) {
    Store(p, v);
  } else {
    StorePartial(p, v, left);
  }
}

}  // namespace pangea::PANGEA_ISA
