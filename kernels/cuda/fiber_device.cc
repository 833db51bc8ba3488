#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <limits>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "kernels/check.h"
#include "kernels/cuda/device.h"
#include "kernels/half.h"
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
  SharedMemory Share(int64_t bytes, bool, std::string* why) override {
    const int file = memfd_create("pangea-exchange", MFD_CLOEXEC);
    std::byte* const memory = file >= 0 && ftruncate(file, bytes) == 0 ? Reach(file, bytes, false, why) : nullptr;
    if (memory != nullptr) {
      std::memset(memory, 0xff, static_cast<size_t>(bytes));
      return {memory, file};
    }
    if (why->empty()) *why = std::string("memfd_create: ") + std::strerror(errno);
    if (file >= 0) close(file);
    return {};
  }
  std::byte* Reach(int file, int64_t bytes, bool, std::string* why) override {
    void* const memory = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) {
      *why = std::string("mmap: ") + std::strerror(errno);
      return nullptr;
    }
    reached_[static_cast<std::byte*>(memory)] = bytes;
    return static_cast<std::byte*>(memory);
  }
  void Unreach(std::byte* p) override {
    Finish();
    munmap(p, static_cast<size_t>(reached_.extract(p).mapped()));
  }
  // There is no library for the CPU.
  std::string OpenConnections() override { return "NCCL is for GPUs"; }
  std::string NewConnectionId(std::string*) override { return ""; }
  std::string Connect(const Connection&) override { return ""; }
  void Transfer(std::span<const PeerTransfer>) override { PANGEA_CHECK(false); }
  void AbortConnection() override {}
  std::string connection_error() override { return ""; }
  std::byte* AllocatePinned(int64_t bytes) override { return Allocate(bytes); }
  void FreePinned(std::byte* p) override { Free(p); }
  void CopyIn(void* to, const void* from, int64_t bytes) override {
    PANGEA_CHECK(!recording_);
    work_.push_back({.to = to, .from = from, .bytes = bytes});
  }
  void CopyOut(void* to, const void* from, int64_t bytes) override { CopyIn(to, from, bytes); }

  void Launch(Kernel kernel, const Grid& grid, int64_t shared, const void* args) override {
    const auto* begin = static_cast<const std::byte*>(args);
    Put({.kernel = &InfoOf(kernel),
         .args = {begin, begin + InfoOf(kernel).args_bytes},
         .grid = grid,
         .shared = shared});
  }
  void Multiply(const LibraryProduct& product) override { Put({.product = product}); }
  bool multiplies_in_groups() const override { return options_.groups; }

  void BeginGraph() override {
    PANGEA_CHECK(!recording_);
    recording_ = true;
  }
  bool EndGraph(int graph) override {
    recording_ = false;
    graphs_[graph] = std::exchange(recorded_, {});
    return true;
  }
  void Play(int graph) override {
    for (const Work& work : graphs_.at(graph)) Put(work);
  }
  void DropGraph(int graph) override { graphs_.erase(graph); }

  void Finish() override { DoWork(-1); }
  void Record(int event) override {
    std::erase_if(work_, [&](const Work& work) { return work.event == event; });
    work_.push_back({.event = event});
  }
  bool Passed(int) override { return true; }  // whoever waits does the work
  double Seconds(int from, int to) override {
    return std::chrono::duration<double>(passed_[to] - passed_[from]).count();
  }
  void TimeKernels() override { timed_ = true; }
  std::vector<KernelTime> TakeTimes() override { return std::exchange(times_, {}); }
  void Await(int event) override {
    for (const Work& work : work_) {
      if (work.event == event) return DoWork(event);
    }
  }

 private:
  // All of it, or up to an event.
  void DoWork(int until) {
    PANGEA_CHECK(!recording_);
    SetComputeFloatMode();
    while (!work_.empty()) {
      const Work work = std::move(work_.front());
      work_.pop_front();
      if (work.event >= 0) {
        passed_[work.event] = std::chrono::steady_clock::now();
        if (work.event == until) return;
        continue;
      }
      const int64_t begin = timed_ ? Now() : 0;
      const auto note = [&](const char* name) {
        if (timed_) times_.push_back({name, begin, Now() - begin});
      };
      if (work.product) {
        Compute(*work.product);
        note("product");
        continue;
      }
      if (work.kernel == nullptr) {
        std::memcpy(work.to, work.from, static_cast<size_t>(work.bytes));
        continue;
      }
      fibers::Run({.name = work.kernel->name,
                   .body = work.kernel->on_cpu,
                   .args = work.args.data(),
                   .meets = work.kernel->meets != kNobody,
                   .in_order = work.kernel->meets == kOthers,
                   .grid = {work.grid.x, work.grid.y, work.grid.z},
                   .threads = work.kernel->threads,
                   .shared = work.shared},
                  options_.order, ++options_.seed);
      note(work.kernel->name);
    }
  }

  static constexpr size_t kPoisoned = 64 << 20;  // larger memory is pages that nobody has touched yet
  struct Work {
    void* to = nullptr;
    const void* from = nullptr;
    int64_t bytes = 0;
    const KernelInfo* kernel = nullptr;  // null: a copy, or a product
    std::vector<std::byte> args = {};
    Grid grid = {};
    int64_t shared = 0;
    std::optional<LibraryProduct> product = {};
    int event = -1;
  };
  void Put(Work work) { (recording_ ? recorded_ : work_).push_back(std::move(work)); }
  static int64_t Now() { return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1); }
  static void Compute(const LibraryProduct& p);

  FiberOptions options_;
  std::deque<Work> work_, recorded_;
  bool recording_ = false, timed_ = false;
  std::vector<KernelTime> times_;
  std::map<int, std::chrono::steady_clock::time_point> passed_;
  std::map<std::byte*, int64_t> reached_;  // bytes of what was shared or reached
  std::map<int, std::deque<Work>> graphs_;
};

// The plain loop that stands for the library.
void FiberDevice::Compute(const LibraryProduct& p) {
  const auto at = [&](const std::byte* row, int64_t i) {
    uint16_t bits;
    std::memcpy(&bits, row + 2 * i, 2);
    return p.dtype == DType::kF16 ? F16ToF32(bits) : Bf16ToF32(bits);
  };
  for (int64_t i = 0; i < p.m; ++i) {
    for (int64_t j = 0; j < p.n; ++j) {
      float sum = 0;
      for (int64_t e = 0; e < p.k; ++e) sum += at(p.x + 2 * i * p.x_pitch, e) * at(p.w + 2 * j * p.k, e);
      p.y[i * p.ldy + j] = p.bias != nullptr ? sum + p.bias[j] : sum;
    }
  }
}

}  // namespace

std::unique_ptr<Device> MakeFiberDevice(const FiberOptions& options) { return std::make_unique<FiberDevice>(options); }

}  // namespace pangea::cuda
