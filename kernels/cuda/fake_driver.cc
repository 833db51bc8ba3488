// A CUDA driver without a GPU: the functions of libcuda.so.1 that gpu_device.cc calls, with kernels on fibers. A test
// puts it where the real one would be found, and runs the way to a GPU to its end. Memory of the "device" is the
// host's; what a stream was given is done when it is waited for, so that a wait that is missing shows. The environment
// may say how much memory there is (PANGEA_FAKE_GPU_MEMORY, bytes; 1 GiB) and how many GPUs (PANGEA_FAKE_GPUS; 4), and
// that none reaches another's memory (PANGEA_FAKE_GPU_ALONE=1).
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "kernels/cuda/device.h"

namespace {

using Result = int;
using Address = unsigned long long;
using pangea::cuda::kKernels;
using pangea::cuda::kKernelTable;

constexpr Result kOk = 0, kInvalid = 1, kNoMemory = 2, kNoDevice = 101, kNotFound = 500, kNotReady = 600;
constexpr size_t kPage = 2 << 20;  // of shared memory

int64_t Setting(const char* name, int64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::atoll(text) : otherwise;
}

struct State {
  std::mutex mutex;
  std::unique_ptr<pangea::cuda::Device> device = pangea::cuda::MakeFiberDevice();
  std::map<Address, size_t> allocated;
  int64_t free = Setting("PANGEA_FAKE_GPU_MEMORY", int64_t{1} << 30);
  int events = 0, graphs = 0;
  uint64_t recorded = 0, waited = 0;  // places of events: the last one, and the last that was waited for
};
struct Event {
  int number;
  bool asked;
  uint64_t place = 0;  // among all records
};
State& Here() {
  static State state;
  return state;
}

}  // namespace

extern "C" {

Result cuInit(unsigned) { return kOk; }
Result cuGetErrorString(Result result, const char** text) {
  *text = result == kNoMemory ? "out of memory" : result == kNoDevice ? "invalid device ordinal" : "a fake error";
  return kOk;
}
Result cuDriverGetVersion(int* version) {
  *version = 13000;
  return kOk;
}
Result cuDeviceGetCount(int* count) {
  *count = static_cast<int>(Setting("PANGEA_FAKE_GPUS", 4));
  return kOk;
}
Result cuDeviceGet(int* device, int ordinal) {
  *device = ordinal;
  return ordinal < Setting("PANGEA_FAKE_GPUS", 4) ? kOk : kNoDevice;
}
Result cuDeviceGetName(char* name, int length, int) {
  std::strncpy(name, "a fake GPU", static_cast<size_t>(length));
  return kOk;
}
Result cuDeviceGetAttribute(int* value, int attribute, int) {
  *value = attribute == 75 ? 9 : attribute == 76 ? 0 : attribute == 97 ? 227 << 10 : 1;
  return kOk;
}
Result cuDevicePrimaryCtxRetain(void** context, int) {
  *context = &Here();
  return kOk;
}
Result cuDevicePrimaryCtxRelease_v2(int) { return kOk; }
Result cuCtxSetCurrent(void* context) { return context == &Here() ? kOk : kInvalid; }
Result cuMemGetInfo_v2(size_t* free, size_t* total) {
  std::lock_guard lock(Here().mutex);
  *free = static_cast<size_t>(Here().free);
  *total = static_cast<size_t>(Setting("PANGEA_FAKE_GPU_MEMORY", int64_t{1} << 30));
  return kOk;
}
Result cuMemAlloc_v2(Address* address, size_t bytes) {
  std::lock_guard lock(Here().mutex);
  if (static_cast<int64_t>(bytes) > Here().free) return kNoMemory;
  *address = reinterpret_cast<Address>(Here().device->Allocate(static_cast<int64_t>(bytes)));
  Here().free -= static_cast<int64_t>(bytes);
  Here().allocated[*address] = bytes;
  return kOk;
}
Result cuMemFree_v2(Address address) {
  std::lock_guard lock(Here().mutex);
  const auto found = Here().allocated.find(address);
  if (found == Here().allocated.end()) return kInvalid;
  Here().free += static_cast<int64_t>(found->second);
  Here().allocated.erase(found);
  Here().device->Free(reinterpret_cast<std::byte*>(address));
  return kOk;
}
// Memory that other processes may reach: a file of the host's.
struct AllocationKind {
  int type, handle_type, location_type, device;
};
Result cuMemGetAllocationGranularity(size_t* page, const AllocationKind*, int) {
  *page = kPage;
  return kOk;
}
Result cuMemCreate(uint64_t* handle, size_t bytes, const AllocationKind* kind, unsigned long long) {
  if (kind->type != 1 || kind->handle_type != 1 || kind->location_type != 1 || bytes % kPage != 0) return kInvalid;
  std::lock_guard lock(Here().mutex);
  if (static_cast<int64_t>(bytes) > Here().free) return kNoMemory;
  const int file = memfd_create("fake GPU", MFD_CLOEXEC);
  if (file < 0 || ftruncate(file, static_cast<off_t>(bytes)) != 0) return kNoMemory;
  Here().free -= static_cast<int64_t>(bytes);
  *handle = static_cast<uint64_t>(file);
  return kOk;
}
Result cuMemRelease(uint64_t handle) { return close(static_cast<int>(handle)) == 0 ? kOk : kInvalid; }
Result cuMemExportToShareableHandle(int* file, uint64_t handle, int type, unsigned long long) {
  *file = fcntl(static_cast<int>(handle), F_DUPFD_CLOEXEC, 0);
  return type == 1 && *file >= 0 ? kOk : kInvalid;
}
Result cuMemImportFromShareableHandle(uint64_t* handle, void* file, int type) {
  if (Setting("PANGEA_FAKE_GPU_ALONE", 0) != 0) return kInvalid;
  *handle = static_cast<uint64_t>(fcntl(static_cast<int>(reinterpret_cast<intptr_t>(file)), F_DUPFD_CLOEXEC, 0));
  return type == 1 && static_cast<int64_t>(*handle) >= 0 ? kOk : kInvalid;
}
Result cuMemAddressReserve(Address* address, size_t bytes, size_t, Address, unsigned long long) {
  void* const room = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  *address = reinterpret_cast<Address>(room);
  return room != MAP_FAILED ? kOk : kNoMemory;
}
Result cuMemAddressFree(Address address, size_t bytes) {
  return munmap(reinterpret_cast<void*>(address), bytes) == 0 ? kOk : kInvalid;
}
// Nobody may touch it before cuMemSetAccess.
Result cuMemMap(Address address, size_t bytes, size_t, uint64_t handle, unsigned long long) {
  void* const room = reinterpret_cast<void*>(address);
  return mmap(room, bytes, PROT_NONE, MAP_SHARED | MAP_FIXED, static_cast<int>(handle), 0) == room ? kOk : kInvalid;
}
Result cuMemSetAccess(Address address, size_t bytes, const int* access, size_t) {
  if (access[0] != 1 || access[2] != 3) return kInvalid;
  return mprotect(reinterpret_cast<void*>(address), bytes, PROT_READ | PROT_WRITE) == 0 ? kOk : kInvalid;
}
Result cuMemUnmap(Address address, size_t bytes) {
  return mprotect(reinterpret_cast<void*>(address), bytes, PROT_NONE) == 0 ? kOk : kInvalid;
}
Result cuMemHostRegister_v2(void*, size_t, unsigned flags) { return flags == 3 ? kOk : kInvalid; }
Result cuMemHostUnregister(void*) { return kOk; }
Result cuMemHostGetDevicePointer_v2(Address* address, void* memory, unsigned) {
  *address = reinterpret_cast<Address>(memory);
  return kOk;
}
Result cuMemHostAlloc(void** memory, size_t bytes, unsigned) {
  *memory = Here().device->AllocatePinned(static_cast<int64_t>(bytes));
  return *memory != nullptr ? kOk : kNoMemory;
}
Result cuMemFreeHost(void* memory) {
  Here().device->FreePinned(static_cast<std::byte*>(memory));
  return kOk;
}
Result cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t bytes, void*) {
  Here().device->CopyIn(reinterpret_cast<void*>(to), from, static_cast<int64_t>(bytes));
  return kOk;
}
Result cuMemcpyDtoHAsync_v2(void* to, Address from, size_t bytes, void*) {
  Here().device->CopyOut(to, reinterpret_cast<const void*>(from), static_cast<int64_t>(bytes));
  return kOk;
}
Result cuStreamCreate(void** stream, unsigned) {
  *stream = &Here();
  return kOk;
}
Result cuStreamDestroy_v2(void*) { return kOk; }
Result cuStreamSynchronize(void*) {
  Here().device->Finish();
  Here().waited = Here().recorded;
  return kOk;
}
Result cuEventCreate(void** event, unsigned) {
  *event = new Event{Here().events++, false};
  return kOk;
}
Result cuEventDestroy_v2(void* event) {
  delete static_cast<Event*>(event);
  return kOk;
}
Result cuEventRecord(void* event, void*) {
  auto* recorded = static_cast<Event*>(event);
  recorded->asked = false;
  recorded->place = ++Here().recorded;
  Here().device->Record(recorded->number);
  return kOk;
}
// What was not waited for is not ready the first time that it is asked for, as if the device were still at work.
Result cuEventQuery(void* event) {
  auto* asked = static_cast<Event*>(event);
  return asked->place <= Here().waited || std::exchange(asked->asked, true) ? kOk : kNotReady;
}
Result cuEventSynchronize(void* event) {
  Here().device->Await(static_cast<Event*>(event)->number);
  Here().waited = std::max(Here().waited, static_cast<Event*>(event)->place);
  return kOk;
}
Result cuEventElapsedTime(float* milliseconds, void* from, void* to) {
  *milliseconds = static_cast<float>(
      1e3 * Here().device->Seconds(static_cast<Event*>(from)->number, static_cast<Event*>(to)->number));
  return kOk;
}
Result cuModuleLoadData(void** module, const void*) {
  *module = &Here();
  return kOk;
}
Result cuModuleUnload(void*) { return kOk; }
Result cuModuleGetFunction(void** function, void*, const char* name) {
  for (int i = 0; i < kKernels; ++i) {
    if (name != std::string("Pangea") + kKernelTable[i].name) continue;
    *function = const_cast<pangea::cuda::KernelInfo*>(&kKernelTable[i]);
    return kOk;
  }
  return kNotFound;
}
Result cuFuncSetAttribute(void*, int, int) { return kOk; }
// For the library of products beside it.
void pangea_fake_product(const pangea::cuda::LibraryProduct* product) { Here().device->Multiply(*product); }
struct LaunchConfig {
  unsigned grid[3], block[3], shared;
  void* stream;
  const int* attributes;
  unsigned count;
};
Result cuLaunchKernelEx(const LaunchConfig* config, void* function, void** parameters, void**) {
  const auto kernel =
      static_cast<pangea::cuda::Kernel>(static_cast<pangea::cuda::KernelInfo*>(function) - kKernelTable);
  if (config->block[0] != pangea::cuda::InfoOf(kernel).threads || config->grid[1] > 65535 || config->grid[2] > 65535 ||
      config->shared > 227 << 10 || (config->count > 0 && (config->count > 1 || config->attributes[0] != 6)))
    return kInvalid;
  Here().device->Launch(kernel, {config->grid[0], config->grid[1], config->grid[2]}, config->shared, parameters[0]);
  return kOk;
}
Result cuStreamBeginCapture_v2(void*, int mode) {
  if (mode != 1) return kInvalid;
  Here().device->BeginGraph();
  return kOk;
}
Result cuStreamEndCapture(void*, void** graph) {
  Here().device->EndGraph(++Here().graphs);
  *graph = reinterpret_cast<void*>(static_cast<intptr_t>(Here().graphs));
  return kOk;
}
Result cuGraphInstantiateWithFlags(void** made, void* graph, unsigned long long) {
  *made = graph;
  return kOk;
}
Result cuGraphDestroy(void*) { return kOk; }
Result cuGraphUpload(void*, void*) { return kOk; }
Result cuGraphLaunch(void* graph, void*) {
  Here().device->Play(static_cast<int>(reinterpret_cast<intptr_t>(graph)));
  return kOk;
}
Result cuGraphExecDestroy(void* graph) {
  Here().device->DropGraph(static_cast<int>(reinterpret_cast<intptr_t>(graph)));
  return kOk;
}

}  // extern "C"
