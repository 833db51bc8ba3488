// Front ends of the row ops: work cut over the pool where it pays.
#include <algorithm>
#include <cstring>
#include <functional>

#include "kernels/backend.h"
#include "kernels/check.h"
#include "kernels/on_cpu.h"

namespace pangea {
namespace {

// f(begin, end) over rows of `width` elements each.
template <class F>
void ForRows(int64_t m, int64_t width, CpuQueue& cpu, F&& f) {
  PANGEA_DCHECK(HasComputeFloatMode());
  cpu.pool.For(m, std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, width)), std::ref(f));
}

}  // namespace

void RmsNorm(const NormArgs& a, Queue& queue) {
  CpuQueue& cpu = Cpu(queue);
  auto f = [&](int64_t b, int64_t e) {
    cpu.backend.rms_norm(a.x + b * a.d, a.d, a.w, a.eps, e - b, a.d, a.y + b * a.d, a.d);
  };
  ForRows(a.m, a.d, cpu, f);
}

void on_cpu::Norm(NormKind kind, const NormArgs& args, Queue& queue) {
  if (kind == NormKind::kRms) return RmsNorm(args, queue);
  LayerNorm(args, queue);
}

void RmsNormHeads(const HeadNormArgs& a, Queue& queue) {
  CpuQueue& cpu = Cpu(queue);
  auto f = [&](int64_t b, int64_t e) {
    for (int64_t i = b; i < e; ++i) {
      float* row = a.x + i * a.ld;
      cpu.backend.rms_norm(row, a.d, a.w, a.eps, a.heads, a.d, row, a.d);
    }
  };
  ForRows(a.m, a.heads * a.d, cpu, f);
}

void LayerNorm(const NormArgs& a, Queue& queue) {
  CpuQueue& cpu = Cpu(queue);
  auto f = [&](int64_t b, int64_t e) {
    cpu.backend.layer_norm(a.x + b * a.d, a.w, a.b, a.eps, e - b, a.d, a.y + b * a.d);
  };
  ForRows(a.m, a.d, cpu, f);
}

void AddBias(float* y, const float* b, const Shape& shape, Queue& queue) {
  CpuQueue& cpu = Cpu(queue);
  auto f = [&](int64_t begin, int64_t end) {
    cpu.backend.add_rows(y + begin * shape.ld, shape.ld, b, end - begin, shape.n);
  };
  ForRows(shape.m, shape.n, cpu, f);
}

void Sum(const float* a, const float* b, float* y, int64_t n, Queue& queue) {
  CpuQueue& cpu = Cpu(queue);
  auto f = [&](int64_t begin, int64_t end) { cpu.backend.sum(a + begin, b + begin, y + begin, end - begin); };
  cpu.pool.For(n, kGrainElements, std::ref(f));
}

void on_cpu::Add(float* y, const float* x, int64_t n, Queue& queue) { Sum(y, x, y, n, queue); }

void on_cpu::GatherRows(const float* x, int64_t d, std::span<const int32_t> rows, float* out, Queue&) {
  for (size_t i = 0; i < rows.size(); ++i)
    std::memcpy(out + static_cast<int64_t>(i) * d, x + rows[i] * d, static_cast<size_t>(d) * sizeof(float));
}

void on_cpu::FillLastIds(const Batch& batch, Queue&) {
  for (int64_t i = 0; i < batch.rows; ++i) {
    if (batch.ids[i] < 0) batch.ids[i] = batch.last[batch.slots[i]];
  }
}

void Rope(const RopeArgs& args, Queue& queue) {
  PANGEA_CHECK(args.rot % 2 == 0 && args.rot <= args.head_dim);
  CpuQueue& cpu = Cpu(queue);
  auto f = [&](int64_t b, int64_t e) { cpu.backend.rope(args, b, e); };
  ForRows(args.m, args.heads * args.rot, cpu, f);
}

void Scale(float* x, float s, const Shape& shape, Queue& queue) {
  CpuQueue& cpu = Cpu(queue);
  auto f = [&](int64_t b, int64_t e) { cpu.backend.scale(x + b * shape.ld, shape.ld, s, e - b, shape.n); };
  ForRows(shape.m, shape.n, cpu, f);
}

void GateUp(const GateArgs& args, Queue& queue) {
  CpuQueue& cpu = Cpu(queue);
  auto f = [&](int64_t b, int64_t e) { cpu.backend.gate(args, b, e); };
  ForRows(args.m, 8 * args.n, cpu, f);  // an exp and a division cost about eight plain operations
}

// ---------------------------------------------------------------------------------------------------- logits

void LseChunks(const float* x, int64_t n, float* out, Isa isa) { BackendOf(isa).lse_chunks(x, n, out); }

Winner GumbelArgmax(std::span<const float> x, int64_t first, const DrawKey& draw, Isa isa) {
  Winner w;
  w.index = BackendOf(isa).gumbel_argmax(x.data(), static_cast<int64_t>(x.size()), first, draw.seed, draw.position,
                                         draw.choice, &w.value);
  return w;
}

Winner Argmax(std::span<const float> x, Isa isa) {
  Winner w;
  w.index = BackendOf(isa).argmax(x.data(), static_cast<int64_t>(x.size()), &w.value);
  return w;
}

bool AllFinite(std::span<const float> x, Isa isa) {
  return BackendOf(isa).all_finite(x.data(), static_cast<int64_t>(x.size()));
}

namespace {
const Backend& Host() {  // all classes give the same bits, so this one may be the fastest
  static const Backend& best = BackendOf(BestIsa());
  return best;
}
}  // namespace

float LseFold(const float* pairs, int64_t chunks) { return Host().lse_fold(pairs, chunks); }
float ExpExact(float x) { return Host().exp(x); }
float LogExact(float x) { return Host().log(x); }

}  // namespace pangea
