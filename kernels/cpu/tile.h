// The leaf program around a tile of R rows x C vectors of 16 columns: docs/exactness.md section 2. A leaf's result
// stays in registers, takes the pending lower operands from the stack, and goes back onto it.
#pragma once
#include "kernels/backend.h"
#include "kernels/cpu/formats.h"
#include "kernels/cpu/vec.h"

namespace pangea::PANGEA_ISA {

// How far ahead of their use a tile's first rows ask for the weights. The processor's own prefetch stops at a page's
// end, and a panel of a small model is shorter than a page or two. A hint: past the end of the weights it fetches in
// vain.
constexpr int64_t kAheadBytes = 4096;

template <int R, int C>
PANGEA_INLINE void StoreTile(const ProductArgs& args, int vector, int64_t row, int64_t column, const F32* f) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    float* y = args.y + (vector * args.m + row + r) * args.ldy + column;
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) {
      const int64_t left = args.n - column - 16 * c;
      if (left > 0) StoreSome(y + 16 * c, f[r * C + c], left);
    }
  }
}

// leaf(k0, k1, f) adds the products over [k0, k1) to f[R * C], which it finds at +0.
template <int R, int C, class Leaf>
PANGEA_INLINE void RunProgram(const ProductArgs& args, int64_t row, int64_t column, Leaf&& leaf) {
  constexpr int kTile = R * C;
  F32 f[kTile];
  int top = 0;
  for (int i = 0;; ++i) {
#pragma GCC unroll 32
    for (int t = 0; t < kTile; ++t) f[t] = F32(0.0f);
    leaf(args.cuts[i], args.cuts[i + 1], f);
    for (int merge = 0; merge < args.merges[i]; ++merge) {
      const float* lower = args.stack + --top * (kTile * 16);
#pragma GCC unroll 32
      for (int t = 0; t < kTile; ++t) f[t] = Add(Load(lower + t * 16), f[t]);
    }
    if (i + 1 == args.leaves) break;
    float* to = args.stack + top++ * (kTile * 16);
#pragma GCC unroll 32
    for (int t = 0; t < kTile; ++t) Store(to + t * 16, f[t]);
  }
  StoreTile<R, C>(args, top, row, column, f);
  for (int v = 0; v < top; ++v) {
    const float* from = args.stack + v * (kTile * 16);
#pragma GCC unroll 32
    for (int t = 0; t < kTile; ++t) f[t] = Load(from + t * 16);
    StoreTile<R, C>(args, v, row, column, f);
  }
}

}  // namespace pangea::PANGEA_ISA
