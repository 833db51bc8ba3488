// CUDA's driver, as far as it is called here. It is loaded when the first GPU is opened: no toolkit is needed to build
// this, and no driver to start an executable that has it. What is declared here of its interface is stable across its
// versions (docs.nvidia.com/cuda/cuda-driver-api).
#pragma once
#include <string>

namespace pangea::cuda {

using Result = int;
using Address = unsigned long long;
struct ContextTag;
struct StreamTag;
struct ModuleTag;
struct FunctionTag;
struct EventTag;
struct GraphTag;
struct GraphExecTag;
using Context = ContextTag*;
using Stream = StreamTag*;
using Module = ModuleTag*;
using Function = FunctionTag*;
using Event = EventTag*;
using Graph = GraphTag*;
using GraphExec = GraphExecTag*;

// CUlaunchAttribute and CUlaunchConfig.
struct LaunchAttribute {
  int id = 0;
  char padding[4] = {};
  union {
    char bytes[64];
    int number;
  } value = {};
};
static_assert(sizeof(LaunchAttribute) == 72);
struct LaunchConfig {
  unsigned grid[3] = {}, block[3] = {}, shared = 0;
  Stream stream = nullptr;
  const LaunchAttribute* attributes = nullptr;
  unsigned count = 0;
};
static_assert(sizeof(LaunchConfig) == 56);

// CUmemLocation, CUmemAllocationProp, CUmemAccessDesc.
struct Location {
  int type = 1;  // CU_MEM_LOCATION_TYPE_DEVICE
  int id = 0;
};
struct AllocationKind {
  int type = 1;         // CU_MEM_ALLOCATION_TYPE_PINNED
  int handle_type = 1;  // CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
  Location location;
  void* unused = nullptr;
  char flags[8] = {};
};
static_assert(sizeof(AllocationKind) == 32);
struct Access {
  Location location;
  int flags = 3;  // CU_MEM_ACCESS_FLAGS_PROT_READWRITE
};
static_assert(sizeof(Access) == 12);
using Handle = unsigned long long;

// X(member, name in the library, arguments)
#define PANGEA_DRIVER(X)                                                                             \
  X(init, "cuInit", (unsigned))                                                                      \
  X(error_string, "cuGetErrorString", (Result, const char**))                                        \
  X(driver_version, "cuDriverGetVersion", (int*))                                                    \
  X(device_count, "cuDeviceGetCount", (int*))                                                        \
  X(device_get, "cuDeviceGet", (int*, int))                                                          \
  X(device_name, "cuDeviceGetName", (char*, int, int))                                               \
  X(device_attribute, "cuDeviceGetAttribute", (int*, int, int))                                      \
  X(context_retain, "cuDevicePrimaryCtxRetain", (Context*, int))                                     \
  X(context_release, "cuDevicePrimaryCtxRelease_v2", (int))                                          \
  X(context_use, "cuCtxSetCurrent", (Context))                                                       \
  X(memory_info, "cuMemGetInfo_v2", (size_t*, size_t*))                                              \
  X(allocate, "cuMemAlloc_v2", (Address*, size_t))                                                   \
  X(free, "cuMemFree_v2", (Address))                                                                 \
  X(allocate_host, "cuMemHostAlloc", (void**, size_t, unsigned))                                     \
  X(free_host, "cuMemFreeHost", (void*))                                                             \
  X(copy_in, "cuMemcpyHtoDAsync_v2", (Address, const void*, size_t, Stream))                         \
  X(copy_out, "cuMemcpyDtoHAsync_v2", (void*, Address, size_t, Stream))                              \
  X(stream_create, "cuStreamCreate", (Stream*, unsigned))                                            \
  X(stream_destroy, "cuStreamDestroy_v2", (Stream))                                                  \
  X(stream_finish, "cuStreamSynchronize", (Stream))                                                  \
  X(event_create, "cuEventCreate", (Event*, unsigned))                                               \
  X(event_destroy, "cuEventDestroy_v2", (Event))                                                     \
  X(event_record, "cuEventRecord", (Event, Stream))                                                  \
  X(event_finish, "cuEventSynchronize", (Event))                                                     \
  X(event_query, "cuEventQuery", (Event))                                                            \
  X(event_elapsed, "cuEventElapsedTime", (float*, Event, Event))                                     \
  X(module_load, "cuModuleLoadData", (Module*, const void*))                                         \
  X(module_unload, "cuModuleUnload", (Module))                                                       \
  X(module_function, "cuModuleGetFunction", (Function*, Module, const char*))                        \
  X(function_set, "cuFuncSetAttribute", (Function, int, int))                                        \
  X(capture_begin, "cuStreamBeginCapture_v2", (Stream, int))                                         \
  X(capture_end, "cuStreamEndCapture", (Stream, Graph*))                                             \
  X(graph_make, "cuGraphInstantiateWithFlags", (GraphExec*, Graph, unsigned long long))              \
  X(graph_upload, "cuGraphUpload", (GraphExec, Stream))                                              \
  X(graph_launch, "cuGraphLaunch", (GraphExec, Stream))                                              \
  X(graph_drop, "cuGraphDestroy", (Graph))                                                           \
  X(graph_exec_drop, "cuGraphExecDestroy", (GraphExec))                                              \
  X(granularity, "cuMemGetAllocationGranularity", (size_t*, const AllocationKind*, int))             \
  X(memory_make, "cuMemCreate", (Handle*, size_t, const AllocationKind*, unsigned long long))        \
  X(memory_release, "cuMemRelease", (Handle))                                                        \
  X(memory_export, "cuMemExportToShareableHandle", (void*, Handle, int, unsigned long long))         \
  X(memory_import, "cuMemImportFromShareableHandle", (Handle*, void*, int))                          \
  X(address_reserve, "cuMemAddressReserve", (Address*, size_t, size_t, Address, unsigned long long)) \
  X(address_free, "cuMemAddressFree", (Address, size_t))                                             \
  X(memory_map, "cuMemMap", (Address, size_t, size_t, Handle, unsigned long long))                   \
  X(memory_unmap, "cuMemUnmap", (Address, size_t))                                                   \
  X(memory_access, "cuMemSetAccess", (Address, size_t, const Access*, size_t))                       \
  X(host_register, "cuMemHostRegister_v2", (void*, size_t, unsigned))                                \
  X(host_unregister, "cuMemHostUnregister", (void*))                                                 \
  X(host_address, "cuMemHostGetDevicePointer_v2", (Address*, void*, unsigned))                       \
  X(launch, "cuLaunchKernelEx", (const LaunchConfig*, Function, void**, void**))

struct Driver {
  void* library = nullptr;
#define PANGEA_MEMBER(member, name, arguments) Result(*member) arguments = nullptr;
  PANGEA_DRIVER(PANGEA_MEMBER)
#undef PANGEA_MEMBER

  std::string Text(Result result) const {
    const char* text = nullptr;
    error_string(result, &text);
    return std::string(text != nullptr ? text : "unknown error") + " (error " + std::to_string(result) + ")";
  }
};

// False, with a sentence in *why. path: of the library; empty: as the system finds libcuda.so.1.
bool LoadDriver(const std::string& path, Driver* driver, std::string* why);

}  // namespace pangea::cuda
