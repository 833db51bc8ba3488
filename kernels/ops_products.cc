// Front ends of the products: arguments checked, work cut over the pool.
#include <algorithm>
#include <cstring>

#include "kernels/backend.h"
#include "kernels/check.h"
#include "kernels/cpu_queue.h"
#include "kernels/half.h"
#include "kernels/on_cpu.h"
#include "kernels/weight.h"

namespace pangea {
namespace {

constexpr int64_t kRowBlock = 128;                // rows that share a weight panel while it is in cache
constexpr int64_t kGrainMultiplies = 128 * 1024;  // multiply-adds below which another thread is not worth waking

// Scratch of one call on one thread: small stacks need no allocation.
class Stack {
 public:
  explicit Stack(int depth) {
    const int64_t bytes = static_cast<int64_t>(depth) * kTileRows * kSuperPanel * static_cast<int64_t>(sizeof(float));
    if (bytes > static_cast<int64_t>(sizeof(local_))) heap_ = AllocateAligned(bytes);
  }
  float* data() { return heap_ ? reinterpret_cast<float*>(heap_.get()) : local_; }

 private:
  alignas(64) float local_[12 * kTileRows * kSuperPanel];
  AlignedBytes heap_;
};

}  // namespace

PackArgs PackInto(const Rows& x, const Weight& w, ActivationBits bits, PackedActivations* out, CpuQueue& cpu) {
  PackedActivations& a = *out;
  a.dtype = w.dtype();
  a.wide = bits == ActivationBits::k16;
  a.m = x.m;
  a.k = w.k();
  a.row_bytes = cpu.backend.activation_row_bytes(a.dtype, a.k, a.wide);
  PANGEA_CHECK(a.m * a.row_bytes <= a.capacity);
  return {x.data, x.m, a.k, x.pitch, a.dtype, a.wide, a.data, a.row_bytes};
}

void on_cpu::PackActivations(const Rows& x, const Weight& w, ActivationBits bits, PackedActivations* out,
                             Queue& queue) {
  PANGEA_DCHECK(HasComputeFloatMode());
  CpuQueue& cpu = Cpu(queue);
  const PackArgs args = PackInto(x, w, bits, out, cpu);
  if (cpu.pool.threads() == 1 || x.m <= kTileRows) {
    cpu.backend.pack_activations(args, 0, x.m);
    return;
  }
  auto pack = [&](int64_t begin, int64_t end) { cpu.backend.pack_activations(args, begin, end); };
  cpu.pool.For(x.m, 2 * kTileRows, std::ref(pack));
}

namespace {

// bias: null, or added to each block of columns by the thread that has just made it.
void Multiply(const PackedActivations& a, const Weight& weight, const BiasedOut& out, CpuQueue& cpu) {
  PANGEA_DCHECK(HasComputeFloatMode());
  if (weight.empty() || weight.vectors() == 0) return;
  const Weight::Impl& w = weight.impl();
  PANGEA_CHECK(a.dtype == w.dtype && a.k == w.k && out.ldy >= w.n);
  PANGEA_CHECK(out.bias == nullptr || w.vectors == 1);
  if (a.m == 0) return;
  const Backend& backend = cpu.backend;
  const ProductArgs shared{.dtype = w.dtype,
                           .wide = a.wide,
                           .a = a.data,
                           .row_bytes = a.row_bytes,
                           .m = a.m,
                           .n = w.n,
                           .k = w.k,
                           .w = w.data.get(),
                           .panel_bytes = w.panel_bytes,
                           .cuts = w.program.cuts.data(),
                           .merges = w.program.merges.data(),
                           .leaves = static_cast<int>(w.program.merges.size()),
                           .vectors = w.vectors,
                           .stack = nullptr,
                           .scratch = nullptr,
                           .y = out.y,
                           .ldy = out.ldy};
  const int64_t width = PanelColumns(w.dtype);
  const int64_t panels = (w.n + width - 1) / width;
  const int64_t blocks = (a.m + kRowBlock - 1) / kRowBlock;
  // Units are (row block, panel), panels running fastest: a thread keeps one sequential stream of weights.
  auto run = [&](int64_t begin, int64_t end) {
    Stack stack(w.depth);
    ProductArgs args = shared;
    args.stack = stack.data();
    args.scratch = cpu.Scratch(backend.product_scratch(w.dtype, w.k, a.m));
    while (begin < end) {
      const int64_t block = begin / panels;
      const int64_t panel = begin % panels;
      const int64_t stop = std::min(panels, panel + end - begin);
      const Block2D part{block * kRowBlock, std::min(a.m, (block + 1) * kRowBlock), panel, stop};
      backend.product(args, part);
      if (out.bias != nullptr) {
        const int64_t column = panel * width;
        backend.add_rows(out.y + part.row_begin * out.ldy + column, out.ldy, out.bias + column,
                         part.row_end - part.row_begin, std::min(w.n, stop * width) - column);
      }
      begin += stop - panel;
    }
  };
  const int64_t unit = std::max<int64_t>(1, w.k * width * std::min(a.m, kRowBlock));
  cpu.pool.For(blocks * panels, std::max<int64_t>(1, kGrainMultiplies / unit), std::ref(run));
}

}  // namespace

void on_cpu::MatMul(const PackedActivations& a, const Weight& w, const BiasedOut& out, Queue& queue) {
  CpuQueue& cpu = Cpu(queue);
  const bool fused = cpu.fusion >= 3;
  Multiply(a, w, {out.y, out.ldy, fused ? out.bias : nullptr}, cpu);
  if (out.bias != nullptr && !fused) AddBias(out.y, out.bias, {.m = a.m, .n = w.n(), .ld = out.ldy}, queue);
}

namespace {

// Plain copies and exact products, then one rounding where there is a minimum: nothing here depends on a back end.
void DequantiseRow(const QuantFormat& format, const std::byte* row, int64_t width, float* out) {
  QuantBlock block;
  for (const std::byte* end = row + RowBytes(format.dtype, width); row < end; row += format.bytes) {
    format.take_apart(row, &block);
    const float d = F16ToF32(block.d), m = F16ToF32(block.m);
    for (int i = 0; i < format.block; ++i) {
      const float scale = d * static_cast<float>(block.scales[i / format.run]);
      const float scaled = static_cast<float>(block.q[i] - format.offset) * scale;
      *out++ = format.minima ? scaled + m * static_cast<float>(block.minima[i / kQuantGroup]) : scaled;
    }
  }
}

}  // namespace

float PlainElement(DType dtype, const std::byte* p) {
  if (dtype == DType::kF32) {
    float f;
    std::memcpy(&f, p, 4);
    return f;
  }
  uint16_t h;
  std::memcpy(&h, p, 2);
  return dtype == DType::kF16 ? F16ToF32(h) : Bf16ToF32(h);
}

void ReadRows(const WeightRows& table, int64_t width, std::span<const int32_t> rows, float* out) {
  PANGEA_DCHECK(HasComputeFloatMode());
  const int64_t element = Info(table.dtype).bytes;
  const QuantFormat* format = FindFormat(table.dtype);
  for (size_t i = 0; i < rows.size(); ++i) {
    PANGEA_CHECK(rows[i] >= 0 && rows[i] < table.n);
    float* to = out + static_cast<int64_t>(i) * width;
    if (format != nullptr) {
      PANGEA_CHECK(!table.transposed && width % format->block == 0);
      DequantiseRow(*format, table.data + rows[i] * table.pitch, width, to);
      continue;
    }
    const std::byte* from = table.data + rows[i] * (table.transposed ? element : table.pitch);
    const int64_t step = table.transposed ? table.pitch : element;
    if (table.dtype == DType::kF32 && !table.transposed) {
      std::memcpy(to, from, static_cast<size_t>(width) * 4);
      continue;
    }
    for (int64_t k = 0; k < width; ++k) to[k] = PlainElement(table.dtype, from + k * step);
  }
}

void on_cpu::EmbeddingRows(const WeightRows& table, int64_t width, std::span<const int32_t> rows, float* out, Queue&) {
  ReadRows(table, width, rows, out);
}

WeightRows PlaceTable(const WeightRows& table, Buffer<std::byte>* memory, Queue& queue) {
  if (queue.host_memory()) return table;
  PANGEA_CHECK(!table.transposed);
  const std::span stored(table.data, static_cast<size_t>(table.n * table.pitch));
  *memory = queue.makes_weights_up() ? Buffer<std::byte>(static_cast<int64_t>(stored.size()), queue)
                                     : Buffer<std::byte>(stored, queue);
  if (queue.makes_weights_up()) queue.MakeUp(memory->data(), memory->bytes(), table.dtype);
  WeightRows placed = table;
  placed.data = memory->data();
  return placed;
}

}  // namespace pangea
