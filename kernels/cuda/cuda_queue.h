// The queue of a device that runs kernels, for the words (words_*.cc), which launch them.
#pragma once
#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "kernels/check.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/make_queue.h"
#include "kernels/device_ops.h"
#include "kernels/queue.h"
#include "kernels/threads.h"

namespace pangea::cuda {

inline constexpr int64_t kRing = 4 << 20;
// kernels.fusion from which on a step is a graph, and its kernels are launched as dependent.
inline constexpr int kGraphFusion = 2, kDependentFusion = 3;
inline constexpr size_t kMostGraphs = 32;             // kept
inline constexpr int kMostFailedGraphs = 3;           // then none is tried any more
inline constexpr int64_t kMostThroughRing = 1 << 20;  // of a download

class CudaQueue final : public Queue {
 public:
  // ring: kRing bytes, pinned, of the device's.
  CudaQueue(std::unique_ptr<Device> device, std::byte* ring, const CudaOptions& options);
  ~CudaQueue() override;
  void Finish() override;
  uint64_t Mark() override;
  void Begin() override { begins_ = true; }
  Times times() const override { return times_; }
  bool Reached(uint64_t mark) override;
  void Wait(uint64_t mark) override;
  void Repeat(const std::vector<int64_t>& key, const std::function<bool()>& put) override;
  bool repeats() const override { return options_.fusion >= kGraphFusion && !times_kernels_; }
  void ForgetRepeated() override;
  SharedMemory Share(int64_t bytes, bool of_host, std::string* why) override;
  std::byte* Reach(int file, int64_t bytes, bool of_host, std::string* why) override {
    return device_->Reach(file, bytes, of_host, why);
  }
  void Unreach(std::byte* p, int64_t bytes) override;
  DeviceMemory AllocateSeen(int64_t bytes) override;
  std::string OpenConnections() override { return device_->OpenConnections(); }
  std::string NewConnectionId(std::string* why) override { return device_->NewConnectionId(why); }
  std::string Connect(const Connection& connection) override { return device_->Connect(connection); }
  void Transfer(std::span<const PeerTransfer> transfers) override {
    PANGEA_CHECK(!recording_);
    BeginIfWanted();
    device_->Transfer(transfers);
  }
  void AbortConnection() override { device_->AbortConnection(); }
  std::string connection_error() override { return device_->connection_error(); }
  void TimeKernels() override {
    times_kernels_ = true;
    device_->TimeKernels();
  }
  std::vector<KernelTime> kernels() override { return device_->TakeTimes(); }
  void OnHost(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)>& f) override;
  DeviceMemory Allocate(int64_t bytes) override;
  bool host_memory() const override { return false; }
  bool packs_rows(DType type) const override {
    return !options_.exact && (type == DType::kF16 || type == DType::kBF16 || type == DType::kF8E4M3);
  }
  void UseWorkspace(std::byte* memory, int64_t bytes) override { workspace_ = memory, workspace_bytes_ = bytes; }
  void MakeUp(std::byte* to, int64_t bytes, DType dtype) override;
  void Upload(void* to, const void* from, int64_t bytes) override;
  void Download(void* to, const void* from, int64_t bytes) override;

  template <class Args>
  void Launch(Kernel kernel, const Grid& grid, int64_t shared, const Args& args) {
    PANGEA_CHECK(sizeof(Args) == InfoOf(kernel).args_bytes);
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
    ++launches_;
    BeginIfWanted();
    device_->Launch(kernel, grid, shared, &args);
  }
  void Multiply(LibraryProduct product) {
    product.workspace = workspace_;
    product.workspace_bytes = std::min(workspace_bytes_, kCudaWorkspaceBytes);
    ++launches_;
    BeginIfWanted();
    device_->Multiply(product);
  }
  // What of the workspace is for widened weights.
  std::span<std::byte> widened() const {
    const int64_t bytes = std::max<int64_t>(0, workspace_bytes_ - kCudaWorkspaceBytes);
    return {workspace_ + (bytes > 0 ? kCudaWorkspaceBytes : 0), static_cast<size_t>(bytes)};
  }
  bool exact() const { return options_.exact; }
  bool fused() const { return options_.fusion > 0; }
  bool in_groups() const { return options_.fusion >= kDependentFusion && device_->multiplies_in_groups(); }
  int64_t launches() const { return launches_; }  // kernels and products so far
  int64_t plays() const { return plays_; }        // of graphs
  int64_t held() const { return held_; }          // bytes allocated so far and not given back

 private:
  struct OpenMark {
    uint64_t number;
    int64_t ring;  // what lies before is free once the mark is passed
    bool timed;    // from its own Begin
  };
  struct Landing {  // a download on its way
    void* to;
    const std::byte* from;
    int64_t bytes, ring;
  };
  struct Repeated {  // by its key
    int graph = 0;   // 0: none yet
    int64_t kernels = 0;
    uint64_t last = 0;  // when it was asked for
  };
  std::map<std::vector<int64_t>, Repeated>::iterator Oldest();
  void Drop(std::map<std::vector<int64_t>, Repeated>::iterator repeated);
  void BeginIfWanted();
  std::byte* InRing(int64_t bytes);
  void Passed(int64_t ring);

  const std::unique_ptr<Device> device_;
  const CudaOptions options_;
  ThreadPool pool_;
  std::byte* workspace_ = nullptr;
  int64_t workspace_bytes_ = 0;
  // What is uploaded or downloaded goes through a ring of pinned memory, so that the host need not wait: bytes
  // [free_, used_) of an endless one are in use.
  std::byte* const ring_;
  int64_t free_ = 0, used_ = 0;
  uint64_t marks_ = 0;
  bool begins_ = false, begun_ = false;  // a stretch is to begin; it did
  uint64_t timed_ = 0;  // the mark that was passed last and timed; 0: none, or work since then was not timed
  Times times_;
  std::deque<OpenMark> open_;
  std::deque<Landing> landing_;
  int64_t held_ = 0, launches_ = 0, plays_ = 0;
  std::map<std::vector<int64_t>, Repeated> repeated_;
  int graphs_ = 0, failed_graphs_ = 0;  // made so far; for which there was no memory
  uint64_t asked_ = 0;
  bool recording_ = false, times_kernels_ = false;
};

inline CudaQueue& Cuda(Queue& queue) { return static_cast<CudaQueue&>(queue); }

// The words, and single ops that they are at kernels.fusion 0.
extern const DeviceOps kOps;
void AddBiasTo(float* y, const float* b, const Shape& shape, Queue& queue);
PANGEA_DECLARE_WORDS
void SampleIds(const SampleArgs& args, Queue& queue);
void CountIds(const CountArgs& args, Queue& queue);
void GatherParts(const DeviceExchange& exchange, const GatherArgs& args, Queue& queue);
void SendRows(const DeviceExchange& exchange, const void* from, int64_t n, Queue& queue);
void ReceiveRows(const DeviceExchange& exchange, void* to, int64_t n, Queue& queue);
void MoveIds(const MoveIdsArgs& args, Queue& queue);

}  // namespace pangea::cuda
