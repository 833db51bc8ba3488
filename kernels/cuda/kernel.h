// The kernels, as whoever launches them knows them: a name, a structure of arguments, and what a block of them needs.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/cuda/args.h"

namespace pangea::cuda {

// X(name, its arguments, threads of a block, whether they wait for each other).
#define PANGEA_CUDA_KERNELS(X)                     \
  X(FillLastIds, FillLastIdsArgs, 256, false)      \
  X(ReadAll, ReadAllArgs, 256, true)               \
  X(MakeUp, MakeUpArgs, 256, false)                \
  X(GatherRows, GatherRowsArgs, 256, false)        \
  X(EmbeddingRows, EmbeddingArgs, 256, false)      \
  X(Add, AddArgs, 256, false)                      \
  X(AddBias, AddBiasArgs, 256, false)              \
  X(CopyBlock, CopyBlockArgs, 256, false)          \
  X(RowNorm, RowNormArgs, 256, true)               \
  X(ReduceAddNorm, ReduceNormArgs, 256, true)      \
  X(PackPlain, PackPlainArgs, 256, false)          \
  X(PackHalves, PackHalvesArgs, 256, false)        \
  X(PackQuantised, PackQuantisedArgs, 256, true)   \
  X(GatePack, GatePackArgs, 256, true)             \
  X(FinishQkv, FinishQkvKernelArgs, 128, true)     \
  X(AttentionF16, AttentionKernelArgs, 128, true)  \
  X(AttentionBf16, AttentionKernelArgs, 128, true) \
  X(AttentionI8, AttentionKernelArgs, 128, true)   \
  X(AttentionFold, AttentionKernelArgs, 128, true) \
  X(FewRows1F16, FewRowsArgs, 256, true)           \
  X(FewRows2F16, FewRowsArgs, 256, true)           \
  X(FewRows4F16, FewRowsArgs, 256, true)           \
  X(FewRows8F16, FewRowsArgs, 256, true)           \
  X(FewRows1Bf16, FewRowsArgs, 256, true)          \
  X(FewRows2Bf16, FewRowsArgs, 256, true)          \
  X(FewRows4Bf16, FewRowsArgs, 256, true)          \
  X(FewRows8Bf16, FewRowsArgs, 256, true)          \
  X(ProductF32, ProductKernelArgs, 256, true)      \
  X(ProductF16, ProductKernelArgs, 256, true)      \
  X(ProductBf16, ProductKernelArgs, 256, true)     \
  X(ProductQ8_0, ProductKernelArgs, 256, true)     \
  X(ProductQ4_0, ProductKernelArgs, 256, true)     \
  X(ProductQ4_1, ProductKernelArgs, 256, true)     \
  X(ProductQ5_0, ProductKernelArgs, 256, true)     \
  X(ProductQ5_1, ProductKernelArgs, 256, true)     \
  X(ProductQ4K, ProductKernelArgs, 256, true)      \
  X(ProductQ5K, ProductKernelArgs, 256, true)      \
  X(ProductQ6K, ProductKernelArgs, 256, true)      \
  X(JudgeLogits, SampleKernelArgs, 256, true)      \
  X(CutLogits, SampleKernelArgs, 256, true)        \
  X(DrawIds, SampleKernelArgs, 256, true)          \
  X(TellSamples, SampleKernelArgs, 256, true)      \
  X(CountIds, CountIdsArgs, 256, false)

enum class Kernel : int {
#define PANGEA_NAME(name, Args, threads, meets) k##name,
  PANGEA_CUDA_KERNELS(PANGEA_NAME)
#undef PANGEA_NAME
};

struct KernelInfo {
  const char* name;  // with "Pangea" before it, of the function in a module
  int64_t args_bytes;
  unsigned threads;
  bool meets;
  void (*on_cpu)(const void* args);  // its text as the host's compiler made it, for one thread
};
inline constexpr int kKernels = 0
#define PANGEA_NAME(name, Args, threads, meets) +1
    PANGEA_CUDA_KERNELS(PANGEA_NAME);
#undef PANGEA_NAME
extern const KernelInfo kKernelTable[kKernels];
inline const KernelInfo& InfoOf(Kernel kernel) { return kKernelTable[static_cast<int>(kernel)]; }

}  // namespace pangea::cuda
