// The words in which kernels are written, for the host's compiler: the threads of a block are fibers, a barrier is
// where they take turns (fibers.h). The same words as layer_nvcc.h, where each is explained.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/cuda/args.h"
#include "kernels/cuda/fibers.h"
#include "kernels/half.h"

#define PANGEA_KERNEL(name, Args, threads) void name([[maybe_unused]] const Args& a)
#define PANGEA_KERNEL_FOR(name, Args, threads, blocks) PANGEA_KERNEL(name, Args, threads)
#define PANGEA_DEVICE inline

namespace pangea::cuda {

inline Index ThreadIndex() { return fibers::Current().thread; }
inline Index BlockIndex() { return fibers::Current().block; }
inline unsigned BlockThreads() { return fibers::Current().threads; }
inline unsigned GridBlocks() { return fibers::Current().blocks; }

template <class T>
T* Shared(int64_t byte = 0) {
  return reinterpret_cast<T*>(fibers::Current().shared + byte);
}

inline void Sync() { fibers::Sync(); }
inline void SyncWarp() { fibers::SyncWarp(); }
template <class T>
T Shuffle(T v, int lane) {
  static_assert(sizeof(T) == 4);
  return __builtin_bit_cast(T, fibers::Shuffle(__builtin_bit_cast(uint32_t, v), lane));
}

// Copied no sooner than they are waited for: a wait that is missing reads what lay there.
inline void CopyAsync16(void* to, const void* from) { fibers::BeginCopy(to, from); }
inline void CommitCopies() { fibers::CommitCopies(); }
template <int open>
void WaitCopies() {
  fibers::WaitCopies(open);
}

// A fiber goes on until it waits.
inline int AtomicAdd(int* p, int v) {
  const int before = *p;
  *p = before + v;
  return before;
}
inline void AtomicOr(int* p, int v) { *p |= v; }

inline int Dot4(int a, int b, int c) {
  for (int i = 0; i < 32; i += 8) c += static_cast<int8_t>(a >> i) * static_cast<int8_t>(b >> i);
  return c;
}
inline float LoadF16(const void* p) {
  uint16_t h;
  std::memcpy(&h, p, 2);
  return F16ToF32(h);
}
inline float FromF16(uint16_t bits) { return F16ToF32(bits); }
inline float Fma(float a, float b, float c) { return std::fmaf(a, b, c); }
inline float SquareRoot(float x) { return std::sqrt(x); }
inline int RoundToInt(float x) { return static_cast<int>(std::lrintf(x)); }

inline Int4 StreamInt4(const void* p) {
  Int4 v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
inline Int4 LoadInt4(const void* p) {
  Int4 v;
  std::memcpy(&v, __builtin_assume_aligned(p, 4), sizeof(v));
  return v;
}

}  // namespace pangea::cuda
