#include "kernels/cuda/gpu_driver.h"

#include <dlfcn.h>

namespace pangea::cuda {

bool LoadDriver(const std::string& path, Driver* driver, std::string* why) {
  const std::string name = path.empty() ? "libcuda.so.1" : path;
  driver->library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);  // its threads may outlast us
  if (driver->library == nullptr) {
    *why = "no CUDA driver: " + name + " was looked for where the system looks for libraries (" + dlerror() + ")";
    return false;
  }
  const char* missing = nullptr;
#define PANGEA_LOAD(member, name, arguments)                                            \
  driver->member = reinterpret_cast<Result(*) arguments>(dlsym(driver->library, name)); \
  if (driver->member == nullptr) missing = name;
  PANGEA_DRIVER(PANGEA_LOAD)
#undef PANGEA_LOAD
  if (missing == nullptr) return true;
  *why = "the CUDA driver " + name + " is too old: it has no " + missing;
  dlclose(driver->library);
  return false;
}

}  // namespace pangea::cuda
