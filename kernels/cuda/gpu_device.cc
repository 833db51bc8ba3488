// A GPU through CUDA's driver.
#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <vector>

#include "kernels/check.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/gpu_collectives.h"
#include "kernels/cuda/gpu_driver.h"
#include "kernels/cuda/gpu_products.h"
#include "kernels/cuda/modules.h"

namespace pangea::cuda {
namespace {

constexpr int kMajor = 75, kMinor = 76, kMostShared = 97;  // CU_DEVICE_ATTRIBUTE_…
constexpr int kDynamicShared = 8;                          // CU_FUNC_ATTRIBUTE_…
constexpr Result kOutOfMemory = 2;
constexpr unsigned kPortableAndMapped = 3;  // CU_MEMHOSTREGISTER_…, CU_MEMHOSTALLOC_…
constexpr unsigned kNonBlocking = 1;        // CU_STREAM_NON_BLOCKING
constexpr Result kNotReady = 600;
constexpr int64_t kAnchorPeriod = 1'000'000'000;
constexpr int kThreadLocal = 1;      // CU_STREAM_CAPTURE_MODE_…
constexpr int kDependentLaunch = 6;  // CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
constexpr int kLeastMajor = 8, kGroupsMajor = 9, kDependentMajor = 9,
              kDependentDriver = 12030;  // the driver: within graphs

class Gpu final : public Device {
 public:
  explicit Gpu(const Driver& driver) : driver_(driver) {}
  ~Gpu() override {
    if (context_ != nullptr) {
      driver_.context_use(context_);
      products_.reset();
      collectives_.reset();
      for (const Event event : events_) {
        if (event != nullptr) driver_.event_destroy(event);
      }
      for (const Event event : marks_) {
        if (event != nullptr) driver_.event_destroy(event);
      }
      if (stream_ != nullptr) driver_.stream_finish(stream_), driver_.stream_destroy(stream_);
      for (const auto& [number, graph] : graphs_) driver_.graph_exec_drop(graph);
      for (const Timed& timed : timing_) stamps_.insert(stamps_.end(), {timed.begin, timed.end});
      if (base_ != nullptr) stamps_.push_back(base_);
      for (const Stamp stamp : stamps_) driver_.event_destroy(stamp);
      for (const Module module : modules_) driver_.module_unload(module);
      driver_.context_release(device_);
    }
    dlclose(driver_.library);
  }

  // An empty text, or what could not be had.
  std::string Open(int ordinal, const GpuOptions& options) {
    if (kModuleCount == 0)
      return "this executable has no kernels for GPUs: it was built where no nvcc was found (docs/cuda.md)";
    if (const Result r = driver_.init(0); r != 0) return "cuInit: " + driver_.Text(r);
    int count = 0, major = 0, minor = 0;
    if (const Result r = driver_.device_count(&count); r != 0) return "cuDeviceGetCount: " + driver_.Text(r);
    if (ordinal >= count)
      return "GPU " + std::to_string(ordinal) + " is not there: the driver has " + std::to_string(count);
    char name[256] = {};
    if (driver_.device_get(&device_, ordinal) != 0 || driver_.device_name(name, sizeof(name), device_) != 0 ||
        driver_.device_attribute(&major, kMajor, device_) != 0 ||
        driver_.device_attribute(&minor, kMinor, device_) != 0 ||
        driver_.device_attribute(&most_shared_, kMostShared, device_) != 0)
      return "GPU " + std::to_string(ordinal) + " cannot be asked what it is";
    name_ = name;
    const std::string who = "GPU " + std::to_string(ordinal) + " (" + name_ + ", compute capability " +
                            std::to_string(major) + "." + std::to_string(minor) + ")";
    int version = 0;
    if (const Result r = driver_.driver_version(&version); r != 0) return "cuDriverGetVersion: " + driver_.Text(r);
    groups_ = major == kGroupsMajor && minor == 0;
    dependent_ = options.dependent && major >= kDependentMajor && version >= kDependentDriver;
    if (major < kLeastMajor) return who + " is too old: 8.0 or newer is needed";
    if (const Result r = driver_.context_retain(&context_, device_); r != 0) return who + ": " + driver_.Text(r);
    Use();
    if (const Result r = driver_.stream_create(&stream_, kNonBlocking); r != 0) return who + ": " + driver_.Text(r);
    for (int i = 0; i < kModuleCount; ++i) {
      Module module = nullptr;
      if (const Result r = driver_.module_load(&module, kModules[i]); r != 0)
        return who + " does not take these kernels: " + driver_.Text(r);
      modules_.push_back(module);
    }
    functions_.resize(kKernels);
    for (int i = 0; i < kKernels; ++i) {
      const std::string symbol = std::string("Pangea") + kKernelTable[i].name;
      for (const Module module : modules_) {
        if (driver_.module_function(&functions_[i], module, symbol.c_str()) == 0) break;
      }
      if (functions_[i] == nullptr) return "no module has the kernel " + symbol;
      if (const Result r = driver_.function_set(functions_[i], kDynamicShared, most_shared_); r != 0)
        return who + ": " + symbol + ": " + driver_.Text(r);
    }
    for (Event& event : marks_) {
      if (const Result r = driver_.event_create(&event, 0); r != 0) return who + ": " + driver_.Text(r);
    }
    if (!options.products) return "";
    for (Event& event : events_) {
      if (const Result r = driver_.event_create(&event, 0); r != 0) return who + ": " + driver_.Text(r);
    }
    std::string why;
    products_ = LoadGpuProducts([this](const std::function<bool()>& run) { return Seconds(run); },
                                name_ + ", driver " + std::to_string(version), &why);
    return why;
  }

  std::string name() const override { return name_; }
  bool multiplies_in_groups() const override { return groups_; }
  int64_t FreeMemory() override {
    size_t free = 0, total = 0;
    Use();
    Must(driver_.memory_info(&free, &total), "cuMemGetInfo");
    return static_cast<int64_t>(free);
  }
  std::byte* Allocate(int64_t bytes) override {
    Address address = 0;
    Use();
    const Result r = driver_.allocate(&address, static_cast<size_t>(bytes));
    if (r == kOutOfMemory) return nullptr;
    Must(r, last_);  // an error of work before it
    return reinterpret_cast<std::byte*>(address);
  }
  void Free(std::byte* p) override {
    Finish();
    Must(driver_.free(reinterpret_cast<Address>(p)), "cuMemFree");
  }
  SharedMemory Share(int64_t bytes, bool of_host, std::string* why) override {
    Use();
    int file = -1;
    if (of_host) {
      file = memfd_create("pangea-exchange", MFD_CLOEXEC);
      if (file >= 0 && ftruncate(file, bytes) == 0) {
        if (std::byte* const memory = ReachHost(file, bytes, why); memory != nullptr) return {memory, file};
      }
      if (why->empty()) *why = std::string("memfd_create: ") + std::strerror(errno);
      if (file >= 0) close(file);
      return {};
    }
    const AllocationKind kind{.location = {.id = device_}};
    Handle handle = 0;
    size_t size = 0;
    if (Fails(WholePages(bytes, &size), "cuMemGetAllocationGranularity", why)) return {};
    if (Fails(driver_.memory_make(&handle, size, &kind, 0), "cuMemCreate", why)) return {};
    std::byte* memory = nullptr;
    if (!Fails(driver_.memory_export(&file, handle, kind.handle_type, 0), "cuMemExportToShareableHandle", why))
      memory = MapHere(handle, size, why);
    driver_.memory_release(handle);  // what is mapped stays
    if (memory != nullptr) return {memory, file};
    if (file >= 0) close(file);
    return {};
  }
  std::byte* Reach(int file, int64_t bytes, bool of_host, std::string* why) override {
    Use();
    if (of_host) return ReachHost(file, bytes, why);
    Handle handle = 0;
    size_t size = 0;
    if (Fails(WholePages(bytes, &size), "cuMemGetAllocationGranularity", why)) return nullptr;
    void* const as_handle = reinterpret_cast<void*>(static_cast<intptr_t>(file));
    if (Fails(driver_.memory_import(&handle, as_handle, AllocationKind().handle_type), "cuMemImportFromShareableHandle",
              why))
      return nullptr;
    std::byte* const memory = MapHere(handle, size, why);
    driver_.memory_release(handle);
    return memory;
  }
  void Unreach(std::byte* p) override {
    Finish();
    const Reached reached = reached_.extract(p).mapped();
    if (reached.of_host != nullptr) {
      Must(driver_.host_unregister(reached.of_host), "cuMemHostUnregister");
      munmap(reached.of_host, reached.bytes);
      return;
    }
    const Address address = reinterpret_cast<Address>(p);
    Must(driver_.memory_unmap(address, reached.bytes), "cuMemUnmap");
    Must(driver_.address_free(address, reached.bytes), "cuMemAddressFree");
  }
  std::string OpenConnections() override {
    std::string why;
    if (collectives_ != nullptr) {
      collectives_->Disconnect();
    } else {
      collectives_ = LoadGpuCollectives([this] { Use(); }, &why);
    }
    return why;
  }
  std::string NewConnectionId(std::string* why) override {
    Use();
    return collectives_->NewId(why);
  }
  std::string Connect(const Connection& connection) override {
    Use();
    return collectives_->Connect(connection);
  }
  void Transfer(std::span<const PeerTransfer> transfers) override {
    Use();
    collectives_->Transfer(transfers, stream_);
    last_ = "a transfer by NCCL";
  }
  void AbortConnection() override {
    if (collectives_ != nullptr) collectives_->Abort();
  }
  std::string connection_error() override {
    Use();
    return collectives_ != nullptr ? collectives_->error() : "";
  }
  std::byte* AllocatePinned(int64_t bytes) override {
    void* memory = nullptr;
    Use();
    const Result r = driver_.allocate_host(&memory, static_cast<size_t>(bytes), kPortableAndMapped);
    return r == 0 ? static_cast<std::byte*>(memory) : nullptr;
  }
  void FreePinned(std::byte* p) override {
    Use();
    Must(driver_.free_host(p), "cuMemFreeHost");
  }
  void CopyIn(void* to, const void* from, int64_t bytes) override {
    Use();
    Must(driver_.copy_in(reinterpret_cast<Address>(to), from, static_cast<size_t>(bytes), stream_), "a copy");
  }
  void CopyOut(void* to, const void* from, int64_t bytes) override {
    Use();
    Must(driver_.copy_out(to, reinterpret_cast<Address>(from), static_cast<size_t>(bytes), stream_), "a copy");
  }
  void Launch(Kernel kernel, const Grid& grid, int64_t shared, const void* args) override {
    const KernelInfo& info = InfoOf(kernel);
    if (shared > most_shared_) {
      std::fprintf(stderr, "kernel %s needs %lld bytes of shared memory, a block of this GPU has %d\n", info.name,
                   static_cast<long long>(shared), most_shared_);
      std::abort();
    }
    void* parameters[] = {const_cast<void*>(args)};
    LaunchAttribute dependent{.id = kDependentLaunch};
    dependent.value.number = 1;
    const LaunchConfig config{.grid = {grid.x, grid.y, grid.z},
                              .block = {info.threads, 1, 1},
                              .shared = static_cast<unsigned>(shared),
                              .stream = stream_,
                              .attributes = &dependent,
                              .count = dependent_ ? 1u : 0u};
    Use();
    const Stamp begin = Now();
    Must(driver_.launch(&config, functions_[static_cast<int>(kernel)], parameters, nullptr), info.name);
    Note(info.name, begin);
    last_ = info.name;
  }
  void Multiply(const LibraryProduct& product) override {
    Use();
    const Stamp begin = Now();
    const std::string why = products_->Multiply(product, stream_);
    Note("product", begin);
    if (why.empty()) return;
    std::fprintf(stderr, "%s: %s\n", name_.c_str(), why.c_str());
    std::abort();
  }
  void Finish() override {
    Use();
    Must(driver_.stream_finish(stream_), last_);
  }
  void Record(int event) override {
    Use();
    Must(driver_.event_record(marks_[event], stream_), "cuEventRecord");
  }
  bool Passed(int event) override {
    Use();
    const Result r = driver_.event_query(marks_[event]);
    if (r == kNotReady) return false;
    Must(r, last_);
    return true;
  }
  void Await(int event) override {
    Use();
    Must(driver_.event_finish(marks_[event]), last_);
  }

  double Seconds(int from, int to) override {
    float milliseconds = 0;
    Use();
    Must(driver_.event_elapsed(&milliseconds, marks_[from], marks_[to]), "cuEventElapsedTime");
    return milliseconds * 1e-3;
  }

  void TimeKernels() override {
    timed_ = true;
    Use();
    Anchor();
  }
  std::vector<KernelTime> TakeTimes() override {
    std::vector<KernelTime> times;
    Use();
    for (; !timing_.empty() && driver_.event_query(timing_.front().end) == 0; timing_.pop_front()) {
      const Timed& timed = timing_.front();
      float until_begin = 0, took = 0;
      Must(driver_.event_elapsed(&until_begin, base_, timed.begin), "cuEventElapsedTime");
      Must(driver_.event_elapsed(&took, timed.begin, timed.end), "cuEventElapsedTime");
      const int64_t begin = base_time_ + std::llround(until_begin * 1e6);
      times.push_back({timed.name, begin, std::llround(took * 1e6)});
      stamps_.insert(stamps_.end(), {timed.begin, timed.end});
    }
    if (timed_ && timing_.empty() && HostNow() - base_time_ > kAnchorPeriod) Anchor();
    return times;
  }

  void BeginGraph() override {
    Use();
    Must(driver_.capture_begin(stream_, kThreadLocal), "cuStreamBeginCapture");
  }
  bool EndGraph(int graph) override {
    Graph captured = nullptr;
    GraphExec made = nullptr;
    Use();
    Must(driver_.capture_end(stream_, &captured), "cuStreamEndCapture");
    const Result r = driver_.graph_make(&made, captured, 0);
    Must(driver_.graph_drop(captured), "cuGraphDestroy");
    if (r == kOutOfMemory) return false;
    Must(r, "cuGraphInstantiate");
    const Result uploaded = driver_.graph_upload(made, stream_);  // it may need memory then, too
    if (uploaded == kOutOfMemory) {
      Must(driver_.graph_exec_drop(made), "cuGraphExecDestroy");
      return false;
    }
    Must(uploaded, "cuGraphUpload");
    graphs_[graph] = made;
    return true;
  }
  void Play(int graph) override {
    Use();
    Must(driver_.graph_launch(graphs_.at(graph), stream_), "cuGraphLaunch");
    last_ = "a step's graph";
  }
  void DropGraph(int graph) override {
    Use();
    Must(driver_.graph_exec_drop(graphs_.at(graph)), "cuGraphExecDestroy");  // when it is done, if it is under way
    graphs_.erase(graph);
  }

 private:
  struct Reached {
    size_t bytes;
    void* of_host;  // where it lies there; null: memory of a device
  };
  bool Fails(Result r, const char* what, std::string* why) const {
    if (r != 0) *why = name_ + ": " + what + ": " + driver_.Text(r);
    return r != 0;
  }
  // Device memory that is shared is made in whole pages.
  Result WholePages(int64_t bytes, size_t* size) const {
    const AllocationKind kind{.location = {.id = device_}};
    size_t page = 0;
    const Result r = driver_.granularity(&page, &kind, 0);
    *size = r == 0 ? (static_cast<size_t>(bytes) + page - 1) / page * page : 0;
    return r;
  }
  std::byte* MapHere(Handle handle, size_t size, std::string* why) {
    Address address = 0;
    if (Fails(driver_.address_reserve(&address, size, 0, 0, 0), "cuMemAddressReserve", why)) return nullptr;
    const Access access{.location = {.id = device_}};
    if (!Fails(driver_.memory_map(address, size, 0, handle, 0), "cuMemMap", why)) {
      if (!Fails(driver_.memory_access(address, size, &access, 1), "cuMemSetAccess", why)) {
        auto* const memory = reinterpret_cast<std::byte*>(address);
        reached_[memory] = {size, nullptr};
        return memory;
      }
      driver_.memory_unmap(address, size);
    }
    driver_.address_free(address, size);
    return nullptr;
  }
  std::byte* ReachHost(int file, int64_t bytes, std::string* why) {
    const auto size = static_cast<size_t>(bytes);
    void* const memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) {
      *why = std::string("mmap: ") + std::strerror(errno);
      return nullptr;
    }
    Address address = 0;
    if (!Fails(driver_.host_register(memory, size, kPortableAndMapped), "cuMemHostRegister", why)) {
      if (!Fails(driver_.host_address(&address, memory, 0), "cuMemHostGetDevicePointer", why)) {
        auto* const there = reinterpret_cast<std::byte*>(address);
        reached_[there] = {size, memory};
        return there;
      }
      driver_.host_unregister(memory);
    }
    munmap(memory, size);
    return nullptr;
  }

  using Stamp = Event;
  struct Timed {
    const char* name;
    Stamp begin, end;
  };
  // A place in the stream whose time is taken; null unless kernels are timed.
  Stamp Now() {
    if (!timed_) return nullptr;
    Stamp stamp = nullptr;
    if (stamps_.empty()) {
      Must(driver_.event_create(&stamp, 0), "cuEventCreate");
    } else {
      stamp = stamps_.back();
      stamps_.pop_back();
    }
    Must(driver_.event_record(stamp, stream_), "cuEventRecord");
    return stamp;
  }
  static int64_t HostNow() { return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1); }
  // A stamp of which the host's time is known, while the GPU does nothing. Anew from time to time: the two clocks
  // drift, and the driver's milliseconds are floats.
  void Anchor() {
    if (base_ != nullptr) stamps_.push_back(base_);
    base_ = Now();
    Finish();
    base_time_ = HostNow();
  }
  void Note(const char* name, Stamp begin) {
    if (begin != nullptr) timing_.push_back({name, begin, Now()});
  }
  // Of what `run` puts on the stream; -1: it could not.
  double Seconds(const std::function<bool()>& run) {
    Must(driver_.event_record(events_[0], stream_), "cuEventRecord");
    if (!run()) return -1;
    Must(driver_.event_record(events_[1], stream_), "cuEventRecord");
    Must(driver_.event_finish(events_[1]), "cuEventSynchronize");
    float milliseconds = 0;
    Must(driver_.event_elapsed(&milliseconds, events_[0], events_[1]), "cuEventElapsedTime");
    return milliseconds * 1e-3;
  }
  // The calling thread may not be the one that opened the GPU.
  void Use() { Must(driver_.context_use(context_), "cuCtxSetCurrent"); }
  void Must(Result result, const char* what) const {
    if (result == 0) return;
    std::fprintf(stderr, "%s: %s: %s\n", name_.c_str(), what, driver_.Text(result).c_str());
    std::abort();
  }

  const Driver driver_;
  int device_ = 0, most_shared_ = 0;
  std::string name_;
  Context context_ = nullptr;
  Stream stream_ = nullptr;
  std::vector<Module> modules_;
  std::vector<Function> functions_;
  Event events_[2] = {};  // by which products are timed
  Event marks_[kEvents] = {};
  std::map<int, GraphExec> graphs_;
  std::map<std::byte*, Reached> reached_;
  bool timed_ = false;
  std::deque<Timed> timing_;
  std::vector<Stamp> stamps_;  // free
  Stamp base_ = nullptr;       // passed at this time of the host, in nanoseconds
  int64_t base_time_ = 0;
  bool dependent_ = false, groups_ = false;
  std::unique_ptr<GpuProducts> products_;
  std::unique_ptr<GpuCollectives> collectives_;
  const char* last_ = "the first kernels";  // launched last: an error shows at or after the one that made it
};

}  // namespace

std::unique_ptr<Device> OpenGpu(int ordinal, const GpuOptions& options, std::string* why, const std::string& library) {
  Driver driver;
  if (!LoadDriver(library, &driver, why)) return nullptr;
  auto gpu = std::make_unique<Gpu>(driver);
  *why = gpu->Open(ordinal, options);
  if (!why->empty()) return nullptr;
  return gpu;
}

}  // namespace pangea::cuda
