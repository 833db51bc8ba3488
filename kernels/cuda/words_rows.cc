// The words of rows: embedding, norms, sums, what follows queries, keys and values.
#include <algorithm>

#include "kernels/cuda/cuda_queue.h"
#include "kernels/cuda/launch.h"

namespace pangea::cuda {
namespace {

NormPart PartOf(NormKind kind, const NormArgs& args) {
  return {.kind = kind, .eps = args.eps, .w = args.w, .b = kind == NormKind::kLayer ? args.b : nullptr, .y = args.y};
}

int64_t RowBytesShared(int64_t d) { return (d + 16) * static_cast<int64_t>(sizeof(float)); }

}  // namespace

void AddBiasTo(float* y, const float* b, const Shape& shape, Queue& queue) {
  Cuda(queue).Launch(Kernel::kAddBias, {static_cast<unsigned>(shape.m)}, 0, AddBiasArgs{y, b, shape.n, shape.ld});
}

void FillLastIds(const Batch& batch, Queue& queue) {
  const FillLastIdsArgs args{batch.ids, batch.slots, batch.last, static_cast<int32_t>(batch.rows)};
  Cuda(queue).Launch(Kernel::kFillLastIds, {Pieces(batch.rows, 256)}, 0, args);
}

void GatherRows(const float* x, int64_t d, std::span<const int32_t> rows, float* out, Queue& queue) {
  Cuda(queue).Launch(Kernel::kGatherRows, {static_cast<unsigned>(rows.size())}, 0,
                     GatherRowsArgs{x, rows.data(), out, d});
}

void EmbeddingRows(const WeightRows& table, int64_t width, std::span<const int32_t> rows, float* out, Queue& queue) {
  PANGEA_CHECK(!table.transposed && width % Info(table.dtype).block == 0);
  Cuda(queue).Launch(Kernel::kEmbeddingRows, {static_cast<unsigned>(rows.size())}, 0,
                     EmbeddingArgs{table.data, table.pitch, rows.data(), out, width, table.dtype});
}

void Add(float* y, const float* x, int64_t n, Queue& queue) {
  Cuda(queue).Launch(Kernel::kAdd, {Pieces(n, 256)}, 0, AddArgs{y, x, n});
}

void Norm(NormKind kind, const NormArgs& args, Queue& queue) {
  Cuda(queue).Launch(Kernel::kRowNorm, {static_cast<unsigned>(args.m)}, RowBytesShared(args.d),
                     RowNormArgs{args.x, args.d, PartOf(kind, args)});
}

void ReduceAddNorm(const ReduceArgs& args, Queue& queue) {
  if (!Cuda(queue).fused()) {
    const int64_t vector = args.m * args.d;
    for (const auto& [into, from] : args.additions)
      cuda::Add(args.vectors + into * vector, args.vectors + from * vector, vector, queue);
    if (args.bias != nullptr) AddBiasTo(args.vectors, args.bias, {args.m, args.d, args.d}, queue);
    cuda::Add(args.x, args.vectors, vector, queue);
    NormArgs norm = args.norm;
    norm.x = args.x, norm.m = args.m, norm.d = args.d;
    if (norm.y != nullptr) cuda::Norm(args.kind, norm, queue);
    return;
  }
  PANGEA_CHECK(args.additions.size() <= kMostAdditions);
  ReduceNormArgs told{.vectors = args.vectors,
                      .bias = args.bias,
                      .x = args.x,
                      .m = args.m,
                      .d = args.d,
                      .norm = PartOf(args.kind, args.norm),
                      .additions = static_cast<int32_t>(args.additions.size()),
                      .into = {},
                      .from = {}};
  for (size_t i = 0; i < args.additions.size(); ++i) {
    told.into[i] = static_cast<uint8_t>(args.additions[i].first);
    told.from[i] = static_cast<uint8_t>(args.additions[i].second);
  }
  Cuda(queue).Launch(Kernel::kReduceAddNorm, {static_cast<unsigned>(args.m)}, RowBytesShared(args.d), told);
}

void FinishQkv(const KvLayer& kv, const Batch& batch, const FinishQkvArgs& args, Queue& queue) {
  PANGEA_CHECK(args.rot % 2 == 0 && args.rot <= kv.head_dim);
  const FinishQkvKernelArgs told{.pages = PagesOf(kv),
                                 .positions = batch.positions,
                                 .slots = batch.slots,
                                 .tables = batch.Table(kv.group, 0),
                                 .stride = batch.stride,
                                 .q = args.q,
                                 .k = args.k,
                                 .v = args.v,
                                 .ldq = args.ldq,
                                 .ld = args.ld,
                                 .q_norm = args.q_norm,
                                 .k_norm = args.k_norm,
                                 .cos = args.cos,
                                 .sin = args.sin,
                                 .heads = args.heads,
                                 .rot = static_cast<int32_t>(args.rot),
                                 .eps = args.eps,
                                 .scale = args.scale,
                                 .pairs = args.pairs,
                                 .parts = kAllParts};
  const auto launch = [&](uint32_t parts) {
    FinishQkvKernelArgs some = told;
    some.parts = parts;
    const int64_t warps = InfoOf(Kernel::kFinishQkv).threads / 32;
    Cuda(queue).Launch(Kernel::kFinishQkv, {static_cast<unsigned>(batch.rows)}, warps * kv.head_dim * 4, some);
  };
  if (Cuda(queue).fused()) return launch(kAllParts);
  if (args.q_norm != nullptr) launch(kNormQuery);
  if (args.k_norm != nullptr) launch(kNormKey);
  if (args.rot > 0) {
    launch(kRotateQuery);
    launch(kRotateKey);
  }
  launch(kScaleQuery);
  launch(kStore);
}

void CopyBlock(const KvLayer& kv, int64_t from, int64_t to, Queue& queue) {
  Cuda(queue).Launch(Kernel::kCopyBlock, {static_cast<unsigned>(kv.kv_heads)}, 0, CopyBlockArgs{PagesOf(kv), from, to});
}

}  // namespace pangea::cuda
