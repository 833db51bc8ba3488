// What devices exchange without their hosts. By NCCL, across hosts; and the devices of one host by these means: each
// agent has some memory that the others' devices write into, and its own device looks for what came
// (DeviceOps::gather_parts and the words behind it; kernels/cuda/exchange.cu is the protocol). What goes is cut into
// pieces; the blocks of a kernel take them by turns, and each block has ways of its own, so that no block waits for
// another one of its kernel.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/types.h"

namespace pangea {

inline constexpr int64_t kExchangePiece = 4 * kExchangeFloats;  // bytes

// A count that one device writes and another one looks at, alone in its 32 bytes.
struct ExchangeFlag {
  uint32_t count;
  uint32_t unused[7];
};

// Where all of it lies in an agent's memory, ExchangeBytes in all. Every agent has the same layout. Counts begin at 0
// with each epoch; they are of pieces, each a block's own.
struct ExchangeMemory {
  ExchangeShape shape;
  std::byte* base = nullptr;
  // Written by the peers' devices.
  ExchangeFlag* arrived = nullptr;  // [blocks][ranks]: parts of the stage's other ranks
  ExchangeFlag* came = nullptr;     // [blocks]: rows of the stage before
  ExchangeFlag* taken = nullptr;    // [blocks]: of the rows that went to the stage behind
  // This device's own.
  uint32_t* gathered = nullptr;  // [blocks] so far
  uint32_t* sent = nullptr;      // [blocks]
  uint32_t* received = nullptr;  // [blocks]
  uint32_t* dead = nullptr;      // 1: a wait was given up; nothing is exchanged any more in this epoch
  int64_t counts_bytes = 0;      // all up to here
  int32_t* ids = nullptr;        // [slots]: sampled ids on their way between the stages,
  int32_t* ids_at = nullptr;     // [slots]: and the slots that they are of
  std::byte* parts = nullptr;    // [blocks][2][ranks][piece]
  std::byte* rows = nullptr;     // [blocks][pieces][piece]
  int64_t bytes = 0;

  ExchangeMemory(const ExchangeShape& s, std::byte* memory) : shape(s), base(memory) {
    const auto take = [&]<class T>(T*& part, int64_t n) {
      part = reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(memory) + static_cast<uintptr_t>(bytes));
      bytes += (n * static_cast<int64_t>(sizeof(T)) + 255) / 256 * 256;
    };
    take(arrived, int64_t{kExchangeBlocks} * s.ranks);
    take(came, kExchangeBlocks);
    take(taken, kExchangeBlocks);
    take(gathered, kExchangeBlocks);
    take(sent, kExchangeBlocks);
    take(received, kExchangeBlocks);
    take(dead, 1);
    counts_bytes = bytes;
    take(ids, s.slots);
    take(ids_at, s.slots);
    take(parts, s.ranks > 1 && !s.library ? kExchangeBlocks * 2 * s.ranks * kExchangePiece : 0);
    take(rows, kExchangeBlocks * s.pieces * kExchangePiece);
  }
};

// Memory of the host that a device reads and writes, too; the host's side of an exchange.
struct ExchangeState {
  enum Fault : uint32_t { kNone, kAborted, kTooLate };
  // For whom a device waits: rank r of its stage, or another stage.
  static constexpr int kStageBefore = kMostExchangeRanks, kStageBehind = kMostExchangeRanks + 1;
  alignas(64) uint32_t abort;  // the host's: whatever waits is to give up
  alignas(64) uint32_t fault;  // the device's: of the first wait that was given up,
  uint32_t whom;               // and for whom that was
  alignas(
      64) uint32_t waits[kMostExchangeRanks + 2];  // the device's: 1 while it waits for that one, and has for a while
};

// The agent's way to the others, for one epoch.
struct DeviceExchange {
  ExchangeShape shape;
  int rank = 0;
  std::byte* own = nullptr;
  std::byte* peers[kMostExchangeRanks] = {};  // [ranks] of the stage; its own included
  std::byte* before = nullptr;                // the same rank of the stage before; of the first one, of the last
  std::byte* behind = nullptr;                // likewise
  ExchangeState* state = nullptr;
  int64_t limit = 0;  // nanoseconds that a device waits at most
  // By a library: by agents' numbers.
  int first_agent = 0, agent_before = 0, agent_behind = 0;  // first: of this stage
  bool of_host = false;  // all of this memory is the host's, as the devices do not reach each other's
};

// Rank r contributes `rows` rows of widths[r]; all have then rows of all ranks' columns, side by side, and so has this
// one. `mine` [rows][widths[rank]] and all [rows][sum of widths] do not overlap. By a library: of several rows `mine`
// lies in `parts`, which has room for all ranks' parts, one after another, at its place there; else it is aligned to 16
// bytes.
struct GatherArgs {
  const float* mine = nullptr;
  float* all = nullptr;
  int64_t rows = 1;
  float* parts = nullptr;
  const int64_t* widths = nullptr;  // of the host, [ranks]; the same on every rank
};

// n values of 32 bits: to[to_at[i]] = from[from_at[i]]; null places: i itself. Nothing goes to a negative place.
// Values are ids below `limit`; others become 0.
struct MoveIdsArgs {
  int32_t* to = nullptr;
  const int32_t* to_at = nullptr;
  const int32_t* from = nullptr;
  const int32_t* from_at = nullptr;
  int64_t n = 0;
  int32_t limit = 0;
};

}  // namespace pangea
