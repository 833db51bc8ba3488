#include "kernels/cuda/cuda_queue.h"
#include "kernels/cuda/launch.h"

namespace pangea::cuda {

void SampleIds(const SampleArgs& args, Queue& queue) {
  PANGEA_CHECK(args.tops <= args.memory->shape.tops);
  const SampleKernelArgs told{
      .memory = *args.memory, .logits = args.logits, .edited = args.edited, .last = args.last, .tops = args.tops};
  const unsigned rows = static_cast<unsigned>(args.rows), blocks = static_cast<unsigned>(args.memory->blocks());
  CudaQueue& device = Cuda(queue);
  device.Launch(Kernel::kJudgeLogits, {blocks, rows}, kJudgeShared, told);
  if (args.cuts || args.logprobs) device.Launch(Kernel::kCutLogits, {rows}, kCutShared, told);
  if (args.draws) device.Launch(Kernel::kDrawIds, {blocks, rows}, kDrawShared, told);
  device.Launch(Kernel::kTellSamples, {rows}, kDrawShared, told);
}

void CountIds(const CountArgs& args, Queue& queue) {
  Cuda(queue).Launch(Kernel::kCountIds, {Pieces(args.n, InfoOf(Kernel::kCountIds).threads)}, 0,
                     CountIdsArgs{.counts = args.counts, .ids = args.ids, .n = args.n, .in_prompt = args.in_prompt});
}

}  // namespace pangea::cuda
