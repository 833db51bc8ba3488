// The words of products: activations made ready, gates in front of them, and the products.
#include <algorithm>

#include "kernels/cuda/cuda_queue.h"
#include "kernels/cuda/launch.h"
#include "kernels/weight.h"

namespace pangea::cuda {
namespace {

// What a product reads of `x`, noted in *out; the kernel's view of it where it is quantised.
int64_t RoundUp16(int64_t bytes) { return (bytes + 15) / 16 * 16; }

// The type to which activations are rounded, of weights that lie as rows.
DType HalfOf(DType dtype) { return dtype == DType::kF8E4M3 ? DType::kBF16 : dtype; }

PackedRows Announce(int64_t m, const Weight& w, ActivationBits bits, PackedActivations* out) {
  out->dtype = w.dtype();
  out->wide = bits == ActivationBits::k16;
  out->m = m;
  out->k = w.k();
  const bool quantised = IsQuantised(w.dtype());
  const int64_t groups = quantised ? w.k() / kQuantGroup : 0;
  out->row_bytes = quantised ? PackedRowBytes(groups) : RoundUp16(w.k() * (w.impl().rows ? 2 : 4));
  PANGEA_CHECK(m * out->row_bytes <= out->capacity);
  if (!quantised) return {};
  return {out->data, out->row_bytes, static_cast<int32_t>(groups), out->wide};
}

Kernel ProductOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return Kernel::kProductF32;
    case DType::kF16:
      return Kernel::kProductF16;
    case DType::kBF16:
      return Kernel::kProductBf16;
    case DType::kF8E4M3:
      return Kernel::kProductF8;
    case DType::kQ8_0:
      return Kernel::kProductQ8_0;
    case DType::kQ4_0:
      return Kernel::kProductQ4_0;
    case DType::kQ4_1:
      return Kernel::kProductQ4_1;
    case DType::kQ5_0:
      return Kernel::kProductQ5_0;
    case DType::kQ5_1:
      return Kernel::kProductQ5_1;
    case DType::kQ4_K:
      return Kernel::kProductQ4K;
    case DType::kQ5_K:
      return Kernel::kProductQ5K;
    default:
      PANGEA_CHECK(dtype == DType::kQ6_K);
      return Kernel::kProductQ6K;
  }
}

constexpr int64_t kGroupsABlock = 8, kColumns = 32;

}  // namespace

void PackActivations(const Rows& x, const Weight& w, ActivationBits bits, PackedActivations* out, Queue& queue) {
  const PackedRows packed = Announce(x.m, w, bits, out);
  const unsigned m = static_cast<unsigned>(x.m);
  if (packed.data != nullptr) {
    Cuda(queue).Launch(Kernel::kPackQuantised, {m, Pieces(packed.groups, kGroupsABlock)}, 0,
                       PackQuantisedArgs{x.data, x.pitch, packed});
  } else if (w.impl().rows) {
    Cuda(queue).Launch(Kernel::kPackHalves, {m}, 0,
                       PackHalvesArgs{x.data, x.pitch, reinterpret_cast<uint16_t*>(out->data), out->k,
                                      out->row_bytes / 2, HalfOf(w.dtype())});
  } else {
    Cuda(queue).Launch(Kernel::kPackPlain, {m}, 0,
                       PackPlainArgs{x.data, x.pitch, reinterpret_cast<float*>(out->data), out->k, out->row_bytes / 4});
  }
}

void GatePack(const GateArgs& args, const PackTo& pack, Queue& queue) {
  if (pack.w != nullptr && !Cuda(queue).fused()) {
    cuda::GatePack(args, {}, queue);
    return cuda::PackActivations({args.y, args.m, args.ldy}, *pack.w, pack.bits, pack.out, queue);
  }
  GatePackArgs told{.g = args.g,
                    .ldg = args.ldg,
                    .u = args.u,
                    .ldu = args.ldu,
                    .y = args.y,
                    .ldy = args.ldy,
                    .n = args.n,
                    .act = args.act,
                    .plain = nullptr,
                    .plain_pitch = 0,
                    .halves = nullptr,
                    .half_pitch = 0,
                    .half_type = DType::kBF16,
                    .out = {}};
  if (pack.w != nullptr) {
    told.out = Announce(args.m, *pack.w, pack.bits, pack.out);
    if (pack.w->impl().rows) {
      told.halves = reinterpret_cast<uint16_t*>(pack.out->data);
      told.half_pitch = pack.out->row_bytes / 2;
      told.half_type = HalfOf(pack.w->dtype());
    } else if (told.out.data == nullptr) {
      told.plain = reinterpret_cast<float*>(pack.out->data);
      told.plain_pitch = pack.out->row_bytes / 4;
    }
  }
  Cuda(queue).Launch(Kernel::kGatePack, {static_cast<unsigned>(args.m), Pieces(Pieces(args.n, 32), kGroupsABlock)}, 0,
                     told);
}

namespace {

Kernel FewRowsOf(DType dtype, int64_t m) {
  constexpr Kernel kKernels[3][4] = {
      {Kernel::kFewRows1F16, Kernel::kFewRows2F16, Kernel::kFewRows4F16, Kernel::kFewRows8F16},
      {Kernel::kFewRows1Bf16, Kernel::kFewRows2Bf16, Kernel::kFewRows4Bf16, Kernel::kFewRows8Bf16},
      {Kernel::kFewRows1F8, Kernel::kFewRows2F8, Kernel::kFewRows4F8, Kernel::kFewRows8F8}};
  return kKernels[dtype == DType::kF16 ? 0 : dtype == DType::kBF16 ? 1 : 2][m == 1 ? 0 : m == 2 ? 1 : m <= 4 ? 2 : 3];
}

// Products whose sums may have any order, of weights that lie as rows.
class RowProduct {
 public:
  RowProduct(const PackedActivations& a, const Weight::Impl& w, const BiasedOut& out, CudaQueue& cuda)
      : a_(a), w_(w), out_(out), cuda_(cuda) {
    const int64_t padded = (w.n + kPanel - 1) / kPanel * kPanel;
    if (w.dtype == DType::kF8E4M3) scales_ = reinterpret_cast<const float*>(w.data.get() + padded * w.k);
  }

  // Of few rows by a kernel of ours, else by the library.
  void Run() const {
    if (a_.m <= kMostFewRows) return FewRows(0, a_.m);
    if (scales_ == nullptr) return ByLibrary(w_.data.get(), 0, w_.n);
    // Of f8: so many columns at a time as there is room for, widened.
    const int64_t at_once = static_cast<int64_t>(cuda_.widened().size()) / (2 * w_.k) / kPanel * kPanel;
    std::byte* const room = cuda_.widened().data();
    for (int64_t first = 0; first < w_.n && at_once > 0; first += at_once) {
      const int64_t n = std::min(at_once, w_.n - first);
      const int64_t runs = (w_.k + kScaleRun - 1) / kScaleRun;
      cuda_.Launch(Kernel::kWidenF8, {static_cast<unsigned>(n)}, 0,
                   WidenArgs{w_.data.get() + first * w_.k, scales_ + first * runs, reinterpret_cast<uint16_t*>(room),
                             static_cast<int32_t>(w_.k)});
      ByLibrary(room, first, n);
    }
    for (int64_t row = 0; row < a_.m && at_once == 0; row += kMostFewRows)
      FewRows(row, std::min<int64_t>(kMostFewRows, a_.m - row));
  }

 private:
  void FewRows(int64_t row, int64_t m) const {
    cuda_.Launch(FewRowsOf(w_.dtype, m), {Pieces(w_.n, kFewRowsColumns)}, 0,
                 FewRowsArgs{w_.data.get(), w_.panel_bytes, scales_, a_.data + row * a_.row_bytes, a_.row_bytes,
                             out_.y + row * out_.ldy, out_.ldy, out_.bias, static_cast<int32_t>(m),
                             static_cast<int32_t>(w_.n), static_cast<int32_t>(w_.k)});
  }
  // Columns [first, first + n), whose weights are at w.
  void ByLibrary(const std::byte* w, int64_t first, int64_t n) const {
    cuda_.Multiply({.w = w,
                    .x = a_.data,
                    .y = out_.y + first,
                    .bias = out_.bias != nullptr ? out_.bias + first : nullptr,
                    .m = a_.m,
                    .n = n,
                    .k = w_.k,
                    .x_pitch = a_.row_bytes / 2,
                    .ldy = out_.ldy,
                    .dtype = HalfOf(w_.dtype)});
  }

  const PackedActivations& a_;
  const Weight::Impl& w_;
  const BiasedOut& out_;
  CudaQueue& cuda_;
  const float* scales_ = nullptr;
};

}  // namespace

void MatMul(const PackedActivations& a, const Weight& weight, const BiasedOut& out, Queue& queue) {
  if (weight.empty() || weight.vectors() == 0 || a.m == 0) return;
  if (out.bias != nullptr && !Cuda(queue).fused()) {
    cuda::MatMul(a, weight, {out.y, out.ldy, nullptr}, queue);
    return AddBiasTo(out.y, out.bias, {a.m, weight.n(), out.ldy}, queue);
  }
  const Weight::Impl& w = weight.impl();
  const int leaves = static_cast<int>(w.program.merges.size());
  PANGEA_CHECK(a.dtype == w.dtype && a.k == w.k && out.ldy >= w.n);
  PANGEA_CHECK(out.bias == nullptr || w.vectors == 1);
  if (w.rows) return RowProduct(a, w, out, Cuda(queue)).Run();
  PANGEA_CHECK(leaves <= kMostLeaves && w.depth <= kMostDepth);
  ProductKernelArgs told{.a = a.data,
                         .row_bytes = a.row_bytes,
                         .w = w.data.get(),
                         .panel_bytes = w.panel_bytes,
                         .y = out.y,
                         .ldy = out.ldy,
                         .bias = out.bias,
                         .m = static_cast<int32_t>(a.m),
                         .n = static_cast<int32_t>(w.n),
                         .k = static_cast<int32_t>(w.k),
                         .rows = 0,
                         .vectors = w.vectors,
                         .wide = a.wide,
                         .leaves = {}};
  told.leaves.count = leaves;
  for (int i = 0; i <= leaves; ++i) told.leaves.cuts[i] = static_cast<int32_t>(w.program.cuts[i]);
  for (int i = 0; i < leaves; ++i) told.leaves.merges[i] = static_cast<uint8_t>(w.program.merges[i]);
  int64_t shared = 0;
  if (const QuantFormat* format = FindFormat(w.dtype); format != nullptr) {
    told.rows = a.m == 1 ? 1 : kProductWarps;
    const int64_t terms = format->runs() + (format->minima ? 1 : 0);
    shared = 2 * kProductWarps * terms * (told.rows + 1) * kColumns * 4;
  } else {
    told.rows = static_cast<int32_t>(std::min<int64_t>(64, (a.m + 3) / 4 * 4));
    shared = kProductStages * (kProductTileK * kColumns * Info(w.dtype).bytes + int64_t{told.rows} * kProductTileK * 4);
  }
  Cuda(queue).Launch(ProductOf(w.dtype), {Pieces(a.m, told.rows), Pieces(w.n, kColumns)}, shared, told);
}

}  // namespace pangea::cuda
