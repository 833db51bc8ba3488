// Where the work of one agent is put, in order, and the memory that it works on: every op of ops.h takes a queue. On
// the CPU it is a pool of threads and the ops of one instruction set, and work is done when the call returns. A device
// may take work and return at once; Finish() waits for it, and the host may read what an op wrote only after it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/isa.h"
#include "kernels/types.h"

namespace pangea {

inline constexpr int kMaxFusion = 3;

// Memory of a device, given back as whoever made it says.
struct FreeDeviceMemory {
  void (*free)(std::byte*, int64_t bytes, void* maker) = nullptr;
  int64_t bytes = 0;
  void* maker = nullptr;
  void operator()(std::byte* p) const { free(p, bytes, maker); }
};
using DeviceMemory = std::unique_ptr<std::byte, FreeDeviceMemory>;

// One that a device has run: nanoseconds of the monotonic clock.
struct KernelTime {
  const char* name;
  int64_t begin, duration;
};

// Memory that the devices of other processes of this host may reach, by a file that stands for it.
struct SharedMemory {
  std::byte* memory = nullptr;
  int file = -1;
};

// Agents whose devices exchange by a library, and one agent's part of it. limit: nanoseconds.
struct Connection {
  std::string id;
  int agents = 1, agent = 0;
  int64_t limit = 0;
};
struct PeerTransfer {
  int agent = 0;
  const void* send = nullptr;  // or receive
  void* receive = nullptr;
  int64_t bytes = 0;
};

struct DeviceOps;

// Where packed weights lie, when that is not the queue's own memory: a place that may have them already.
class WeightStore {
 public:
  virtual ~WeightStore() = default;
  // For the next weight, in the order in which a stage packs them; aligned to 64 bytes, and there as long as the store.
  // *filled: it is that weight's packed form, and must not be written. Null: not here.
  virtual std::byte* Take(int64_t bytes, bool* filled) = 0;
};

// One caller at a time: the agent's executor thread, or whoever loads its weights before.
class Queue {
 public:
  Queue(const DeviceOps& ops, Isa host_isa) : ops_(ops), host_isa_(host_isa) {}
  virtual ~Queue() = default;
  const DeviceOps& ops() const { return ops_; }
  // The class in which the host's own part of the work (the sampler's, say) is done.
  Isa host_isa() const { return host_isa_; }
  // Waits until all that was put here is done.
  virtual void Finish() = 0;
  // A mark behind what was put here so far, and waiting for no more than that. Reached: Wait would not wait for the
  // device. Marks are waited for in order, kMarks at most are open; a Finish waits for all.
  static constexpr uint64_t kMarks = 8;
  virtual uint64_t Mark() { return 0; }
  // A place from which on the work up to the next mark is timed; and how long, of all that was waited for so far, the
  // device was at it, and idle between one such stretch and the next. A device that does not know says nothing.
  struct Times {
    double busy = 0, idle = 0;  // seconds
  };
  virtual void Begin() {}
  virtual Times times() const { return {}; }
  virtual bool Reached(uint64_t) { return true; }
  virtual void Wait(uint64_t) { Finish(); }
  // put() gives the queue work, the same whenever the key is the same: nothing but ops, with the same arguments. A
  // device may remember it, and put() is then not called. put() says whether that was all of it: of less nothing is
  // remembered.
  virtual void Repeat(const std::vector<int64_t>& /*key*/, const std::function<bool()>& put) { put(); }
  // Whether Repeat remembers anything: the same for all agents of a deployment. What it remembers may be forgotten.
  virtual bool repeats() const { return false; }
  virtual void ForgetRepeated() {}
  // From now on each kernel is timed, and none is remembered (Repeat). kernels: those that were done since the last
  // call.
  virtual void TimeKernels() {}
  virtual std::vector<KernelTime> kernels() { return {}; }
  // Work of the host itself beside the device's, on the agent's threads: after Finish(), f(begin, end) on disjoint
  // ranges that cover [0, n), each a multiple of `grain` long but for the last. Returns when all are done.
  virtual void OnHost(int64_t n, int64_t grain, const std::function<void(int64_t begin, int64_t end)>& f) = 0;
  // From now on weights are packed there, which outlives them. REQUIRES host_memory().
  void set_weight_store(WeightStore* store) { weight_store_ = store; }
  WeightStore* weight_store() const { return weight_store_; }
  // For measurements: weights, and tables of rows that lie on the device, are made up where they lie, of small numbers;
  // what they are packed from is not read.
  void set_makes_weights_up(bool makes_up) { makes_weights_up_ = makes_up; }
  bool makes_weights_up() const { return makes_weights_up_; }
  virtual void MakeUp(std::byte* to, int64_t bytes, DType dtype);  // of this type (made_up.h); whole words of 32 bits
  // Aligned to 64 bytes, content unspecified. Null when there is none left, though the plan has counted it before.
  virtual DeviceMemory Allocate(int64_t bytes) = 0;
  // Of a device that exchanges with others (kernels/exchange.h; CanExchange): its own memory for that, or the
  // host's; another's; and either given back, when all is done (bytes: of its own of the device, else 0). Null: *why.
  virtual SharedMemory Share(int64_t /*bytes*/, bool /*of_host*/, std::string* /*why*/) { return {}; }
  virtual std::byte* Reach(int /*file*/, int64_t /*bytes*/, bool /*of_host*/, std::string* /*why*/) { return nullptr; }
  virtual void Unreach(std::byte*, int64_t /*bytes*/) {}
  // Of a device that exchanges by a library, which is loaded first, and forgets the connection before; an id for a
  // connection of all agents, made by one of them; the connection; and transfers, as part of the queue's work, which
  // never end where a peer does not take part, but for AbortConnection (any thread). Texts say what failed; empty:
  // nothing.
  virtual std::string OpenConnections() { return "this device has no library by which devices exchange"; }
  virtual std::string NewConnectionId(std::string* /*why*/) { return ""; }
  virtual std::string Connect(const Connection&) { return ""; }
  virtual void Transfer(std::span<const PeerTransfer>) {}
  virtual void AbortConnection() {}
  virtual std::string connection_error() { return ""; }  // any thread
  // Memory of the host that kernels read and write while they run. Null: there is none.
  virtual DeviceMemory AllocateSeen(int64_t /*bytes*/) { return {}; }
  // Whether the host may read and write such memory itself (after Finish). Where it may, work is done at once, too.
  virtual bool host_memory() const = 0;
  // Whether weights of this type are packed as rows, [n][k] as they are, for products that may add in any order.
  virtual bool packs_rows(DType) const { return false; }
  // Memory of the device that a library's products may use, for as long as the queue; once, before the first of them.
  virtual void UseWorkspace(std::byte*, int64_t /*bytes*/) {}
  // Copies in the order of the queue; `to` of an upload and `from` of a download are the device's. What is uploaded may
  // be changed once the call has returned; what is downloaded is there after Finish, or after Wait for a mark behind
  // it. Nothing is done where both sides are one address.
  virtual void Upload(void* to, const void* from, int64_t bytes) = 0;
  virtual void Download(void* to, const void* from, int64_t bytes) = 0;

 private:
  const DeviceOps& ops_;
  const Isa host_isa_;
  WeightStore* weight_store_ = nullptr;
  bool makes_weights_up_ = false;
};

// threads, spin: as ThreadPool's (threads.h). The calling thread takes part, and computes in the float mode of
// exactness from now on. REQUIRES isa <= BestIsa().
// fusion: how many of the layer's words (FinishQkv, ReduceAddNorm, then bias and gate) do their parts in one pass over
// the rows rather than one op after another; the same bytes. 0 to 3 (docs/performance.md).
std::unique_ptr<Queue> MakeCpuQueue(int threads, Isa isa, bool spin = false, int fusion = kMaxFusion);

}  // namespace pangea
