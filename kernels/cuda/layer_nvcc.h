// The words in which kernels are written, for nvcc. layer_fibers.h has the same for the host's compiler: a kernel's
// text uses nothing of CUDA but these.
#pragma once
#include <cuda_fp16.h>

#include <cstdint>

#define PANGEA_INLINE __host__ __device__ __forceinline__
#include "kernels/cuda/args.h"
#include "kernels/half.h"

// A kernel of at most `threads` threads a block; its arguments are `a`. _FOR: of which so many blocks at least are to
// fit on a multiprocessor, and which may have as many registers as that allows. Launched so (kernels.fusion 3), its
// blocks come while the last of the kernel before it still run, and wait for the end of that before they do anything.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define PANGEA_MEET_THE_KERNEL_BEFORE                \
  asm volatile("griddepcontrol.launch_dependents;"); \
  asm volatile("griddepcontrol.wait;" ::: "memory");
#else
#define PANGEA_MEET_THE_KERNEL_BEFORE
#endif
#define PANGEA_KERNEL_WITHIN(name, Args, ...)                                                              \
  static __device__ __forceinline__ void name(const Args& a);                                              \
  extern "C" __global__ void __launch_bounds__(__VA_ARGS__) Pangea##name(const __grid_constant__ Args a) { \
    PANGEA_MEET_THE_KERNEL_BEFORE                                                                          \
    name(a);                                                                                               \
  }                                                                                                        \
  static __device__ __forceinline__ void name([[maybe_unused]] const Args& a)
#define PANGEA_KERNEL(name, Args, threads) PANGEA_KERNEL_WITHIN(name, Args, threads)
#define PANGEA_KERNEL_FOR(name, Args, threads, blocks) PANGEA_KERNEL_WITHIN(name, Args, threads, blocks)
#define PANGEA_DEVICE __device__ __forceinline__

namespace pangea::cuda {

PANGEA_DEVICE Index ThreadIndex() { return {threadIdx.x, threadIdx.y, threadIdx.z}; }
PANGEA_DEVICE Index BlockIndex() { return {blockIdx.x, blockIdx.y, blockIdx.z}; }
PANGEA_DEVICE unsigned BlockThreads() { return blockDim.x; }
PANGEA_DEVICE unsigned GridBlocks() { return gridDim.x; }

// The block's shared memory, of the size that it was launched with, from a byte on.
template <class T>
PANGEA_DEVICE T* Shared(int64_t byte = 0) {
  extern __shared__ __align__(1024) unsigned char memory[];
  return reinterpret_cast<T*>(memory + byte);
}

PANGEA_DEVICE void Sync() { __syncthreads(); }
PANGEA_DEVICE void SyncWarp() { __syncwarp(); }
// The value of another lane of the warp; all 32 lanes call.
template <class T>
PANGEA_DEVICE T Shuffle(T v, int lane) {
  return __shfl_sync(0xffffffffu, v, lane);
}

// 16 bytes from global to shared memory, both aligned to 16, on their way while the thread goes on. What a thread has
// begun since its last CommitCopies is one group; WaitCopies returns when no more than `open` of its groups are under
// way, and other threads see what arrived after the next Sync.
PANGEA_DEVICE void CopyAsync16(void* to, const void* from) {
  const unsigned shared = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(from) : "memory");
}
PANGEA_DEVICE void CommitCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int open>
PANGEA_DEVICE void WaitCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(open) : "memory");
}

// Adds to what other threads may be adding to as well; what it was before.
PANGEA_DEVICE int AtomicAdd(int* p, int v) { return atomicAdd(p, v); }
PANGEA_DEVICE void AtomicOr(int* p, int v) { atomicOr(p, v); }

// Of memory that other devices, or the host, read and write meanwhile. Whoever loads what a StoreRelease has stored
// sees what was written before that, by this thread, or by others before their FenceSystem and the Sync behind it.
PANGEA_DEVICE uint32_t LoadAcquire(const uint32_t* p) {
  uint32_t v;
  asm volatile("ld.acquire.sys.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
  return v;
}
PANGEA_DEVICE void StoreRelease(uint32_t* p, uint32_t v) {
  asm volatile("st.release.sys.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}
PANGEA_DEVICE void FenceSystem() { __threadfence_system(); }
// Between two looks at such memory; and a clock by which waiting ends.
PANGEA_DEVICE void Pause() { __nanosleep(20); }
PANGEA_DEVICE int64_t Nanoseconds() {
  int64_t t;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(t));
  return t;
}

// Two numbers rounded to 16 bits, the first in the lower ones.
template <DType type>
PANGEA_DEVICE uint32_t Halves(float first, float second) {
  uint32_t halves;
  if constexpr (type == DType::kF16) {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(halves) : "f"(second), "f"(first));
  } else {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(halves) : "f"(second), "f"(first));
  }
  return halves;
}
// Four matrices of 8 x 8 numbers of 16 bits out of shared memory: lane 8 i + j says where row j of matrix i lies. Each
// lane gets, of column lane / 4 of matrix i, rows lane % 4 * 2 and the next: in the halves of r[i].
PANGEA_DEVICE void LoadMatrices(uint32_t* r, const void* row) {
  const unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(at)
               : "memory");
}
// c += a . b on a tensor core: a [16][16], b [16][8] of 16 bits, c f32, each spread over the warp's lanes. Of a lane:
// a[i] row lane / 4 + i % 2 * 8, from column lane % 4 * 2 + i / 2 * 8 on; b[i] column lane / 4, from row lane % 4 * 2 +
// i * 8 on; c[i] row lane / 4 + i / 2 * 8, column lane % 4 * 2 + i % 2.
template <DType type>
PANGEA_DEVICE void MultiplyAdd(float* c, const uint32_t* a, const uint32_t* b) {
  if constexpr (type == DType::kF16) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
        "%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, "
        "%2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
}
// c += a . b by the 128 threads of a block together, on Hopper's tensor cores (wgmma; PTX ISA, "Asynchronous Warpgroup
// Level Matrix Instructions"): a [64][16], 16 rows a warp, and c [64][N] spread over each warp's lanes as MultiplyAdd's
// are; b [16][N] in shared memory. What threads have copied or stored there is shown to the tensor cores by
// ShowToGroups, before a Sync; products are done between BeginGroup and EndGroup of what they add to and of all a.
// Only where compute capability is 9.0: nothing else has them.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
PANGEA_DEVICE void ShowToGroups() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
#define PANGEA_PLACES_64                                                                            \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, " \
  "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31 "
#define PANGEA_PLACES_128                                                                           \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, " \
  "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, " \
  "%40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, " \
  "%59, %60, %61, %62, %63 "
#define PANGEA_FOUR(i) "+f"(c[i][0]), "+f"(c[i][1]), "+f"(c[i][2]), "+f"(c[i][3])
// Registers that are written before, and not read or moved meanwhile.
template <int N, int M>
PANGEA_DEVICE void Settle(float (&c)[N][4], uint32_t (&a)[M][4]) {
#pragma unroll
  for (int i = 0; i < N; ++i) asm volatile("" : PANGEA_FOUR(i)::"memory");
#pragma unroll
  for (int i = 0; i < M; ++i) asm volatile("" : "+r"(a[i][0]), "+r"(a[i][1]), "+r"(a[i][2]), "+r"(a[i][3])::"memory");
}
template <int N, int M>
PANGEA_DEVICE void BeginGroup(float (&c)[N][4], uint32_t (&a)[M][4]) {
  Settle(c, a);
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
template <int N, int M>
PANGEA_DEVICE void EndGroup(float (&c)[N][4], uint32_t (&a)[M][4]) {
  asm volatile("wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;" ::: "memory");
  Settle(c, a);
}
#define PANGEA_SUMS_64                                                                                            \
  PANGEA_FOUR(0), PANGEA_FOUR(1), PANGEA_FOUR(2), PANGEA_FOUR(3), PANGEA_FOUR(4), PANGEA_FOUR(5), PANGEA_FOUR(6), \
      PANGEA_FOUR(7)
#define PANGEA_SUMS_128                                                                                               \
  PANGEA_SUMS_64, PANGEA_FOUR(8), PANGEA_FOUR(9), PANGEA_FOUR(10), PANGEA_FOUR(11), PANGEA_FOUR(12), PANGEA_FOUR(13), \
      PANGEA_FOUR(14), PANGEA_FOUR(15)
// b is not turned: its columns lie side by side.
#define PANGEA_GROUP_PRODUCT(n, type, of_a_and_b)                                                                      \
  asm volatile("{.reg .pred add; setp.ne.b32 add, 1, 0; wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type \
               " {" PANGEA_PLACES_##n "}, " of_a_and_b ", add, 1, 1, 1;}"                                              \
               : PANGEA_SUMS_##n                                                                                       \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(matrix))
template <DType type, int N>
PANGEA_DEVICE void GroupMultiplyAdd(float (&c)[N / 8][4], const uint32_t (&a)[4], const GroupMatrix& b) {
  static_assert(N == 64 || N == 128);
  // A matrix descriptor: where it begins, how far the next 64 columns and the next 8 rows are, in units of 16 bytes; 1
  // stands for swizzling by 128 bytes.
  const uint64_t matrix = (__cvta_generic_to_shared(b.at) & 0x3ffff) >> 4 |
                          static_cast<uint64_t>(b.next_columns) >> 4 << 16 | uint64_t{1024 >> 4} << 32 |
                          uint64_t{1} << 62;
  if constexpr (N == 64) {
    if constexpr (type == DType::kF16) PANGEA_GROUP_PRODUCT(64, "f16", "{%32, %33, %34, %35}, %36");
    if constexpr (type == DType::kBF16) PANGEA_GROUP_PRODUCT(64, "bf16", "{%32, %33, %34, %35}, %36");
  } else {
    if constexpr (type == DType::kF16) PANGEA_GROUP_PRODUCT(128, "f16", "{%64, %65, %66, %67}, %68");
    if constexpr (type == DType::kBF16) PANGEA_GROUP_PRODUCT(128, "bf16", "{%64, %65, %66, %67}, %68");
  }
}
#else
PANGEA_DEVICE void ShowToGroups() {}
template <int N, int M>
PANGEA_DEVICE void BeginGroup(float (&)[N][4], uint32_t (&)[M][4]) {}
template <int N, int M>
PANGEA_DEVICE void EndGroup(float (&)[N][4], uint32_t (&)[M][4]) {}
template <DType type, int N>
PANGEA_DEVICE void GroupMultiplyAdd(float (&)[N / 8][4], const uint32_t (&)[4], const GroupMatrix&) {
  __trap();
}
#endif
// 2 to the x, nearly.
PANGEA_DEVICE float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// The sum of products of four signed bytes each, added to c.
PANGEA_DEVICE int Dot4(int a, int b, int c) { return __dp4a(a, b, c); }
PANGEA_DEVICE float LoadF16(const void* p) { return __half2float(*static_cast<const __half*>(p)); }
PANGEA_DEVICE float FromF16(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
// As LoadInt4, of what is read once: it is not kept in the first cache.
PANGEA_DEVICE Int4 StreamInt4(const void* p) {
  Int4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.s32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p));
  return v;
}
PANGEA_DEVICE float Fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
PANGEA_DEVICE float SquareRoot(float x) { return __fsqrt_rn(x); }
PANGEA_DEVICE int RoundToInt(float x) { return __float2int_rn(x); }

PANGEA_DEVICE Int4 LoadInt4(const void* p) {
  const int4 v = *static_cast<const int4*>(p);
  return {v.x, v.y, v.z, v.w};
}
PANGEA_DEVICE void StoreInt4(void* p, const Int4& v) { *static_cast<int4*>(p) = make_int4(v.x, v.y, v.z, v.w); }

}  // namespace pangea::cuda
