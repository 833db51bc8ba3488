// exp, log, log1p, tanh, erf and the gates: ONE text for the scalar reference and for every vector class, so that all
// of them give the same bits. V is a lane type (a scalar wrapper or 16 lanes) whose header brings the free functions
// used below; V::Int is its 32-bit integer twin. Every rounding is explicit. Polynomials: Cephes (expf, logf, tanhf),
// N. Juffa (erff).
#pragma once
#include "kernels/half.h"

namespace pangea {

// Exactly 0 below -87, +inf above the logarithm of the largest float, NaN for NaN.
template <class V>
PANGEA_INLINE V Exp(V x) {
  using Int = typename V::Int;
  const V n = RoundEven(Mul(x, V(1.44269504088896341f)));
  V r = Fma(n, V(-0.693359375f), x);
  r = Fma(n, V(2.12194440e-4f), r);
  V p = V(1.9875691500e-4f);
  p = Fma(p, r, V(1.3981999507e-3f));
  p = Fma(p, r, V(8.3334519073e-3f));
  p = Fma(p, r, V(4.1665795894e-2f));
  p = Fma(p, r, V(1.6666665459e-1f));
  p = Fma(p, r, V(5.0000001201e-1f));
  const V y = Add(Fma(p, Mul(r, r), r), V(1.0f));
  // 2^n onto the exponent in bits. Between the limits n is -126..128 (with y < 1 at 128) and the result a normal
  // number; NaN keeps its bits, since ToInt makes it the smallest integer.
  const V scaled = AsFloat(AddInt(AsInt(y), ShiftLeft<23>(ToInt(n))));
  const V capped = Select(Less(V(88.72283f), x), AsFloat(Int(0x7f800000)), scaled);
  return Select(Less(x, V(-87.0f)), V(0.0f), capped);
}

// Subnormal arguments count as 0 (-inf), negative ones give NaN.
template <class V>
PANGEA_INLINE V Log(V x) {
  using Int = typename V::Int;
  // x = 2^e * m with m in [sqrt(1/2), sqrt(2)): adding 1 - sqrt(1/2) in bits makes the exponent step there.
  const Int shifted = AddInt(AsInt(x), Int(0x3f800000 - 0x3f3504f3));
  const Int e = SubInt(ShiftRightSigned<23>(shifted), Int(127));
  const V m = AsFloat(AddInt(AndInt(shifted, Int(0x007fffff)), Int(0x3f3504f3)));
  const V f = Sub(m, V(1.0f));
  const V k = ToFloat(e);
  const V z = Mul(f, f);
  V p = V(7.0376836292e-2f);
  p = Fma(p, f, V(-1.1514610310e-1f));
  p = Fma(p, f, V(1.1676998740e-1f));
  p = Fma(p, f, V(-1.2420140846e-1f));
  p = Fma(p, f, V(1.4249322787e-1f));
  p = Fma(p, f, V(-1.6668057665e-1f));
  p = Fma(p, f, V(2.0000714765e-1f));
  p = Fma(p, f, V(-2.4999993993e-1f));
  p = Fma(p, f, V(3.3333331174e-1f));
  V y = Mul(Mul(p, f), z);
  y = Fma(k, V(-2.12194440e-4f), y);
  y = Fma(z, V(-0.5f), y);
  V result = Fma(k, V(0.693359375f), Add(f, y));
  const V infinity = AsFloat(Int(0x7f800000));
  result = Select(Less(x, infinity), result, x);                                    // +inf, NaN
  result = Select(Less(x, V(1.17549435e-38f)), AsFloat(Int(-0x00800000)), result);  // -inf
  return Select(Less(x, V(0.0f)), AsFloat(Int(0x7fc00000)), result);
}

// log(1 + y) for -1 <= y <= 0.
template <class V>
PANGEA_INLINE V Log1p(V y) {
  const V u = Add(V(1.0f), y);
  const V lost = Sub(y, Sub(u, V(1.0f)));  // exact; 0 when y <= -1/2
  // log(u + lost) = log(u) + lost / u; 1 - y stands for 1 / u, near enough for a term below half an ulp of 1.
  return Add(Log(u), Fma(lost, Neg(y), lost));
}

template <class V>
PANGEA_INLINE V Tanh(V x) {
  const V a = Abs(x);
  const V z = Mul(x, x);
  V p = V(-5.70498872745e-3f);
  p = Fma(p, z, V(2.06390887954e-2f));
  p = Fma(p, z, V(-5.37397155531e-2f));
  p = Fma(p, z, V(1.33314422036e-1f));
  p = Fma(p, z, V(-3.33332819422e-1f));
  const V small = Fma(Mul(p, z), x, x);
  const V big = Sub(V(1.0f), Div(V(2.0f), Add(Exp(Add(a, a)), V(1.0f))));
  return Select(Less(a, V(0.625f)), small, CopySign(big, x));
}

template <class V>
PANGEA_INLINE V Erf(V x) {
  const V t = Abs(x);
  const V s = Mul(x, x);
  V r = Fma(V(-1.72853470e-5f), t, V(3.83197126e-4f));
  const V u = Fma(V(-3.88396438e-3f), t, V(2.42546219e-2f));
  r = Fma(r, s, u);
  r = Fma(r, t, V(-1.06777877e-1f));
  r = Fma(r, t, V(-6.34846687e-1f));
  r = Fma(r, t, V(-1.28717512e-1f));
  r = Fma(r, t, Neg(t));
  const V big = CopySign(Sub(V(1.0f), Exp(r)), x);
  V q = V(-5.96761703e-4f);
  q = Fma(q, s, V(4.99119423e-3f));
  q = Fma(q, s, V(-2.67681349e-2f));
  q = Fma(q, s, V(1.12819925e-1f));
  q = Fma(q, s, V(-3.76125336e-1f));
  q = Fma(q, s, V(1.28379166e-1f));
  const V small = Fma(q, x, x);
  // The polynomial of the large branch turns back up far out, where erf has long been 1.
  return Select(Less(V(0.927734375f), t), Select(Less(V(4.0f), t), CopySign(V(1.0f), x), big), small);
}

// The activation functions of Gate, in its order.
struct SiluText {
  template <class V>
  static PANGEA_INLINE V Apply(V g) {
    return Div(g, Add(V(1.0f), Exp(Neg(g))));
  }
};
struct GeluErfText {
  template <class V>
  static PANGEA_INLINE V Apply(V g) {
    return Mul(Mul(V(0.5f), g), Add(V(1.0f), Erf(Mul(g, V(0.70710678118654752f)))));
  }
};
struct GeluTanhText {
  template <class V>
  static PANGEA_INLINE V Apply(V g) {
    const V inner = Fma(Mul(Mul(g, g), g), V(0.044715f), g);
    return Mul(Mul(V(0.5f), g), Add(V(1.0f), Tanh(Mul(inner, V(0.79788456080286536f)))));
  }
};
struct GeluQuickText {
  template <class V>
  static PANGEA_INLINE V Apply(V g) {
    return Div(g, Add(V(1.0f), Exp(Neg(Mul(g, V(1.702f))))));
  }
};
struct ReluText {
  template <class V>
  static PANGEA_INLINE V Apply(V g) {
    // NaN stays. max may or may not hand a subnormal through (it depends on the instruction); the addition flushes it.
    return Add(Max(V(0.0f), g), V(0.0f));
  }
};

// Standard Gumbel from 32 random bits, given as their two halves (docs/exactness.md, section 5).
template <class V>
PANGEA_INLINE V Gumbel(typename V::Int bits) {
  using Int = typename V::Int;
  const V high = ToFloat(AndInt(ShiftRightSigned<16>(bits), Int(0xffff)));
  const V low = ToFloat(AndInt(bits, Int(0xffff)));
  const V c = Fma(high, V(65536.0f), low);  // the unsigned integer, rounded once
  const V v = Fma(c, V(0x1p-32f), V(0x1p-33f));
  return Neg(Log(Neg(Log1p(Neg(v)))));
}

}  // namespace pangea
