// Row ops as plain scalar loops: docs/exactness.md section 1, items 5 and 7.
#include <cmath>

#include "kernels/exact_math.h"
#include "kernels/reference/reference.h"
#include "kernels/reference/scalar.h"

namespace pangea::reference {

void RmsNorm(const float* x, int64_t ldx, const float* w, float eps, int64_t m, int64_t d, float* y, int64_t ldy) {
  for (int64_t i = 0; i < m; ++i, x += ldx, y += ldy) {
    float lanes[16] = {};
    for (int64_t j = 0; j < d; ++j) lanes[j % 16] = std::fmaf(x[j], x[j], lanes[j % 16]);
    const float root = std::sqrt(LaneSum(lanes) / static_cast<float>(d) + eps);
    for (int64_t j = 0; j < d; ++j) {
      const float normed = x[j] / root;
      y[j] = w != nullptr ? normed * w[j] : normed;
    }
  }
}

void LayerNorm(const float* x, const float* w, const float* b, float eps, int64_t m, int64_t d, float* y) {
  for (int64_t i = 0; i < m; ++i, x += d, y += d) {
    float lanes[16] = {};
    for (int64_t j = 0; j < d; ++j) lanes[j % 16] = lanes[j % 16] + x[j];
    const float mean = LaneSum(lanes) / static_cast<float>(d);
    float squares[16] = {};
    for (int64_t j = 0; j < d; ++j) squares[j % 16] = std::fmaf(x[j] - mean, x[j] - mean, squares[j % 16]);
    const float root = std::sqrt(LaneSum(squares) / static_cast<float>(d) + eps);
    for (int64_t j = 0; j < d; ++j) {
      const float normed = (x[j] - mean) / root;
      y[j] = b != nullptr ? std::fmaf(normed, w[j], b[j]) : normed * w[j];
    }
  }
}

void AddRows(float* y, int64_t ldy, const float* b, int64_t m, int64_t n) {
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) y[i * ldy + j] = y[i * ldy + j] + b[j];
  }
}

void Sum(const float* a, const float* b, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = a[i] + b[i];
}

void Rope(const RopeArgs& args, int64_t row_begin, int64_t row_end) {
  const int64_t half = args.rot / 2;
  const bool halves = args.pairs == RopePairs::kHalves;
  for (int64_t i = row_begin; i < row_end; ++i) {
    const float* cos = args.cos + args.positions[i] * half;
    const float* sin = args.sin + args.positions[i] * half;
    for (int h = 0; h < args.heads; ++h) {
      float* x = args.x + i * args.ld + h * args.head_dim;
      for (int64_t p = 0; p < half; ++p) {
        float& first = x[halves ? p : 2 * p];
        float& second = x[halves ? p + half : 2 * p + 1];
        const float a = first, b = second, c = cos[p], s = sin[p];
        first = std::fmaf(a, c, -(b * s));
        second = std::fmaf(b, c, a * s);
      }
    }
  }
}

void Scale(float* x, int64_t ld, float s, int64_t m, int64_t n) {
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) x[i * ld + j] = x[i * ld + j] * s;
  }
}

namespace {
template <class Text>
void Apply(const GateArgs& args, int64_t row_begin, int64_t row_end) {
  for (int64_t i = row_begin; i < row_end; ++i) {
    for (int64_t j = 0; j < args.n; ++j) {
      const float g = Text::Apply(F32(args.g[i * args.ldg + j])).v;
      args.y[i * args.ldy + j] = args.u != nullptr ? g * args.u[i * args.ldu + j] : g;
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

}  // namespace pangea::reference
