// The kernels, as whoever launches them knows them: a name, a structure of arguments, and what a block of them needs.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/cuda/args.h"

namespace pangea::cuda {

// For whom a thread of a kernel waits: for none, for those of its block, and for other devices, too: block b of it for
// block b of the like kernel there.
enum Meets : uint8_t { kNobody, kItsBlock, kOthers };

// X(name, its arguments, threads of a block, for whom they wait).
#define PANGEA_CUDA_KERNELS(X)                                   \
  X(FillLastIds, FillLastIdsArgs, 256, kNobody)                  \
  X(ReadAll, ReadAllArgs, 256, kItsBlock)                        \
  X(MakeUp, MakeUpArgs, 256, kNobody)                            \
  X(GatherRows, GatherRowsArgs, 256, kNobody)                    \
  X(EmbeddingRows, EmbeddingArgs, 256, kNobody)                  \
  X(Add, AddArgs, 256, kNobody)                                  \
  X(AddBias, AddBiasArgs, 256, kNobody)                          \
  X(CopyBlock, CopyBlockArgs, 256, kNobody)                      \
  X(RowNorm, RowNormArgs, 256, kItsBlock)                        \
  X(ReduceAddNorm, ReduceNormArgs, 256, kItsBlock)               \
  X(PackPlain, PackPlainArgs, 256, kNobody)                      \
  X(PackHalves, PackHalvesArgs, 256, kNobody)                    \
  X(PackQuantised, PackQuantisedArgs, 256, kItsBlock)            \
  X(GatePack, GatePackArgs, 256, kItsBlock)                      \
  X(FinishQkv, FinishQkvKernelArgs, 128, kItsBlock)              \
  X(AttentionF16, AttentionKernelArgs, 128, kItsBlock)           \
  X(AttentionBf16, AttentionKernelArgs, 128, kItsBlock)          \
  X(AttentionI8, AttentionKernelArgs, 128, kItsBlock)            \
  X(AttentionF8, AttentionKernelArgs, 128, kItsBlock)            \
  X(AttentionFold, AttentionKernelArgs, 128, kItsBlock)          \
  X(AttentionMany64F16, AttentionKernelArgs, 128, kItsBlock)     \
  X(AttentionMany64Bf16, AttentionKernelArgs, 128, kItsBlock)    \
  X(AttentionMany128F16, AttentionKernelArgs, 128, kItsBlock)    \
  X(AttentionMany128Bf16, AttentionKernelArgs, 128, kItsBlock)   \
  X(AttentionGroups64F16, AttentionKernelArgs, 128, kItsBlock)   \
  X(AttentionGroups64Bf16, AttentionKernelArgs, 128, kItsBlock)  \
  X(AttentionGroups128F16, AttentionKernelArgs, 128, kItsBlock)  \
  X(AttentionGroups128Bf16, AttentionKernelArgs, 128, kItsBlock) \
  X(FewRows1F16, FewRowsArgs, 256, kItsBlock)                    \
  X(FewRows2F16, FewRowsArgs, 256, kItsBlock)                    \
  X(FewRows4F16, FewRowsArgs, 256, kItsBlock)                    \
  X(FewRows8F16, FewRowsArgs, 256, kItsBlock)                    \
  X(FewRows1Bf16, FewRowsArgs, 256, kItsBlock)                   \
  X(FewRows2Bf16, FewRowsArgs, 256, kItsBlock)                   \
  X(FewRows4Bf16, FewRowsArgs, 256, kItsBlock)                   \
  X(FewRows8Bf16, FewRowsArgs, 256, kItsBlock)                   \
  X(FewRows1F8, FewRowsArgs, 256, kItsBlock)                     \
  X(FewRows2F8, FewRowsArgs, 256, kItsBlock)                     \
  X(FewRows4F8, FewRowsArgs, 256, kItsBlock)                     \
  X(FewRows8F8, FewRowsArgs, 256, kItsBlock)                     \
  X(WidenF8, WidenArgs, 256, kNobody)                            \
  X(ProductF32, ProductKernelArgs, 256, kItsBlock)               \
  X(ProductF16, ProductKernelArgs, 256, kItsBlock)               \
  X(ProductBf16, ProductKernelArgs, 256, kItsBlock)              \
  X(ProductF8, ProductKernelArgs, 256, kItsBlock)                \
  X(ProductQ8_0, ProductKernelArgs, 256, kItsBlock)              \
  X(ProductQ4_0, ProductKernelArgs, 256, kItsBlock)              \
  X(ProductQ4_1, ProductKernelArgs, 256, kItsBlock)              \
  X(ProductQ5_0, ProductKernelArgs, 256, kItsBlock)              \
  X(ProductQ5_1, ProductKernelArgs, 256, kItsBlock)              \
  X(ProductQ4K, ProductKernelArgs, 256, kItsBlock)               \
  X(ProductQ5K, ProductKernelArgs, 256, kItsBlock)               \
  X(ProductQ6K, ProductKernelArgs, 256, kItsBlock)               \
  X(JudgeLogits, SampleKernelArgs, 256, kItsBlock)               \
  X(CutLogits, SampleKernelArgs, 256, kItsBlock)                 \
  X(DrawIds, SampleKernelArgs, 256, kItsBlock)                   \
  X(TellSamples, SampleKernelArgs, 256, kItsBlock)               \
  X(CountIds, CountIdsArgs, 256, kNobody)                        \
  X(GatherParts, GatherKernelArgs, 256, kOthers)                 \
  X(PlaceParts, GatherKernelArgs, 256, kNobody)                  \
  X(SendRows, MessageKernelArgs, 256, kOthers)                   \
  X(ReceiveRows, MessageKernelArgs, 256, kOthers)                \
  X(TellHost, TellHostArgs, 32, kNobody)                         \
  X(MoveIds, MoveIdsKernelArgs, 256, kNobody)

enum class Kernel : int {
#define PANGEA_NAME(name, Args, threads, meets) k##name,
  PANGEA_CUDA_KERNELS(PANGEA_NAME)
#undef PANGEA_NAME
};

struct KernelInfo {
  const char* name;  // with "Pangea" before it, of the function in a module
  int64_t args_bytes;
  unsigned threads;
  Meets meets;
  void (*on_cpu)(const void* args);  // its text as the host's compiler made it, for one thread
};
inline constexpr int kKernels = 0
#define PANGEA_NAME(name, Args, threads, meets) +1
    PANGEA_CUDA_KERNELS(PANGEA_NAME);
#undef PANGEA_NAME
extern const KernelInfo kKernelTable[kKernels];
inline const KernelInfo& InfoOf(Kernel kernel) { return kKernelTable[static_cast<int>(kernel)]; }

}  // namespace pangea::cuda
