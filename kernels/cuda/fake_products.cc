// cuBLASLt without a GPU, for the fake driver: the functions that gpu_products.cc calls. Its products are the driver's.
// It names three algorithms, of which the first cannot compute anything; with PANGEA_FAKE_NO_ALGORITHMS none.
#include <dlfcn.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "kernels/cuda/device.h"

namespace {

struct Desc {
  int transpose = 0, epilogue = 0;
  const float* bias = nullptr;
};
struct Layout {
  int type;
  uint64_t rows, columns;
  int64_t pitch;
};
struct Found {
  uint64_t algorithm[8];
  size_t workspace;
  int state;
  float waves;
  int reserved[4];
};

}  // namespace

extern "C" {

int cublasLtCreate(void** handle) {
  *handle = handle;
  return 0;
}
int cublasLtDestroy(void*) { return 0; }
size_t cublasLtGetVersion() { return 130100; }
int cublasLtMatmulDescCreate(Desc** desc, int compute, int scale) {
  *desc = new Desc;
  return compute == 68 && scale == 0 ? 0 : 7;
}
int cublasLtMatmulDescDestroy(Desc* desc) {
  delete desc;
  return 0;
}
int cublasLtMatmulDescSetAttribute(Desc* desc, int attribute, const void* value, size_t bytes) {
  void* const to = attribute == 3   ? static_cast<void*>(&desc->transpose)
                   : attribute == 7 ? static_cast<void*>(&desc->epilogue)
                   : attribute == 8 ? static_cast<void*>(&desc->bias)
                                    : nullptr;
  if (to == nullptr || bytes != (attribute == 8 ? 8u : 4u)) return 7;
  std::memcpy(to, value, bytes);
  return 0;
}
int cublasLtMatrixLayoutCreate(Layout** layout, int type, uint64_t rows, uint64_t columns, int64_t pitch) {
  *layout = new Layout{type, rows, columns, pitch};
  return pitch >= static_cast<int64_t>(rows) ? 0 : 7;
}
int cublasLtMatrixLayoutDestroy(Layout* layout) {
  delete layout;
  return 0;
}
int cublasLtMatmulPreferenceCreate(void** preference) {
  *preference = preference;
  return 0;
}
int cublasLtMatmulPreferenceDestroy(void*) { return 0; }
int cublasLtMatmulPreferenceSetAttribute(void*, int, const void*, size_t) { return 0; }
int cublasLtMatmulAlgoGetHeuristic(void*, Desc*, Layout*, Layout*, Layout*, Layout*, void*, int, Found* found,
                                   int* count) {
  *count = 0;
  if (std::getenv("PANGEA_FAKE_NO_ALGORITHMS") != nullptr) return 0;
  for (int i = 0; i < 3; ++i) {
    found[i] = {};
    found[i].algorithm[0] = static_cast<uint64_t>(i);
  }
  *count = 3;
  return 0;
}
int cublasLtMatmul(void*, const Desc* desc, const void*, const void* a, const Layout* of_a, const void* b,
                   const Layout* of_b, const void*, const void*, const Layout*, void* d, const Layout* of_d,
                   const uint64_t* algorithm, void*, size_t, void* stream) {
  if (algorithm[0] == 0 || desc->transpose != 1) return 15;
  // Of the driver beside it; found through the process, as both were loaded by name.
  static const auto product = [] {
    void* const driver = dlopen("libcuda.so.1", RTLD_NOW);
    return reinterpret_cast<void (*)(const pangea::cuda::LibraryProduct*)>(
        driver != nullptr ? dlsym(driver, "pangea_fake_product") : nullptr);
  }();
  if (product == nullptr) return 14;
  const pangea::cuda::LibraryProduct told{.w = static_cast<const std::byte*>(a),
                                          .x = static_cast<const std::byte*>(b),
                                          .y = static_cast<float*>(d),
                                          .bias = desc->epilogue == 4 ? desc->bias : nullptr,
                                          .m = static_cast<int64_t>(of_d->columns),
                                          .n = static_cast<int64_t>(of_d->rows),
                                          .k = static_cast<int64_t>(of_a->rows),
                                          .x_pitch = of_b->pitch,
                                          .ldy = of_d->pitch,
                                          .dtype = of_a->type == 2 ? pangea::DType::kF16 : pangea::DType::kBF16};
  if (of_a->pitch != told.k || stream == nullptr) return 14;
  product(&told);
  return 0;
}

}  // extern "C"
