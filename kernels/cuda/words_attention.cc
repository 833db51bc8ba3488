// The word of attention: which kernels, over which grid.
#include <algorithm>

#include "kernels/cuda/cuda_queue.h"
#include "kernels/cuda/launch.h"

namespace pangea::cuda {
namespace {

Kernel KernelOf(DType dtype) {
  PANGEA_CHECK(IsPageType(dtype));
  return dtype == DType::kF16    ? Kernel::kAttentionF16
         : dtype == DType::kBF16 ? Kernel::kAttentionBf16
         : dtype == DType::kI8   ? Kernel::kAttentionI8
                                 : Kernel::kAttentionF8;
}

// TileOf's, in bytes.
int64_t TileBytes(int64_t d) { return kQueryChunk * (d + kPartition + 6) * 4; }

// Some of a step's items.
struct Part {
  int64_t first, items, queries, longest;
};

// Few items with many partitions: these are computed apart, as many at a time as the scratch holds, and then folded
// from the left; else each block folds its own as it goes. The bytes are the same.
void AttentionOf(const KvLayer& kv, const Part& part, float* scratch, AttentionKernelArgs told, CudaQueue& queue) {
  const int64_t stride = AttentionStride(kv.head_dim);
  const Kernel kernel = KernelOf(kv.dtype);
  const Grid grid{static_cast<unsigned>(part.items), Pieces(part.queries, kQueryChunk), 1};
  const int64_t each = part.items * part.queries;  // queries, none included
  told.items += part.first;
  told.queries = static_cast<int32_t>(part.queries);
  if (part.longest < 2 || each > kCudaSplitQueries) return queue.Launch(kernel, grid, TileBytes(kv.head_dim), told);
  const int64_t room = kCudaSplitQueries * kCudaPartials / each;  // partials of a query
  told.states = scratch;
  told.partials = scratch + kCudaSplitQueries * stride;
  for (int64_t from = 0; from < part.longest; from += room) {
    told.from = static_cast<int32_t>(from);
    told.span = static_cast<int32_t>(std::min(room, part.longest - from));
    queue.Launch(kernel, {grid.x, grid.y, static_cast<unsigned>(told.span)}, TileBytes(kv.head_dim), told);
    queue.Launch(Kernel::kAttentionFold, {grid.x, static_cast<unsigned>(part.queries)}, 0, told);
  }
}

// By tensor cores, in whatever order of sums: of heads that they take.
bool ByTensorCores(const KvLayer& kv, const CudaQueue& queue) {
  const bool halves = kv.dtype == DType::kF16 || kv.dtype == DType::kBF16;
  return !queue.exact() && halves && kv.head_dim % 8 == 0 && kv.head_dim <= kMostManyHeadDim;
}

}  // namespace

void Attention(const KvLayer& kv, const Batch& batch, const AttentionArgs& args, Queue& queue) {
  const AttentionWork& work = *args.work;
  const int64_t items = static_cast<int64_t>(work.items.size()), alone = work.alone.items;
  PANGEA_CHECK(kv.head_dim <= kMostHeadDim);
  AttentionKernelArgs told{.pages = PagesOf(kv),
                           .items = work.items.data(),
                           .positions = batch.positions,
                           .slots = batch.slots,
                           .tables = batch.Table(kv.group, 0),
                           .stride = batch.stride,
                           .q = args.q,
                           .ldq = args.ldq,
                           .out = args.out,
                           .ldo = args.ldo,
                           .window = work.window,
                           .from = 0,
                           .span = 0,
                           .queries = 0,
                           .partials = nullptr,
                           .states = nullptr};
  CudaQueue& cuda = Cuda(queue);
  if (alone > 0) AttentionOf(kv, {0, alone, work.alone.queries, work.alone.longest}, args.scratch, told, cuda);
  if (items == alone) return;
  if (!ByTensorCores(kv, cuda))
    return AttentionOf(kv, {alone, items - alone, work.queries, work.longest}, args.scratch, told, cuda);
  constexpr Kernel kKernels[2][2][2] = {{{Kernel::kAttentionMany64F16, Kernel::kAttentionMany64Bf16},
                                         {Kernel::kAttentionMany128F16, Kernel::kAttentionMany128Bf16}},
                                        {{Kernel::kAttentionGroups64F16, Kernel::kAttentionGroups64Bf16},
                                         {Kernel::kAttentionGroups128F16, Kernel::kAttentionGroups128Bf16}}};
  const bool small = kv.head_dim <= 64;
  told.items += alone;
  cuda.Launch(kKernels[cuda.in_groups() ? 1 : 0][small ? 0 : 1][kv.dtype == DType::kF16 ? 0 : 1],
              {static_cast<unsigned>(items - alone)}, ManyBytes(small ? 64 : kMostManyHeadDim), told);
}

}  // namespace pangea::cuda
