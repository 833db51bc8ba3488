#include <cstdlib>
#include <cstring>
#include <deque>
#include <limits>
#include <vector>

#include "kernels/check.h"
#include "kernels/cuda/device.h"
#include "kernels/threads.h"

namespace pangea::cuda {
namespace {

class FiberDevice final : public Device {
 public:
  explicit FiberDevice(const FiberOptions& options) : options_(options) {}
  ~FiberDevice() override { Finish(); }
  std::string name() const override { return "the CPU"; }
  int64_t FreeMemory() override { return std::numeric_limits<int64_t>::max(); }  // the plan has asked the host

  std::byte* Allocate(int64_t bytes) override {
    const size_t size = static_cast<size_t>((bytes + 255) / 256 * 256);
    auto* memory = static_cast<std::byte*>(std::aligned_alloc(256, size));
    if (memory != nullptr && size < kPoisoned) std::memset(memory, 0xff, size);  // NaN in every type
    return memory;
  }
  void Free(std::byte* p) override {
    Finish();
    std::free(p);
  }
  std::byte* AllocatePinned(int64_t bytes) override { return Allocate(bytes); }
  void FreePinned(std::byte* p) override { Free(p); }
  void CopyIn(void* to, const void* from, int64_t bytes) override { work_.push_back({to, from, bytes, {}, {}, {}, 0}); }
  void CopyOut(void* to, const void* from, int64_t bytes) override { CopyIn(to, from, bytes); }

  void Launch(Kernel kernel, const Grid& grid, int64_t shared, const void* args) override {
    const auto* begin = static_cast<const std::byte*>(args);
    work_.push_back({nullptr, nullptr, 0, &InfoOf(kernel), {begin, begin + InfoOf(kernel).args_bytes}, grid, shared});
  }

  void Finish() override {
    SetComputeFloatMode();
    for (; !work_.empty(); work_.pop_front()) {
      const Work& work = work_.front();
      if (work.kernel == nullptr) {
        std::memcpy(work.to, work.from, static_cast<size_t>(work.bytes));
        continue;
      }
      fibers::Run({.name = work.kernel->name,
                   .body = work.kernel->on_cpu,
                   .args = work.args.data(),
                   .meets = work.kernel->meets,
                   .grid = {work.grid.x, work.grid.y, work.grid.z},
                   .threads = work.kernel->threads,
                   .shared = work.shared},
                  options_.order, ++options_.seed);
    }
  }

 private:
  static constexpr size_t kPoisoned = 64 << 20;  // larger memory is pages that nobody has touched yet
  struct Work {
    void* to;
    const void* from;
    int64_t bytes;
    const KernelInfo* kernel;  // null: a copy
    std::vector<std::byte> args;
    Grid grid;
    int64_t shared;
  };
  FiberOptions options_;
  std::deque<Work> work_;
};

}  // namespace

std::unique_ptr<Device> MakeFiberDevice(const FiberOptions& options) { return std::make_unique<FiberDevice>(options); }

}  // namespace pangea::cuda
