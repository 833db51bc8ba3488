#include "kernels/cuda/cuda_queue.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "kernels/cuda/make_queue.h"

namespace pangea::cuda {

CudaQueue::CudaQueue(std::unique_ptr<Device> device, std::byte* ring, const CudaOptions& options)
    : Queue(kOps, BestIsa()), device_(std::move(device)), options_(options), pool_(options.threads), ring_(ring) {
  PANGEA_CHECK(ring_ != nullptr);
}

CudaQueue::~CudaQueue() {
  device_->Finish();  // what has not landed is wanted by nobody
  device_->FreePinned(ring_);
}

void CudaQueue::Finish() {
  PANGEA_CHECK(!recording_);
  device_->Finish();
  open_.clear();
  timed_ = 0;
  Passed(used_);
}

static_assert(2 * Queue::kMarks == Device::kEvents);  // where a stretch begins, and where it ends

uint64_t CudaQueue::Mark() {
  if (open_.size() + 1 == kMarks) Wait(open_.front().number);  // the mark before the oldest is still asked about
  device_->Record(static_cast<int>(++marks_ % kMarks));
  open_.push_back({marks_, used_, std::exchange(begun_, false)});
  return marks_;
}

// With the first work of the device: what the host does before it, the device spends idle.
void CudaQueue::BeginIfWanted() {
  if (!std::exchange(begins_, false)) return;
  if (open_.size() + 1 == kMarks) Wait(open_.front().number);
  device_->Record(static_cast<int>(kMarks + (marks_ + 1) % kMarks));
  begun_ = true;
}

bool CudaQueue::Reached(uint64_t mark) {
  return open_.empty() || mark < open_.front().number || device_->Passed(static_cast<int>(mark % kMarks));
}

void CudaQueue::Wait(uint64_t mark) {
  while (!open_.empty() && open_.front().number <= mark) {
    const OpenMark passed = open_.front();
    open_.pop_front();
    const int event = static_cast<int>(passed.number % kMarks), began = event + static_cast<int>(kMarks);
    device_->Await(event);
    Passed(passed.ring);
    if (passed.timed) {
      times_.busy += device_->Seconds(began, event);
      if (timed_ + 1 == passed.number) times_.idle += device_->Seconds(static_cast<int>(timed_ % kMarks), began);
      timed_ = passed.number;
    }
  }
}

// All work before this place of the ring is done.
void CudaQueue::Passed(int64_t ring) {
  for (; !landing_.empty() && landing_.front().ring < ring; landing_.pop_front())
    std::memcpy(landing_.front().to, landing_.front().from, static_cast<size_t>(landing_.front().bytes));
  free_ = ring;
}

// Room for so many bytes, waited for where there is none.
std::byte* CudaQueue::InRing(int64_t bytes) {
  PANGEA_CHECK(!recording_);
  bytes = (bytes + 15) / 16 * 16;
  if (used_ % kRing + bytes > kRing) used_ = (used_ / kRing + 1) * kRing;  // in one piece
  while (used_ + bytes - free_ > kRing) {
    if (open_.empty()) {
      Finish();
    } else {
      Wait(open_.front().number);
    }
  }
  std::byte* const room = ring_ + used_ % kRing;
  used_ += bytes;
  return room;
}

// The second time that a key is seen a graph is made of it: the first may have to measure products.
void CudaQueue::Repeat(const std::vector<int64_t>& key, const std::function<bool()>& put) {
  if (!repeats() || failed_graphs_ >= kMostFailedGraphs) return static_cast<void>(put());
  const bool seen = repeated_.contains(key);
  if (!seen && repeated_.size() >= kMostGraphs) Drop(Oldest());
  const auto at = repeated_.try_emplace(key).first;
  Repeated& repeated = at->second;
  repeated.last = ++asked_;
  if (!seen) {
    if (!put()) Drop(at);
    return;
  }
  if (repeated.graph == 0) {
    const int64_t before = launches_;
    const bool begins = std::exchange(begins_, false);  // not within the graph
    recording_ = true;
    device_->BeginGraph();
    const bool whole = put();
    const bool made = device_->EndGraph(++graphs_);
    recording_ = false;
    begins_ = begins;
    repeated.kernels = launches_ - before;
    launches_ = before;
    if (made) repeated.graph = graphs_;
    if (!whole) return Drop(at);
    if (!made) {  // there is no memory for it: none of the others is worth a step
      ++failed_graphs_;
      ForgetRepeated();
      return static_cast<void>(put());
    }
  }
  BeginIfWanted();
  device_->Play(repeated.graph);
  ++plays_;
  launches_ += repeated.kernels;
}

std::map<std::vector<int64_t>, CudaQueue::Repeated>::iterator CudaQueue::Oldest() {
  return std::min_element(repeated_.begin(), repeated_.end(),
                          [](const auto& a, const auto& b) { return a.second.last < b.second.last; });
}

void CudaQueue::Drop(std::map<std::vector<int64_t>, Repeated>::iterator repeated) {
  if (repeated->second.graph != 0) device_->DropGraph(repeated->second.graph);
  repeated_.erase(repeated);
}

void CudaQueue::ForgetRepeated() {
  while (!repeated_.empty()) Drop(repeated_.begin());
}

void CudaQueue::OnHost(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)>& f) {
  Finish();
  pool_.For(n, grain, f);
}

DeviceMemory CudaQueue::Allocate(int64_t bytes) {
  std::byte* const memory = device_->Allocate(bytes);
  if (memory == nullptr) return {};
  held_ += bytes;
  return DeviceMemory(memory, {[](std::byte* p, int64_t n, void* queue) {
                                 auto* self = static_cast<CudaQueue*>(queue);
                                 self->device_->Free(p);
                                 self->held_ -= n;
                               },
                               bytes, this});
}

SharedMemory CudaQueue::Share(int64_t bytes, bool of_host, std::string* why) {
  const SharedMemory shared = device_->Share(bytes, of_host, why);
  if (shared.memory != nullptr && !of_host) held_ += bytes;
  return shared;
}

void CudaQueue::Unreach(std::byte* p, int64_t bytes) {
  Finish();
  device_->Unreach(p);
  held_ -= bytes;
}

DeviceMemory CudaQueue::AllocateSeen(int64_t bytes) {
  std::byte* const memory = device_->AllocatePinned(bytes);
  if (memory == nullptr) return {};
  const auto free = [](std::byte* p, int64_t, void* queue) {
    auto* self = static_cast<CudaQueue*>(queue);
    self->Finish();
    self->device_->FreePinned(p);
  };
  return DeviceMemory(memory, {free, bytes, this});
}

void CudaQueue::MakeUp(std::byte* to, int64_t bytes, DType dtype) {
  Launch(Kernel::kMakeUp, {1024}, 0, MakeUpArgs{reinterpret_cast<uint32_t*>(to), bytes / 4, dtype});
}

void CudaQueue::Upload(void* to, const void* from, int64_t bytes) {
  if (bytes == 0) return;
  if (bytes > kRing) {
    device_->CopyIn(to, from, bytes);
    return Finish();
  }
  std::byte* const room = InRing(bytes);
  std::memcpy(room, from, static_cast<size_t>(bytes));
  device_->CopyIn(to, room, bytes);
}

void CudaQueue::Download(void* to, const void* from, int64_t bytes) {
  if (bytes == 0) return;
  if (bytes > kMostThroughRing) return device_->CopyOut(to, from, bytes);
  std::byte* const room = InRing(bytes);
  landing_.push_back({to, room, bytes, used_ - 1});
  device_->CopyOut(room, from, bytes);
}

namespace {
constexpr DeviceOps Words() {
  DeviceOps ops = PANGEA_WORDS_OF(cuda);
  ops.sample = SampleIds;
  ops.count_ids = CountIds;
  ops.gather_parts = GatherParts;
  ops.send_rows = SendRows;
  ops.receive_rows = ReceiveRows;
  ops.move_ids = MoveIds;
  return ops;
}
}  // namespace
const DeviceOps kOps = Words();

}  // namespace pangea::cuda

namespace pangea {

std::unique_ptr<Queue> MakeCudaOnCpuQueue(const CudaOptions& options, const cuda::FiberOptions& fibers) {
  auto device = cuda::MakeFiberDevice(fibers);
  std::byte* const ring = device->AllocatePinned(cuda::kRing);
  return std::make_unique<cuda::CudaQueue>(std::move(device), ring, options);
}

GpuQueue MakeCudaQueue(const CudaOptions& options, int ordinal, std::string* why, const std::string& library) {
  const bool dependent = options.fusion >= cuda::kDependentFusion;
  auto device = cuda::OpenGpu(ordinal, {.products = !options.exact, .dependent = dependent}, why, library);
  if (device == nullptr) return {};
  cuda::Device& opened = *device;
  GpuQueue gpu{.queue = nullptr, .name = "GPU " + std::to_string(ordinal) + ", " + opened.name(), .free_bytes = 0};
  std::byte* const ring = opened.AllocatePinned(cuda::kRing);
  if (ring == nullptr) {
    *why = gpu.name + ": this host has no " + std::to_string(cuda::kRing >> 20) + " MiB of memory that can be pinned";
    return {};
  }
  gpu.queue = std::make_unique<cuda::CudaQueue>(std::move(device), ring, options);
  gpu.free_bytes = opened.FreeMemory();  // less what the queue itself takes
  return gpu;
}

int64_t CudaLaunches(const Queue& queue) { return static_cast<const cuda::CudaQueue&>(queue).launches(); }

int64_t CudaPlays(const Queue& queue) { return static_cast<const cuda::CudaQueue&>(queue).plays(); }

double CudaReadBandwidth(Queue& queue) {
  constexpr unsigned kBlocks = 132 * 16;
  int64_t bytes = int64_t{1} << 30;
  DeviceMemory memory = queue.Allocate(bytes);
  while (memory == nullptr && bytes > 1 << 20) memory = queue.Allocate(bytes /= 2);
  const DeviceMemory sums = queue.Allocate(kBlocks * 4);
  if (memory == nullptr || sums == nullptr) return 0;
  const cuda::ReadAllArgs args{memory.get(), bytes / 16, reinterpret_cast<int32_t*>(sums.get())};
  double best = 0;
  for (int round = 0; round < 6; ++round) {  // the first is not counted
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < 4; ++i) cuda::Cuda(queue).Launch(cuda::Kernel::kReadAll, {kBlocks}, 1024, args);
    queue.Finish();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() / 4;
    if (round > 0) best = std::max(best, static_cast<double>(bytes) / seconds);
  }
  return best;
}

double CudaMatrixRate(Queue& queue) {
  if (cuda::Cuda(queue).exact()) return 0;
  double rate = 0;
  for (int64_t n = 256, largest = 8192; n <= largest; n *= 2) {  // until it takes long enough to be measured
    const DeviceMemory w = queue.Allocate(2 * n * n), x = queue.Allocate(2 * n * n), y = queue.Allocate(4 * n * n);
    if (w == nullptr || x == nullptr || y == nullptr) break;
    queue.MakeUp(w.get(), 2 * n * n, DType::kBF16);
    queue.MakeUp(x.get(), 2 * n * n, DType::kBF16);
    double best = 0;
    for (int round = 0; round < 6; ++round) {  // the first chooses how it is done
      queue.Finish();
      const auto begin = std::chrono::steady_clock::now();
      cuda::Cuda(queue).Multiply({.w = w.get(),
                                  .x = x.get(),
                                  .y = reinterpret_cast<float*>(y.get()),
                                  .m = n,
                                  .n = n,
                                  .k = n,
                                  .x_pitch = n,
                                  .ldy = n});
      queue.Finish();
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      if (round > 0 && (best == 0 || seconds < best)) best = seconds;
    }
    rate = 2.0 * static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(n) / best;
    if (best > 0.05) break;
  }
  return rate;
}

int64_t CudaBytes(const Queue& queue) { return static_cast<const cuda::CudaQueue&>(queue).held(); }

}  // namespace pangea
