// How the devices of one host exchange (kernels/exchange.h). A piece is written where its reader has room for it, then
// its count is raised there (release, of the whole system); who waits looks at a count in its own memory (acquire).
//
// Parts of ranks: a block of each rank has room for two pieces of each other rank. In its round n it writes its piece
// and waits for theirs of that round; whoever has told of round n + 1 has taken all of round n, so that room n % 2 is
// free in round n + 2. Rows between stages: the reader says what it has taken, and the writer waits for room.
//
// Every wait ends: as the host says, or when its time is over. Then this device is dead to the others until the next
// epoch, and its exchanges do nothing.
#include "kernels/cuda/device_math.h"

namespace pangea::cuda {
namespace {

constexpr int64_t kPiece = kExchangeFloats;
constexpr unsigned kTurns = 64;        // of a wait between two looks at what ends it
constexpr unsigned kLongTurns = 1024;  // from which on it is told

// The same place in another agent's memory.
template <class T>
PANGEA_DEVICE T* At(std::byte* other, T* own, const ExchangeMemory& m) {
  return reinterpret_cast<T*>(other + (reinterpret_cast<const std::byte*>(own) - m.base));
}

// One thread waits until a count has come to n. False: it does not any more.
PANGEA_DEVICE bool Await(const ExchangeFlag& flag, uint32_t n, int whom, const ExchangeSide& side) {
  const auto there = [&] { return static_cast<int32_t>(LoadAcquire(&flag.count) - n) >= 0; };
  if (there()) return true;
  uint32_t* const waits = BlockIndex().x == 0 ? &side.state->waits[whom] : nullptr;
  const int64_t begin = Nanoseconds();
  bool told = false, came = false;
  for (unsigned turn = 1;; ++turn) {
    if (there()) {
      came = true;
      break;
    }
    Pause();
    if (turn % kTurns != 0) continue;
    if (LoadAcquire(side.memory.dead) != 0) break;
    const bool abort = LoadAcquire(&side.state->abort) != 0;
    if (abort || Nanoseconds() - begin > side.limit) {
      if (AtomicAdd(reinterpret_cast<int*>(side.memory.dead), 1) != 0) break;  // another one has told why
      side.state->whom = static_cast<uint32_t>(whom);
      StoreRelease(&side.state->fault, abort ? ExchangeState::kAborted : ExchangeState::kTooLate);
      break;
    }
    if (!told && turn >= kLongTurns && waits != nullptr) {
      StoreRelease(waits, 1);
      told = true;
    }
  }
  if (told) StoreRelease(waits, 0);
  return came;
}

// All threads: n values of 32 bits, both sides aligned to 16 bytes.
PANGEA_DEVICE void CopyWords(uint32_t* to, const uint32_t* from, int64_t n) {
  const int64_t t = ThreadIndex().x, threads = BlockThreads();
  for (int64_t i = t; i < n / 4; i += threads) StoreInt4(to + 4 * i, LoadInt4(from + 4 * i));
  for (int64_t i = n / 4 * 4 + t; i < n; i += threads) to[i] = from[i];
}

// All threads: floats [at, at + n) of a rank's part, to their places among those of all.
PANGEA_DEVICE void Place(const GatherKernelArgs& a, int rank, int64_t at, const float* from, int64_t n) {
  const int64_t t = ThreadIndex().x, threads = BlockThreads();
  const uint32_t width = static_cast<uint32_t>(a.widths[rank]);
  float* const all = a.all + a.offsets[rank];
  const auto place = [&](int64_t i) -> float* {
    if (a.rows == 1) return all + at + i;
    const uint32_t e = static_cast<uint32_t>(at + i), row = e / width;
    return all + row * a.pitch + (e - row * width);
  };
  if (a.aligned) {
    for (int64_t i = t; i < n / 4; i += threads) StoreInt4(place(4 * i), LoadInt4(from + 4 * i));
    return;
  }
  for (int64_t i = t; i < n; i += threads) *place(i) = from[i];
}

// What of n values lies in piece p.
PANGEA_DEVICE int64_t InPiece(int64_t n, int64_t p) {
  const int64_t left = n - p * kPiece;
  return left < 0 ? 0 : left < kPiece ? left : kPiece;
}

// All threads: whether this device still exchanges. `words`: of shared memory, not in use since the last Sync.
PANGEA_DEVICE bool Lives(const ExchangeSide& side, uint32_t* words) {
  if (ThreadIndex().x == 0) words[0] = LoadAcquire(side.memory.dead);
  Sync();
  const bool lives = words[0] == 0;
  Sync();
  return lives;
}

}  // namespace

// A block a piece and round; blocks: no more than kExchangeBlocks.
PANGEA_KERNEL(GatherParts, GatherKernelArgs, 256) {
  const int t = static_cast<int>(ThreadIndex().x), b = static_cast<int>(BlockIndex().x);
  const int ranks = a.side.memory.shape.ranks, me = a.rank;
  const ExchangeMemory& m = a.side.memory;
  uint32_t* const words = Shared<uint32_t>();
  if (!Lives(a.side, words)) return;
  uint32_t round = m.gathered[b];
  const auto room = [&](int rank) {  // of the piece that a rank writes in this round
    const int64_t place = (int64_t{b} * 2 + round % 2) * ranks + rank;
    return reinterpret_cast<uint32_t*>(m.parts + place * kExchangePiece);
  };
  for (int64_t p = b; p < a.pieces; p += GridBlocks()) {
    ++round;
    const int64_t at = p * kPiece, own = InPiece(a.rows * a.widths[me], p);
    for (int other = 0; other < ranks; ++other) {
      if (other == me) continue;
      CopyWords(At(a.peers[other], room(me), m), reinterpret_cast<const uint32_t*>(a.mine + at), own);
    }
    if (own > 0) Place(a, me, at, a.mine + at, own);
    FenceSystem();
    Sync();
    if (t < ranks) {
      words[t] = 1;
      if (t != me) {
        StoreRelease(&At(a.peers[t], &m.arrived[b * ranks + me], m)->count, round);
        words[t] = Await(m.arrived[b * ranks + t], round, t, a.side) ? 1 : 0;
      }
    }
    Sync();
    bool whole = true;
    for (int i = 0; i < ranks; ++i) whole = whole && words[i] != 0;
    if (!whole) return;
    for (int other = 0; other < ranks; ++other) {
      const int64_t n = other == me ? 0 : InPiece(a.rows * a.widths[other], p);
      if (n > 0) Place(a, other, at, reinterpret_cast<const float*>(room(other)), n);
    }
  }
  if (t == 0) m.gathered[b] = round;
}

// Where a library brings the parts: `mine` is where all of them lie, one after another; they come to their places among
// all. rank: of the only one that is moved; negative: all. Grid: (pieces by turns, ranks).
PANGEA_KERNEL(PlaceParts, GatherKernelArgs, 256) {
  const int rank = a.rank < 0 ? static_cast<int>(BlockIndex().y) : a.rank;
  const float* const part = a.mine + a.rows * a.offsets[rank];
  for (int64_t p = BlockIndex().x; p < a.pieces; p += GridBlocks()) {
    const int64_t n = InPiece(a.rows * a.widths[rank], p);
    if (n > 0) Place(a, rank, p * kPiece, part + p * kPiece, n);
  }
}

PANGEA_KERNEL(SendRows, MessageKernelArgs, 256) {
  const int t = static_cast<int>(ThreadIndex().x), b = static_cast<int>(BlockIndex().x);
  const ExchangeMemory& m = a.side.memory;
  uint32_t* const words = Shared<uint32_t>();
  if (!Lives(a.side, words)) return;
  uint32_t round = m.sent[b];
  const auto rooms = static_cast<uint32_t>(m.shape.pieces);
  for (int64_t p = b; p * kPiece < a.n; p += GridBlocks()) {
    ++round;
    if (t == 0) words[0] = Await(m.taken[b], round - rooms, ExchangeState::kStageBehind, a.side) ? 1 : 0;
    Sync();
    if (words[0] == 0) return;
    std::byte* const room = m.rows + (int64_t{b} * rooms + round % rooms) * kExchangePiece;
    CopyWords(reinterpret_cast<uint32_t*>(At(a.other, room, m)), a.values + p * kPiece, InPiece(a.n, p));
    FenceSystem();
    Sync();
    if (t == 0) StoreRelease(&At(a.other, &m.came[b], m)->count, round);
  }
  if (t == 0) m.sent[b] = round;
}

PANGEA_KERNEL(ReceiveRows, MessageKernelArgs, 256) {
  const int t = static_cast<int>(ThreadIndex().x), b = static_cast<int>(BlockIndex().x);
  const ExchangeMemory& m = a.side.memory;
  uint32_t* const words = Shared<uint32_t>();
  if (!Lives(a.side, words)) return;
  uint32_t round = m.received[b];
  const auto rooms = static_cast<uint32_t>(m.shape.pieces);
  for (int64_t p = b; p * kPiece < a.n; p += GridBlocks()) {
    ++round;
    if (t == 0) words[0] = Await(m.came[b], round, ExchangeState::kStageBefore, a.side) ? 1 : 0;
    Sync();
    if (words[0] == 0) return;
    const std::byte* const room = m.rows + (int64_t{b} * rooms + round % rooms) * kExchangePiece;
    CopyWords(a.values + p * kPiece, reinterpret_cast<const uint32_t*>(room), InPiece(a.n, p));
    FenceSystem();
    Sync();
    if (t == 0) StoreRelease(&At(a.other, &m.taken[b], m)->count, round);
  }
  if (t == 0) m.received[b] = round;
}

PANGEA_KERNEL(TellHost, TellHostArgs, 32) {
  if (ThreadIndex().x == 0) StoreRelease(a.word, a.value);
}

PANGEA_KERNEL(MoveIds, MoveIdsKernelArgs, 256) {
  const int64_t i = int64_t{BlockIndex().x} * BlockThreads() + ThreadIndex().x;
  if (i >= a.n) return;
  const int64_t to = a.to_at != nullptr ? a.to_at[i] : i;
  const int32_t id = a.from[a.from_at != nullptr ? a.from_at[i] : i];
  if (to >= 0) a.to[to] = id >= 0 && id < a.limit ? id : 0;
}

}  // namespace pangea::cuda
