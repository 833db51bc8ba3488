#include "kernels/cuda/cuda_queue.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "kernels/cuda/make_queue.h"

namespace pangea::cuda {

CudaQueue::CudaQueue(std::unique_ptr<Device> device, std::byte* ring, const CudaOptions& options)
    : Queue(kOps, BestIsa()), device_(std::move(device)), options_(options), pool_(options.threads), ring_(ring) {
  PANGEA_CHECK(ring_ != nullptr);
}

CudaQueue::~CudaQueue() {
  device_->Finish();
  device_->FreePinned(ring_);
}

void CudaQueue::Finish() {
  device_->Finish();
  ring_used_ = 0;
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

void CudaQueue::Upload(void* to, const void* from, int64_t bytes) {
  if (bytes == 0) return;
  if (bytes > kRing) {
    device_->CopyIn(to, from, bytes);
    return Finish();
  }
  if (ring_used_ + bytes > kRing) Finish();
  std::memcpy(ring_ + ring_used_, from, static_cast<size_t>(bytes));
  device_->CopyIn(to, ring_ + ring_used_, bytes);
  ring_used_ += (bytes + 15) / 16 * 16;
}

void CudaQueue::Download(void* to, const void* from, int64_t bytes) {
  if (bytes > 0) device_->CopyOut(to, from, bytes);
}

const DeviceOps kOps = PANGEA_WORDS_OF(cuda);

}  // namespace pangea::cuda

namespace pangea {

std::unique_ptr<Queue> MakeCudaOnCpuQueue(const CudaOptions& options, const cuda::FiberOptions& fibers) {
  auto device = cuda::MakeFiberDevice(fibers);
  std::byte* const ring = device->AllocatePinned(cuda::kRing);
  return std::make_unique<cuda::CudaQueue>(std::move(device), ring, options);
}

GpuQueue MakeCudaQueue(const CudaOptions& options, int ordinal, std::string* why, const std::string& library) {
  auto device = cuda::OpenGpu(ordinal, !options.exact, why, library);
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

int64_t CudaBytes(const Queue& queue) { return static_cast<const cuda::CudaQueue&>(queue).held(); }

}  // namespace pangea
