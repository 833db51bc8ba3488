// Blocks of a kernel on the host: each thread of a block is a fiber, which runs until it waits at a barrier or in a
// shuffle for the others, or ends. Which of those that may run comes first is chosen: what a kernel computes must not
// depend on it. Shared memory begins as NaN.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/cuda/args.h"

namespace pangea::cuda::fibers {

// kForward: from barrier to barrier all take turns. kReverse: from the last thread to the first, each warp as far as it
// gets.
enum class Order : uint8_t { kForward, kReverse, kShuffled };

struct Thread {
  Index thread, block;
  unsigned threads = 0;  // of the block
  unsigned blocks = 0;   // of the grid, in its first dimension
  std::byte* shared = nullptr;
};
const Thread& Current();  // REQUIRES a kernel to run on this thread of the host

void Sync();
void SyncWarp();
uint32_t Shuffle(uint32_t value, int lane);
void BeginCopy(void* to, const void* from);
void CommitCopies();
void WaitCopies(int open);

struct Launch {
  const char* name = "";  // for messages
  void (*body)(const void* args) = nullptr;
  const void* args = nullptr;
  bool meets = true;  // whether its threads wait for each other
  unsigned grid[3] = {1, 1, 1};
  unsigned threads = 1;  // of a block, in one dimension
  int64_t shared = 0;    // bytes
};
// Runs all blocks, one after another, on the calling thread. Ends the process with a message where some threads of a
// block wait for others that never come, and where a kernel that is said not to meet does.
void Run(const Launch& launch, Order order, uint32_t seed);

}  // namespace pangea::cuda::fibers
