// Row ops: docs/exactness.md section 1, items 5 and 7.
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/vec.h"
#include "kernels/exact_math.h"

namespace pangea::PANGEA_ISA {
namespace {

PANGEA_INLINE float SquareRoot(float x) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))); }

// lanes = step(lanes, x[i..i+16)); lanes past the end keep what they have.
template <class Step>
PANGEA_INLINE float SumLanes(const float* x, int64_t d, Step&& step) {
  F32 lanes(0.0f);
  int64_t j = 0;
  for (; j + 16 <= d; j += 16) lanes = step(lanes, Load(x + j));
  if (j < d) lanes = Select(FirstN(d - j), step(lanes, LoadPartial(x + j, d - j)), lanes);
  return LaneSum(lanes);
}

}  // namespace

void RmsNorm(const float* x, int64_t ldx, const float* w, float eps, int64_t m, int64_t d, float* y, int64_t ldy) {
  for (int64_t i = 0; i < m; ++i, x += ldx, y += ldy) {
    const float sum = SumLanes(x, d, [](F32 s, F32 v) __attribute__((always_inline)) { return Fma(v, v, s); });
    const F32 root(SquareRoot(sum / static_cast<float>(d) + eps));
    for (int64_t j = 0; j < d; j += 16) {
      F32 v = Div(LoadSome(x + j, d - j), root);
      if (w != nullptr) v = Mul(v, LoadSome(w + j, d - j));
      StoreSome(y + j, v, d - j);
    }
  }
}

void LayerNorm(const float* x, const float* w, const float* b, float eps, int64_t m, int64_t d, float* y) {
  for (int64_t i = 0; i < m; ++i, x += d, y += d) {
    const F32 mean(SumLanes(x, d, [](F32 s, F32 v) __attribute__((always_inline)) { return Add(s, v); }) /
                   static_cast<float>(d));
    const float squares = SumLanes(x, d, [mean](F32 s, F32 v) __attribute__((always_inline)) {
      const F32 centred = Sub(v, mean);
      return Fma(centred, centred, s);
    });
    const F32 root(SquareRoot(squares / static_cast<float>(d) + eps));
    for (int64_t j = 0; j < d; j += 16) {
      const F32 normed = Div(Sub(LoadSome(x + j, d - j), mean), root);
      const F32 weight = LoadSome(w + j, d - j);
      StoreSome(y + j, b != nullptr ? Fma(normed, weight, LoadSome(b + j, d - j)) : Mul(normed, weight), d - j);
    }
  }
}

void Sum(const float* a, const float* b, float* y, int64_t n) {
  for (int64_t j = 0; j < n; j += 16) StoreSome(y + j, Add(LoadSome(a + j, n - j), LoadSome(b + j, n - j)), n - j);
}

void AddRows(float* y, int64_t ldy, const float* b, int64_t m, int64_t n) {
  for (int64_t i = 0; i < m; ++i) Sum(y + i * ldy, b, y + i * ldy, n);
}

void Scale(float* x, int64_t ld, float s, int64_t m, int64_t n) {
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; j += 16) StoreSome(x + i * ld + j, Mul(LoadSome(x + i * ld + j, n - j), F32(s)), n - j);
  }
}

namespace {

PANGEA_INLINE void RotateHalves(float* x, int64_t half, const float* cos, const float* sin) {
  for (int64_t p = 0; p < half; p += 16) {
    const int64_t left = half - p;
    const F32 a = LoadSome(x + p, left), b = LoadSome(x + half + p, left);
    const F32 c = LoadSome(cos + p, left), s = LoadSome(sin + p, left);
    StoreSome(x + p, Fma(a, c, Neg(Mul(b, s))), left);
    StoreSome(x + half + p, Fma(b, c, Mul(a, s)), left);
  }
}

PANGEA_INLINE void RotateAdjacent(float* x, int64_t half, const float* cos, const float* sin) {
  int64_t p = 0;
  for (; p + 8 <= half; p += 8) {
    const F32 v = Load(x + 2 * p);
    Store(x + 2 * p, Fma(v, LoadTwice(cos + p), NegEven(Mul(SwapPairs(v), LoadTwice(sin + p)))));
  }
  for (; p < half; ++p) {
    const float a = x[2 * p], b = x[2 * p + 1];
    x[2 * p] = __builtin_fmaf(a, cos[p], -(b * sin[p]));
    x[2 * p + 1] = __builtin_fmaf(b, cos[p], a * sin[p]);
  }
}

}  // namespace

void Rope(const RopeArgs& args, int64_t row_begin, int64_t row_end) {
  const int64_t half = args.rot / 2;
  for (int64_t i = row_begin; i < row_end; ++i) {
    const float* cos = args.cos + args.positions[i] * half;
    const float* sin = args.sin + args.positions[i] * half;
    for (int h = 0; h < args.heads; ++h) {
      float* x = args.x + i * args.ld + h * args.head_dim;
      args.pairs == RopePairs::kHalves ? RotateHalves(x, half, cos, sin) : RotateAdjacent(x, half, cos, sin);
    }
  }
}

namespace {
template <class Text>
void Apply(const GateArgs& args, int64_t row_begin, int64_t row_end) {
  for (int64_t i = row_begin; i < row_end; ++i) {
    const float* g = args.g + i * args.ldg;
    const float* u = args.u != nullptr ? args.u + i * args.ldu : nullptr;
    float* y = args.y + i * args.ldy;
    for (int64_t j = 0; j < args.n; j += 16) {
      F32 v = Text::Apply(LoadSome(g + j, args.n - j));
      if (u != nullptr) v = Mul(v, LoadSome(u + j, args.n - j));
      StoreSome(y + j, v, args.n - j);
    }
  }
}
}  // namespace

void GateUp(const GateArgs& args, int64_t row_begin, int64_t row_end) {
  switch (args.act) {
    case Gate::kSilu:
      return Apply<SiluText>(args, row_begin, row_end);
    case Gate::kGeluErf:
      return Apply<GeluErfText>(args, row_begin, row_end);
    case Gate::kGeluTanh:
      return Apply<GeluTanhText>(args, row_begin, row_end);
    case Gate::kGeluQuick:
      return Apply<GeluQuickText>(args, row_begin, row_end);
    case Gate::kRelu:
      return Apply<ReluText>(args, row_begin, row_end);
  }
}

}  // namespace pangea::PANGEA_ISA
