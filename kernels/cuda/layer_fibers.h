// The words in which kernels are written, for the host's compiler: the threads of a block are fibers, a barrier is
// where they take turns (fibers.h). The same words as layer_nvcc.h, where each is explained.
#pragma once
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/check.h"
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

inline uint32_t LoadAcquire(const uint32_t* p) {
  return std::atomic_ref(*const_cast<uint32_t*>(p)).load(std::memory_order_acquire);
}
inline void StoreRelease(uint32_t* p, uint32_t v) { std::atomic_ref(*p).store(v, std::memory_order_release); }
inline void FenceSystem() {}  // a device is one thread of the host: its releases come behind all of it
inline void Pause() { fibers::Pause(); }
inline int64_t Nanoseconds() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

template <DType type>
uint16_t OneHalf(float f) {
  return type == DType::kF16 ? F32ToF16(f) : F32ToBf16(f);
}
template <DType type>
uint32_t Halves(float first, float second) {
  return OneHalf<type>(first) | static_cast<uint32_t>(OneHalf<type>(second)) << 16;
}
inline void LoadMatrices(uint32_t* r, const void* row) {
  const int lane = static_cast<int>(ThreadIndex().x) % 32;
  fibers::Give(&row, sizeof(row));
  const auto half = [&](int from) -> uint32_t {
    const std::byte* at;
    std::memcpy(&at, fibers::Given(from), sizeof(at));
    uint16_t bits;
    std::memcpy(&bits, at + lane / 4 * 2, sizeof(bits));
    return bits;
  };
  for (int i = 0; i < 4; ++i) r[i] = half(8 * i + lane % 4 * 2) | half(8 * i + lane % 4 * 2 + 1) << 16;
}
template <DType type>
void MultiplyAdd(float* c, const uint32_t* a, const uint32_t* b) {
  const int lane = static_cast<int>(ThreadIndex().x) % 32;
  const uint32_t mine[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
  fibers::Give(mine, sizeof(mine));
  const auto half = [](int from, int word, int i) {
    uint16_t bits;
    std::memcpy(&bits, fibers::Given(from) + word * 4 + i * 2, sizeof(bits));
    return type == DType::kF16 ? F16ToF32(bits) : Bf16ToF32(bits);
  };
  for (int i = 0; i < 4; ++i) {
    const int column = lane % 4 * 2 + i % 2;
    for (int k = 0; k < 16; ++k) {
      const float x = half(lane / 4 * 4 + k % 8 / 2, i / 2 + k / 8 * 2, k % 2);
      c[i] += x * half(column * 4 + k % 8 / 2, 4 + k / 8, k % 2);
    }
  }
}
inline void ShowToGroups() {}
template <int N, int M>
void BeginGroup(float (&)[N][4], uint32_t (&)[M][4]) {}
template <int N, int M>
void EndGroup(float (&)[N][4], uint32_t (&)[M][4]) {}
template <DType type, int N>
void GroupMultiplyAdd(float (&c)[N / 8][4], const uint32_t (&a)[4], const GroupMatrix& b) {
  const int lane = static_cast<int>(ThreadIndex().x) % 32;
  fibers::Give(a, sizeof(a));
  const auto number = [](const std::byte* at) {
    uint16_t bits;
    std::memcpy(&bits, at, sizeof(bits));
    return type == DType::kF16 ? F16ToF32(bits) : Bf16ToF32(bits);
  };
  const int64_t first = b.at - fibers::Current().shared;
  PANGEA_CHECK(first % 1024 == 0 && b.next_columns % 16 == 0 && BlockThreads() == 128);
  float rows[2][16];  // of a that this lane's part of c has
  for (int i = 0; i < 32; ++i) {
    const int k = i % 16, word = i / 16 + k / 8 * 2;
    rows[i / 16][k] = number(fibers::Given(lane / 4 * 4 + k % 8 / 2) + word * 4 + k % 2 * 2);
  }
  for (int column = 0; column < N; ++column) {
    if (column % 8 / 2 != lane % 4) continue;
    float* const sums = c[column / 8] + column % 2;
    for (int k = 0; k < 16; ++k) {
      int64_t byte = first + column / 64 * b.next_columns + k * 128 + column % 64 * 2;
      byte ^= (byte >> 7 & 7) << 4;
      const float v = number(fibers::Current().shared + byte);
      for (int half = 0; half < 2; ++half) sums[half * 2] += rows[half][k] * v;
    }
  }
}
inline float Exp2(float x) { return std::exp2(x); }

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
inline void StoreInt4(void* p, const Int4& v) { std::memcpy(__builtin_assume_aligned(p, 4), &v, sizeof(v)); }

}  // namespace pangea::cuda
