// What goes from GPU to GPU by NCCL, which is loaded when it is first asked for (2.23.4 or newer: before, a group of
// a non-blocking communicator could block). What is declared of it in gpu_collectives.cc is of its stable interface
// (docs.nvidia.com/deeplearning/nccl/user-guide).
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "kernels/queue.h"

namespace pangea::cuda {

// One communicator of all agents of an epoch. One caller at a time, but for Abort and error.
class GpuCollectives {
 public:
  virtual ~GpuCollectives() = default;
  // By which the agents find each other; made by one of them.
  virtual std::string NewId(std::string* why) = 0;
  // Blocks until all have come, at most until the connection's limit, or Abort, which may have come before. An empty
  // text, or what failed. REQUIRES that nothing was connected since the last Disconnect.
  virtual std::string Connect(const Connection& connection) = 0;
  // On the stream, all of them at once. After Abort, or an error, nothing.
  virtual void Transfer(std::span<const PeerTransfer> transfers, void* stream) = 0;
  // Any thread. What is under way ends, as it may; error() is not empty from then on.
  virtual void Abort() = 0;
  virtual std::string error() = 0;
  virtual void Disconnect() = 0;
};
// Null, with a sentence in *why, where no such library is found. use: makes the GPU the calling thread's.
std::unique_ptr<GpuCollectives> LoadGpuCollectives(const std::function<void()>& use, std::string* why);

}  // namespace pangea::cuda
