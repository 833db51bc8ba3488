#include "kernels/cuda/cuda_queue.h"

#include <cstring>

#include "kernels/cuda/make_queue.h"

namespace pangea::cuda {
namespace {

constexpr int64_t kRing = 4 << 20;

}  // namespace

CudaQueue::CudaQueue(std::unique_ptr<Device> device, int threads)
    : Queue(kOps, BestIsa()), device_(std::move(device)), pool_(threads), ring_(device_->AllocatePinned(kRing)) {
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

const DeviceOps kOps = {.pack_activations = PackActivations,
                        .mat_mul = MatMul,
                        .embedding_rows = EmbeddingRows,
                        .fill_last_ids = FillLastIds,
                        .gather_rows = GatherRows,
                        .norm = Norm,
                        .add = Add,
                        .gate_pack = GatePack,
                        .reduce_add_norm = ReduceAddNorm,
                        .finish_qkv = FinishQkv,
                        .attention = Attention,
                        .copy_block = CopyBlock};

}  // namespace pangea::cuda

namespace pangea {

std::unique_ptr<Queue> MakeCudaOnCpuQueue(int threads, const cuda::FiberOptions& options) {
  return std::make_unique<cuda::CudaQueue>(cuda::MakeFiberDevice(options), threads);
}

GpuQueue MakeCudaQueue(int threads, int ordinal, std::string* why, const std::string& library) {
  auto device = cuda::OpenGpu(ordinal, why, library);
  if (device == nullptr) return {};
  GpuQueue gpu{.queue = nullptr, .name = "GPU " + std::to_string(ordinal) + ", " + device->name(), .free_bytes = 0};
  cuda::Device& opened = *device;
  gpu.queue = std::make_unique<cuda::CudaQueue>(std::move(device), threads);
  gpu.free_bytes = opened.FreeMemory();  // less what the queue itself takes
  return gpu;
}

int64_t CudaBytes(const Queue& queue) { return static_cast<const cuda::CudaQueue&>(queue).held(); }

}  // namespace pangea
