// The word of attention: which kernels, over which grid.
#include <algorithm>

#include "kernels/cuda/cuda_queue.h"
#include "kernels/cuda/launch.h"

namespace pangea::cuda {
namespace {

Kernel KernelOf(DType dtype) {
  PANGEA_CHECK(dtype == DType::kF16 || dtype == DType::kBF16 || dtype == DType::kI8);
  return dtype == DType::kF16    ? Kernel::kAttentionF16
         : dtype == DType::kBF16 ? Kernel::kAttentionBf16
                                 : Kernel::kAttentionI8;
}

// TileOf's, in bytes.
int64_t TileBytes(int64_t d) { return kQueryChunk * (d + kPartition + 6) * 4; }

}  // namespace

// Few items with many partitions: these are computed apart, as many at a time as the scratch holds, and then folded
// from the left; else each block folds its own as it goes. The bytes are the same.
void Attention(const KvLayer& kv, const Batch& batch, const AttentionArgs& args, Queue& queue) {
  const AttentionWork& work = *args.work;
  const int64_t items = static_cast<int64_t>(work.items.size()), stride = AttentionStride(kv.head_dim);
  if (items == 0) return;
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
                           .queries = static_cast<int32_t>(work.queries),
                           .partials = nullptr,
                           .states = nullptr};
  CudaQueue& cuda = Cuda(queue);
  const Kernel kernel = KernelOf(kv.dtype);
  const Grid grid{static_cast<unsigned>(items), Pieces(work.queries, kQueryChunk), 1};
  const int64_t each = items * work.queries;  // queries, none included
  if (work.longest < 2 || each > kCudaSplitQueries) {
    cuda.Launch(kernel, grid, TileBytes(kv.head_dim), told);
    return;
  }
  const int64_t room = kCudaSplitQueries * kCudaPartials / each;  // partials of a query
  told.states = args.scratch;
  told.partials = args.scratch + kCudaSplitQueries * stride;
  for (int64_t from = 0; from < work.longest; from += room) {
    told.from = static_cast<int32_t>(from);
    told.span = static_cast<int32_t>(std::min(room, work.longest - from));
    cuda.Launch(kernel, {grid.x, grid.y, static_cast<unsigned>(told.span)}, TileBytes(kv.head_dim), told);
    cuda.Launch(Kernel::kAttentionFold, {grid.x, static_cast<unsigned>(work.queries)}, 0, told);
  }
}

}  // namespace pangea::cuda
