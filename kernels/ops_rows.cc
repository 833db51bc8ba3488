// Front ends of the row ops: work cut over the pool where it pays.
#include <algorithm>
#include <functional>

#include "kernels/backend.h"
#include "kernels/check.h"

namespace pangea {
namespace {

constexpr int64_t kGrainElements = 16 * 1024;  // below this another thread is not worth waking

// f(begin, end) over rows of `width` elements each.
template <class F>
void ForRows(int64_t m, int64_t width, ThreadPool& pool, F&& f) {
  PANGEA_DCHECK(HasComputeFloatMode());
  pool.For(m, std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, width)), std::ref(f));
}

}  // namespace

void RmsNorm(const float* x, const float* w, float eps, int64_t m, int64_t d, float* y, ThreadPool& pool) {
  auto f = [&](int64_t b, int64_t e) { CurrentBackend().rms_norm(x + b * d, d, w, eps, e - b, d, y + b * d, d); };
  ForRows(m, d, pool, f);
}

void RmsNormHeads(float* x, const float* w, float eps, int64_t m, int64_t ld, int heads, int64_t d, ThreadPool& pool) {
  auto f = [&](int64_t b, int64_t e) {
    for (int64_t i = b; i < e; ++i) CurrentBackend().rms_norm(x + i * ld, d, w, eps, heads, d, x + i * ld, d);
  };
  ForRows(m, heads * d, pool, f);
}

void LayerNorm(const float* x, const float* w, const float* b, float eps, int64_t m, int64_t d, float* y,
               ThreadPool& pool) {
  auto f = [&](int64_t begin, int64_t end) {
    CurrentBackend().layer_norm(x + begin * d, w, b, eps, end - begin, d, y + begin * d);
  };
  ForRows(m, d, pool, f);
}

void AddBias(float* y, const float* b, int64_t m, int64_t n, int64_t ldy, ThreadPool& pool) {
  auto f = [&](int64_t begin, int64_t end) { CurrentBackend().add_rows(y + begin * ldy, ldy, b, end - begin, n); };
  ForRows(m, n, pool, f);
}

void Sum(const float* a, const float* b, float* y, int64_t n, ThreadPool& pool) {
  PANGEA_DCHECK(HasComputeFloatMode());
  auto f = [&](int64_t begin, int64_t end) { CurrentBackend().sum(a + begin, b + begin, y + begin, end - begin); };
  pool.For(n, kGrainElements, std::ref(f));
}

void Add(float* y, const float* x, int64_t n, ThreadPool& pool) { Sum(y, x, y, n, pool); }

void Rope(float* x, const int32_t* positions, int64_t m, int64_t ld, int heads, int64_t head_dim, int64_t rot,
          RopePairs pairs, const float* cos, const float* sin, ThreadPool& pool) {
  PANGEA_CHECK(rot % 2 == 0 && rot <= head_dim);
  const RopeArgs args{x, positions, ld, heads, head_dim, rot, pairs, cos, sin};
  auto f = [&](int64_t b, int64_t e) { CurrentBackend().rope(args, b, e); };
  ForRows(m, heads * rot, pool, f);
}

void Scale(float* x, float s, int64_t m, int64_t n, int64_t ld, ThreadPool& pool) {
  auto f = [&](int64_t b, int64_t e) { CurrentBackend().scale(x + b * ld, ld, s, e - b, n); };
  ForRows(m, n, pool, f);
}

void GateUp(Gate act, const float* g, int64_t ldg, const float* u, int64_t ldu, int64_t m, int64_t n, float* y,
            int64_t ldy, ThreadPool& pool) {
  const GateArgs args{act, g, ldg, u, ldu, n, y, ldy};
  auto f = [&](int64_t b, int64_t e) { CurrentBackend().gate(args, b, e); };
  ForRows(m, 8 * n, pool, f);  // an exp and a division cost about eight plain operations
}

// ---------------------------------------------------------------------------------------------------- logits

void LseChunks(const float* x, int64_t n, float* out) { CurrentBackend().lse_chunks(x, n, out); }
float LseFold(const float* pairs, int64_t chunks) { return CurrentBackend().lse_fold(pairs, chunks); }
float ExpExact(float x) { return CurrentBackend().exp(x); }
float LogExact(float x) { return CurrentBackend().log(x); }

int64_t GumbelArgmax(const float* x, int64_t n, int64_t first, uint64_t seed, uint32_t position, uint32_t choice,
                     float* value) {
  return CurrentBackend().gumbel_argmax(x, n, first, seed, position, choice, value);
}
int64_t Argmax(const float* x, int64_t n, float* value) { return CurrentBackend().argmax(x, n, value); }
bool AllFinite(const float* x, int64_t n) { return CurrentBackend().all_finite(x, n); }

}  // namespace pangea
