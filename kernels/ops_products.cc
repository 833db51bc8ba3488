// Front ends of the products: arguments checked, work cut over the pool.
#include <algorithm>
#include <cstring>

#include "kernels/backend.h"
#include "kernels/check.h"
#include "kernels/cpu_queue.h"
#include "kernels/half.h"
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

void PackActivations(const Rows& x, const Weight& w, ActivationBits bits, Activations* out, Queue& queue) {
  PANGEA_DCHECK(HasComputeFloatMode());
  CpuQueue& cpu = Cpu(queue);
  const Backend& backend = cpu.backend;
  Activations::Impl& a = out->impl();
  a.dtype = w.dtype();
  a.wide = bits == ActivationBits::k16;
  a.m = x.m;
  a.k = w.k();
  a.row_bytes = backend.activation_row_bytes(a.dtype, a.k, a.wide);
  const int64_t bytes = x.m * a.row_bytes;
  if (bytes > a.capacity) {
    a.data.reset();
    a.data = AllocateAligned(bytes);
    a.capacity = bytes;
  }
  const PackArgs args{x.data, x.m, a.k, x.pitch, a.dtype, a.wide, a.data.get(), a.row_bytes};
  if (cpu.pool.threads() == 1 || x.m <= kTileRows) {
    backend.pack_activations(args, 0, x.m);
    return;
  }
  auto pack = [&](int64_t begin, int64_t end) { backend.pack_activations(args, begin, end); };
  cpu.pool.For(x.m, 2 * kTileRows, std::ref(pack));
}

void MatMul(const Activations& activations, const Weight& weight, float* y, int64_t ldy, Queue& queue) {
  PANGEA_DCHECK(HasComputeFloatMode());
  if (weight.empty() || weight.vectors() == 0) return;
  const Activations::Impl& a = activations.impl();
  const Weight::Impl& w = weight.impl();
  PANGEA_CHECK(a.dtype == w.dtype && a.k == w.k && ldy >= w.n);
  if (a.m == 0) return;
  CpuQueue& cpu = Cpu(queue);
  const Backend& backend = cpu.backend;
  const ProductArgs shared{.dtype = w.dtype,
                           .wide = a.wide,
                           .a = a.data.get(),
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
                           .y = y,
                           .ldy = ldy};
  const int64_t width = PanelColumns(w.dtype);
  const int64_t panels = (w.n + width - 1) / width;
  const int64_t blocks = (a.m + kRowBlock - 1) / kRowBlock;
  // Units are (row block, panel), panels running fastest: a thread keeps one sequential stream of weights.
  auto run = [&](int64_t begin, int64_t end) {
    Stack stack(w.depth);
    ProductArgs args = shared;
    args.stack = stack.data();
    while (begin < end) {
      const int64_t block = begin / panels;
      const int64_t panel = begin % panels;
      const int64_t stop = std::min(panels, panel + end - begin);
      backend.product(args, Block2D{block * kRowBlock, std::min(a.m, (block + 1) * kRowBlock), panel, stop});
      begin += stop - panel;
    }
  };
  const int64_t unit = std::max<int64_t>(1, w.k * width * std::min(a.m, kRowBlock));
  cpu.pool.For(blocks * panels, std::max<int64_t>(1, kGrainMultiplies / unit), std::ref(run));
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

}  // namespace

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

void EmbeddingRows(const WeightRows& table, int64_t width, std::span<const int32_t> rows, float* out, Queue&) {
  ReadRows(table, width, rows, out);
}

}  // namespace pangea
