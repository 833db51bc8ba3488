// A device for tests that is as unlike the CPU as it can be: its memory cannot be touched by the host (an address of it
// faults), begins as NaN, and is copied to and from; work is done later, by a thread of its own, in order. What runs on
// it proves that nothing outside the kernels takes the device's memory for the host's, or reads before Finish().
#pragma once
#include <cstdint>
#include <memory>

#include "kernels/queue.h"

namespace pangea {

// The arithmetic is the CPU's, on one thread, in the class given.
std::unique_ptr<Queue> MakeToyQueue(Isa isa);
// Bytes that were ever allocated from it. REQUIRES a toy's queue.
int64_t ToyBytes(const Queue& queue);

}  // namespace pangea
