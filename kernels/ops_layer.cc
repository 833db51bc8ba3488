// Front ends of the words that a decoder layer is written in (pipeline/stage.cc): each is a run of single ops or, where
// the queue fuses it, one pass in which a thread does all of them for its rows. The pieces and their order are the
// same, so the bytes are.
#include <algorithm>
#include <functional>

#include "kernels/backend.h"
#include "kernels/check.h"
#include "kernels/on_cpu.h"

namespace pangea {
namespace {

// Rows of `width` elements that are worth a thread, in multiples of `unit`.
int64_t RowsAThread(int64_t width, int64_t unit) {
  return std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, width * unit)) * unit;
}

// Sum, bias, residual and norm of row i.
void ReduceRow(const ReduceArgs& a, int64_t i, const Backend& backend) {
  const auto row = [&](int vector) { return a.vectors + (vector * a.m + i) * a.d; };
  for (const auto& [into, from] : a.additions) backend.sum(row(into), row(from), row(into), a.d);
  if (a.bias != nullptr) backend.add_rows(row(0), a.d, a.bias, 1, a.d);
  float* x = a.x + i * a.d;
  backend.sum(x, row(0), x, a.d);
  if (a.norm.y == nullptr) return;
  float* y = a.norm.y + i * a.d;
  if (a.kind == NormKind::kRms) return backend.rms_norm(x, a.d, a.norm.w, a.norm.eps, 1, a.d, y, a.d);
  backend.layer_norm(x, a.norm.w, a.norm.b, a.norm.eps, 1, a.d, y);
}

}  // namespace

void on_cpu::FinishQkv(const KvLayer& kv, const Batch& batch, const FinishQkvArgs& a, Queue& queue) {
  CpuQueue& cpu = Cpu(queue);
  const int64_t m = batch.rows, d = kv.head_dim, q_columns = a.heads * d;
  PANGEA_CHECK(a.rot % 2 == 0 && a.rot <= d);
  const auto rotation = [&](float* x, int64_t ld, int heads) {
    return RopeArgs{.x = x,
                    .positions = batch.positions,
                    .m = m,
                    .ld = ld,
                    .heads = heads,
                    .head_dim = d,
                    .rot = a.rot,
                    .pairs = a.pairs,
                    .cos = a.cos,
                    .sin = a.sin};
  };
  const RopeArgs rotate_q = rotation(a.q, a.ldq, a.heads), rotate_k = rotation(a.k, a.ld, kv.kv_heads);
  if (cpu.fusion < 1) {
    const auto norm = [&](float* x, const float* w, int64_t ld, int heads) {
      if (w != nullptr) RmsNormHeads({.x = x, .w = w, .eps = a.eps, .m = m, .ld = ld, .heads = heads, .d = d}, queue);
    };
    norm(a.q, a.q_norm, a.ldq, a.heads);
    norm(a.k, a.k_norm, a.ld, kv.kv_heads);
    if (a.rot > 0) {
      Rope(rotate_q, queue);
      Rope(rotate_k, queue);
    }
    Scale(a.q, a.scale, {.m = m, .n = q_columns, .ld = a.ldq}, queue);
    return KvWrite(kv, batch, {.k = a.k, .ldk = a.ld, .v = a.v, .ldv = a.ld}, queue);
  }
  const Backend& backend = cpu.backend;
  auto f = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (batch.slots[i] < 0) continue;
      float *q = a.q + i * a.ldq, *k = a.k + i * a.ld;
      if (a.q_norm != nullptr) backend.rms_norm(q, d, a.q_norm, a.eps, a.heads, d, q, d);
      if (a.k_norm != nullptr) backend.rms_norm(k, d, a.k_norm, a.eps, kv.kv_heads, d, k, d);
      if (a.rot > 0) {
        backend.rope(rotate_q, i, i + 1);
        backend.rope(rotate_k, i, i + 1);
      }
      backend.scale(q, a.ldq, a.scale, 1, q_columns);
      const int32_t* table = batch.Table(kv.group, batch.slots[i]);
      for (int h = 0; h < kv.kv_heads; ++h)
        backend.kv_write(kv, h, table, batch.positions[i], k + h * d, a.v + i * a.ld + h * d);
    }
  };
  cpu.pool.For(m, RowsAThread(q_columns + 2 * kv.kv_heads * d, 1), std::ref(f));
}

void on_cpu::ReduceAddNorm(const ReduceArgs& a, Queue& queue) {
  CpuQueue& cpu = Cpu(queue);
  const int64_t vector = a.m * a.d;
  if (cpu.fusion < 2) {
    for (const auto& [into, from] : a.additions)
      on_cpu::Add(a.vectors + into * vector, a.vectors + from * vector, vector, queue);
    if (a.bias != nullptr) AddBias(a.vectors, a.bias, {.m = a.m, .n = a.d, .ld = a.d}, queue);
    on_cpu::Add(a.x, a.vectors, vector, queue);
    if (a.norm.y == nullptr) return;
    NormArgs norm = a.norm;
    norm.x = a.x, norm.m = a.m, norm.d = a.d;
    return on_cpu::Norm(a.kind, norm, queue);
  }
  PANGEA_DCHECK(HasComputeFloatMode());
  auto f = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) ReduceRow(a, i, cpu.backend);
  };
  cpu.pool.For(a.m, RowsAThread(a.d * (2 + static_cast<int64_t>(a.additions.size())), 1), std::ref(f));
}

void on_cpu::GatePack(const GateArgs& a, const PackTo& pack, Queue& queue) {
  CpuQueue& cpu = Cpu(queue);
  if (cpu.fusion < 3 || pack.w == nullptr) {
    GateUp(a, queue);
    if (pack.w != nullptr) on_cpu::PackActivations({a.y, a.m, a.ldy}, *pack.w, pack.bits, pack.out, queue);
    return;
  }
  PANGEA_DCHECK(HasComputeFloatMode());
  const PackArgs args = PackInto({a.y, a.m, a.ldy}, *pack.w, pack.bits, pack.out, cpu);
  auto f = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += kTileRows) {  // a tile's rows are still in the first cache when it is packed
      const int64_t stop = std::min(end, i + kTileRows);
      cpu.backend.gate(a, i, stop);
      cpu.backend.pack_activations(args, i, stop);
    }
  };
  cpu.pool.For(a.m, RowsAThread(8 * a.n, kTileRows), std::ref(f));
}

}  // namespace pangea
