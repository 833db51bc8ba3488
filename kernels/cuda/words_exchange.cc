#include <algorithm>
#include <bit>
#include <span>
#include <vector>

#include "kernels/cuda/cuda_queue.h"
#include "kernels/cuda/launch.h"

namespace pangea::cuda {
namespace {

ExchangeSide SideOf(const DeviceExchange& exchange) {
  return {.memory = ExchangeMemory(exchange.shape, exchange.own), .state = exchange.state, .limit = exchange.limit};
}

unsigned Blocks(int64_t pieces) { return static_cast<unsigned>(std::min<int64_t>(pieces, kExchangeBlocks)); }

void Message(Kernel kernel, const MessageKernelArgs& args, Queue& queue) {
  PANGEA_CHECK(reinterpret_cast<uintptr_t>(args.values) % 16 == 0 &&
               std::has_single_bit(static_cast<uint64_t>(args.side.memory.shape.pieces)));
  Cuda(queue).Launch(kernel, {Blocks(Pieces(args.n, kExchangeFloats))}, kExchangeShared, args);
}

// By a library, whose kernels do not tell for whom they wait.
void Transfer(const DeviceExchange& exchange, int whom, std::span<const PeerTransfer> transfers, Queue& queue) {
  const auto tell = [&](uint32_t waits) {
    Cuda(queue).Launch(Kernel::kTellHost, {1}, 0, TellHostArgs{&exchange.state->waits[whom], waits});
  };
  tell(1);
  queue.Transfer(transfers);
  tell(0);
}

}  // namespace

void GatherParts(const DeviceExchange& exchange, const GatherArgs& args, Queue& queue) {
  const int ranks = exchange.shape.ranks, me = exchange.rank;
  PANGEA_CHECK(ranks <= kMostExchangeRanks);
  GatherKernelArgs told{.side = SideOf(exchange),
                        .peers = {},
                        .rank = me,
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
  PANGEA_CHECK(exchange.shape.library || reinterpret_cast<uintptr_t>(args.mine) % 16 == 0);
  if (!exchange.shape.library)
    return Cuda(queue).Launch(Kernel::kGatherParts, {Blocks(told.pieces)}, kExchangeShared, told);
  // Parts of one row come to their places, others beside this one's; the rest is put there.
  const bool row = args.rows == 1;
  std::vector<PeerTransfer> transfers;
  for (int rank = 0; rank < ranks; ++rank) {
    if (rank == me) continue;
    float* const to = row ? args.all + told.offsets[rank] : args.parts + args.rows * told.offsets[rank];
    transfers.push_back(
        {.agent = exchange.first_agent + rank, .send = args.mine, .bytes = 4 * args.rows * told.widths[me]});
    transfers.push_back(
        {.agent = exchange.first_agent + rank, .receive = to, .bytes = 4 * args.rows * told.widths[rank]});
  }
  Transfer(exchange, me == 0 ? 1 : 0, transfers, queue);
  told.mine = args.mine - args.rows * told.offsets[me];  // where rank 0's part lies, or would
  told.aligned = told.aligned && reinterpret_cast<uintptr_t>(args.mine) % 16 == 0;
  PANGEA_CHECK(row || told.mine == args.parts);
  told.rank = row ? me : -1;
  Cuda(queue).Launch(Kernel::kPlaceParts, {Blocks(told.pieces), static_cast<unsigned>(row ? 1 : ranks)}, 0, told);
}

void SendRows(const DeviceExchange& exchange, const void* from, int64_t n, Queue& queue) {
  if (exchange.shape.library) {
    const PeerTransfer sent{.agent = exchange.agent_behind, .send = from, .bytes = 4 * n};
    return Transfer(exchange, ExchangeState::kStageBehind, std::span(&sent, 1), queue);
  }
  Message(Kernel::kSendRows,
          {SideOf(exchange), exchange.behind, const_cast<uint32_t*>(static_cast<const uint32_t*>(from)), n}, queue);
}

void ReceiveRows(const DeviceExchange& exchange, void* to, int64_t n, Queue& queue) {
  if (exchange.shape.library) {
    const PeerTransfer received{.agent = exchange.agent_before, .receive = to, .bytes = 4 * n};
    return Transfer(exchange, ExchangeState::kStageBefore, std::span(&received, 1), queue);
  }
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
