#include <algorithm>

#include "kernels/cuda/cuda_queue.h"
#include "kernels/cuda/launch.h"

namespace pangea::cuda {
namespace {

ExchangeSide SideOf(const Exchange& exchange) {
  return {.memory = ExchangeMemory(exchange.shape, exchange.own), .state = exchange.state, .limit = exchange.limit};
}

unsigned Blocks(int64_t pieces) { return static_cast<unsigned>(std::min<int64_t>(pieces, kExchangeBlocks)); }

void Message(Kernel kernel, const MessageKernelArgs& args, Queue& queue) {
  PANGEA_CHECK(reinterpret_cast<uintptr_t>(args.values) % 16 == 0 && args.side.memory.shape.pieces > 0);
  Cuda(queue).Launch(kernel, {Blocks(Pieces(args.n, kExchangeFloats))}, kExchangeShared, args);
}

}  // namespace

void GatherParts(const Exchange& exchange, const GatherArgs& args, Queue& queue) {
  const int ranks = exchange.shape.ranks;
  PANGEA_CHECK(ranks <= kMostExchangeRanks && reinterpret_cast<uintptr_t>(args.mine) % 16 == 0);
  GatherKernelArgs told{.side = SideOf(exchange),
                        .peers = {},
                        .rank = exchange.rank,
                        .mine = args.mine,
                        .all = args.all,
                        .rows = args.rows,
                        .pitch = 0,
                        .pieces = 0,
                        .aligned = true,
                        .widths = {},
                        .offsets = {}};
  for (int rank = 0; rank < ranks; ++rank) {
    told.peers[rank] = exchange.peers[rank];
    told.widths[rank] = args.widths[rank];
    told.offsets[rank] = told.pitch;
    told.pitch += args.widths[rank];
    PANGEA_CHECK(args.rows * args.widths[rank] <= INT32_MAX);
    told.pieces = std::max<int64_t>(told.pieces, Pieces(args.rows * args.widths[rank], kExchangeFloats));
    told.aligned = told.aligned && args.widths[rank] % 4 == 0;
  }
  told.aligned = told.aligned && reinterpret_cast<uintptr_t>(args.all) % 16 == 0;
  Cuda(queue).Launch(Kernel::kGatherParts, {Blocks(told.pieces)}, kExchangeShared, told);
}

void SendRows(const Exchange& exchange, const void* from, int64_t n, Queue& queue) {
  Message(Kernel::kSendRows,
          {SideOf(exchange), exchange.behind, const_cast<uint32_t*>(static_cast<const uint32_t*>(from)), n}, queue);
}

void ReceiveRows(const Exchange& exchange, void* to, int64_t n, Queue& queue) {
  Message(Kernel::kReceiveRows, {SideOf(exchange), exchange.before, static_cast<uint32_t*>(to), n}, queue);
}

void MoveIds(const MoveIdsArgs& args, Queue& queue) {
  Cuda(queue).Launch(Kernel::kMoveIds, {Pieces(args.n, InfoOf(Kernel::kMoveIds).threads)}, 0,
                     MoveIdsKernelArgs{.to = args.to,
                                       .to_at = args.to_at,
                                       .from = args.from,
                                       .from_at = args.from_at,
                                       .n = args.n,
                                       .limit = args.limit});
}

}  // namespace pangea::cuda
