// A device that runs kernels: a GPU through its driver, or the host (MakeFiberDevice). Its work is done in the order in
// which it was given. Whatever goes wrong on it ends the process with a message: a GPU's context is lost with the first
// such error, and the fleet starts the agent again. One caller at a time.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/cuda/fibers.h"
#include "kernels/cuda/kernel.h"
#include "kernels/queue.h"

namespace pangea::cuda {

struct Grid {
  unsigned x = 1, y = 1, z = 1;
};

// y[m][n] = x . w (+ bias), in f32 of 16-bit numbers, in whatever order of sums is fastest. w: [n][k]; x: [m][x_pitch].
struct LibraryProduct {
  const std::byte* w = nullptr;
  const std::byte* x = nullptr;
  float* y = nullptr;
  const float* bias = nullptr;  // [n]; null: none
  int64_t m = 0, n = 0, k = 0, x_pitch = 0, ldy = 0;
  DType dtype = DType::kBF16;  // or kF16
  std::byte* workspace = nullptr;
  int64_t workspace_bytes = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  virtual std::string name() const = 0;
  virtual int64_t FreeMemory() = 0;  // bytes that Allocate may still give
  // Aligned to 256 bytes; null when there is none left. Free waits for the work before it.
  virtual std::byte* Allocate(int64_t bytes) = 0;
  virtual void Free(std::byte* p) = 0;
  // Memory that devices of other processes of this host may reach, all NaN where this is the host, and a file that
  // stands for it: of the device or, where one cannot reach another's, of the host. No memory: *why. It is given back
  // by Unreach, as is what was reached by another's file.
  virtual SharedMemory Share(int64_t bytes, bool of_host, std::string* why) = 0;
  virtual std::byte* Reach(int file, int64_t bytes, bool of_host, std::string* why) = 0;
  virtual void Unreach(std::byte* p) = 0;
  // As the queue's of these names.
  virtual std::string OpenConnections() = 0;
  virtual std::string NewConnectionId(std::string* why) = 0;
  virtual std::string Connect(const Connection& connection) = 0;
  virtual void Transfer(std::span<const PeerTransfer> transfers) = 0;
  virtual void AbortConnection() = 0;
  virtual std::string connection_error() = 0;
  // Memory of the host from and to which copies need no help of it, and which kernels may read and write, too.
  virtual std::byte* AllocatePinned(int64_t bytes) = 0;
  virtual void FreePinned(std::byte* p) = 0;
  // `from` of CopyIn and `to` of CopyOut are the host's, and stay as they are until they are waited for.
  virtual void CopyIn(void* to, const void* from, int64_t bytes) = 0;
  virtual void CopyOut(void* to, const void* from, int64_t bytes) = 0;
  virtual void Launch(Kernel kernel, const Grid& grid, int64_t shared, const void* args) = 0;
  virtual void Multiply(const LibraryProduct& product) = 0;
  virtual bool multiplies_in_groups() const = 0;  // the kernels of attention_groups.cu
  virtual void Finish() = 0;
  // Of kEvents: a mark behind the work so far, in place of the one it was before; and waiting for that. Passed: Await
  // would not wait for the device.
  static constexpr int kEvents = 16;
  virtual void Record(int event) = 0;
  virtual bool Passed(int event) = 0;
  virtual void Await(int event) = 0;
  virtual double Seconds(int from, int to) = 0;  // between two that are passed
  // From now on kernels and products are timed, each for itself; those that were done since the last call.
  virtual void TimeKernels() = 0;
  virtual std::vector<KernelTime> TakeTimes() = 0;
  // Launches and products from here on are not done but kept, as a graph of this number, which is then done as often as
  // it is played. Nothing else may be asked for between the two.
  virtual void BeginGraph() = 0;
  virtual bool EndGraph(int graph) = 0;  // false: there is no memory for it, and it is not there
  virtual void Play(int graph) = 0;
  virtual void DropGraph(int graph) = 0;
};

struct FiberOptions {
  fibers::Order order = fibers::Order::kForward;
  uint32_t seed = 1;
  bool groups = false;  // multiplies_in_groups
};
// Work is not done before it is waited for: whoever reads too early reads what lay there.
std::unique_ptr<Device> MakeFiberDevice(const FiberOptions& options = {});

struct GpuOptions {
  bool products = false;   // Multiply will be called, for which cuBLASLt is loaded (as libcublasLt.so.13 or 12)
  bool dependent = false;  // a kernel's blocks may come before the one before it has ended (PANGEA_KERNEL)
};
// GPU number `ordinal` of this host. Null, with a sentence that says what was looked for where, when it cannot be had.
// library: of the driver; empty: as the system finds libcuda.so.1.
std::unique_ptr<Device> OpenGpu(int ordinal, const GpuOptions& options, std::string* why,
                                const std::string& library = "");

}  // namespace pangea::cuda
