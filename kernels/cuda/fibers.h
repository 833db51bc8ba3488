// Blocks of a kernel on the host: each thread of a block is a fiber, which runs until it waits at a barrier or in a
// shuffle for the others, or ends. Which of those that may run comes first is chosen: what a kernel computes must not
// depend on it. Shared memory begins as NaN.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

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
extern constinit thread_local const Thread* running;
inline const Thread& Current() { return *running; }  // REQUIRES a kernel to run on this thread of the host

void Sync();
void SyncWarp();
uint32_t Shuffle(uint32_t value, int lane);
// What each lane of a warp gives, at most so many bytes; each may then look at any lane's, until it has given twice
// more.
inline constexpr size_t kMostGiven = 32;
void Give(const void* data, size_t bytes);
const std::byte* Given(int lane);
void BeginCopy(void* to, const void* from);
void CommitCopies();
void WaitCopies(int open);
// Of a thread that waits for what another device writes: the others of its block go on.
void Pause();

struct Launch {
  const char* name = "";  // for messages
  void (*body)(const void* args) = nullptr;
  const void* args = nullptr;
  bool meets = true;      // whether its threads wait for each other
  bool in_order = false;  // whether its blocks are run by their numbers, as those that wait for other devices must be
  unsigned grid[3] = {1, 1, 1};
  unsigned threads = 1;  // of a block, in one dimension
  int64_t shared = 0;    // bytes
};
// Runs all blocks, one after another, on the calling thread. Ends the process with a message where some threads of a
// block wait for others that never come, and where a kernel that is said not to meet does.
void Run(const Launch& launch, Order order, uint32_t seed);
// Several devices on the calling thread: each function launches what it likes, and wherever a thread of one waits, at a
// barrier or by a Pause, another device may go on, as the seed will have it; one is faster than the others. Returns
// when all have ended.
void RunTogether(const std::vector<std::function<void()>>& devices, uint32_t seed);
// Of such a function, outside of kernels: another device may go on.
void Rest();

}  // namespace pangea::cuda::fibers
