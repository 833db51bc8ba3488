#include "kernels/cuda/kernel.h"

namespace pangea::cuda {

#define PANGEA_NAME(name, Args, threads, meets) void name(const Args& a);
PANGEA_CUDA_KERNELS(PANGEA_NAME)
#undef PANGEA_NAME

const KernelInfo kKernelTable[kKernels] = {
#define PANGEA_NAME(name, Args, threads, meets) \
  {#name, sizeof(Args), threads, meets, [](const void* args) { name(*static_cast<const Args*>(args)); }},
    PANGEA_CUDA_KERNELS(PANGEA_NAME)
#undef PANGEA_NAME
};

}  // namespace pangea::cuda
