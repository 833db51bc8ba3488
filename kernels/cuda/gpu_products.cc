#include "kernels/cuda/gpu_products.h"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <map>
#include <vector>

#include "kernels/cuda/chosen_algorithms.h"

namespace pangea::cuda {
namespace {

using Status = int;
using Handle = void*;
using Desc = void*;
using Layout = void*;
using Preference = void*;

struct Found {  // cublasLtMatmulHeuristicResult_t
  Algorithm algorithm;
  size_t workspace;
  Status state;
  float waves;
  int reserved[4];
};
static_assert(sizeof(Found) == 96);

constexpr int kF32 = 0, kF16 = 2, kBf16 = 14;                // cudaDataType_t
constexpr int kCompute32F = 68;                              // CUBLAS_COMPUTE_32F
constexpr int kTransA = 3, kEpilogue = 7, kBiasPointer = 8;  // CUBLASLT_MATMUL_DESC_…
constexpr int kTranspose = 1, kEpilogueBias = 4, kMostWorkspace = 1, kAlignment = 5,
              kTried = 8;  // CUBLAS_OP_T, CUBLASLT_…

#define PANGEA_LIBRARY(X)                                                                                          \
  X(create, "cublasLtCreate", (Handle*))                                                                           \
  X(destroy, "cublasLtDestroy", (Handle))                                                                          \
  X(desc_create, "cublasLtMatmulDescCreate", (Desc*, int, int))                                                    \
  X(desc_destroy, "cublasLtMatmulDescDestroy", (Desc))                                                             \
  X(desc_set, "cublasLtMatmulDescSetAttribute", (Desc, int, const void*, size_t))                                  \
  X(layout_create, "cublasLtMatrixLayoutCreate", (Layout*, int, uint64_t, uint64_t, int64_t))                      \
  X(layout_destroy, "cublasLtMatrixLayoutDestroy", (Layout))                                                       \
  X(preference_create, "cublasLtMatmulPreferenceCreate", (Preference*))                                            \
  X(preference_destroy, "cublasLtMatmulPreferenceDestroy", (Preference))                                           \
  X(preference_set, "cublasLtMatmulPreferenceSetAttribute", (Preference, int, const void*, size_t))                \
  X(heuristic, "cublasLtMatmulAlgoGetHeuristic",                                                                   \
    (Handle, Desc, Layout, Layout, Layout, Layout, Preference, int, Found*, int*))                                 \
  X(multiply, "cublasLtMatmul",                                                                                    \
    (Handle, Desc, const void*, const void*, Layout, const void*, Layout, const void*, const void*, Layout, void*, \
     Layout, const Algorithm*, void*, size_t, void*))

class CublasLt final : public GpuProducts {
 public:
  CublasLt(const TimeOnStream& seconds, const std::string& gpu) : seconds_(seconds), gpu_(gpu) {}
  ~CublasLt() override {
    for (const auto& [key, shape] : shapes_) {
      desc_destroy(shape.desc);
      for (const Layout layout : {shape.w, shape.x, shape.y}) layout_destroy(layout);
    }
    if (handle_ != nullptr) destroy(handle_);
    if (library_ != nullptr) dlclose(library_);
  }

  std::string Load() {
    for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12"}) {
      if (library_ == nullptr) library_ = dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    }
    if (library_ == nullptr)
      return "no cuBLASLt: libcublasLt.so.13 and .12 were looked for where the system looks for libraries "
             "(kernels.exact: true needs none)";
    const char* missing = nullptr;
#define PANGEA_LOAD(member, name, arguments)                             \
  member = reinterpret_cast<Status(*) arguments>(dlsym(library_, name)); \
  if (member == nullptr) missing = name;
    PANGEA_LIBRARY(PANGEA_LOAD)
#undef PANGEA_LOAD
    if (missing != nullptr) return std::string("this cuBLASLt has no ") + missing;
    if (const Status s = create(&handle_); s != 0) return "cublasLtCreate: status " + std::to_string(s);
    const auto version = reinterpret_cast<size_t (*)()>(dlsym(library_, "cublasLtGetVersion"));
    chosen_.Open(gpu_ + ", cuBLASLt " + std::to_string(version != nullptr ? version() : 0));
    return "";
  }

  std::string Multiply(const LibraryProduct& p, void* stream) override {
    const auto [found, is_new] = shapes_.try_emplace(KeyOf(p, p.m));
    Shape& shape = found->second;
    if (is_new) {
      if (const std::string why = Make(p, &shape); !why.empty()) return why;
      // Rows in so many steps, so that a batch which grows by one is not measured anew.
      const ProductKey step = KeyOf(p, Step(p.m));
      if (const Algorithm* chosen = chosen_.Find(step)) {
        shape.algorithm = *chosen;
        if (Run(shape, shape.algorithm, p, stream) == 0) return "";
      }
      if (const std::string why = Choose(p, stream, &shape); !why.empty()) return why;
      chosen_.Add(step, shape.algorithm);
      return "";  // choosing has computed it, too
    }
    const Status s = Run(shape, shape.algorithm, p, stream);
    return s == 0 ? "" : "cublasLtMatmul: status " + std::to_string(s);
  }

 private:
  struct Shape {
    Desc desc = nullptr;
    Layout w = nullptr, x = nullptr, y = nullptr;
    Algorithm algorithm = {};
  };

  static uint32_t AlignmentOf(const void* p) {
    return static_cast<uint32_t>(
        std::min<uintptr_t>(256, reinterpret_cast<uintptr_t>(p) & -reinterpret_cast<uintptr_t>(p)));
  }
  static ProductKey KeyOf(const LibraryProduct& p, int64_t m) {
    return {m, p.n, p.k, p.x_pitch, p.ldy, static_cast<int64_t>(p.dtype), p.bias != nullptr, AlignmentOf(p.y)};
  }
  static int64_t Step(int64_t m) {
    int64_t step = 16;
    while (step < m) step *= 2;
    return step;
  }

  // Column-major, as the library sees it: y^T [n][m] = w [k][n]^T . x^T [k][m].
  std::string Make(const LibraryProduct& p, Shape* shape) {
    const int type = p.dtype == DType::kF16 ? kF16 : kBf16;
    const auto n = static_cast<uint64_t>(p.n), k = static_cast<uint64_t>(p.k), m = static_cast<uint64_t>(p.m);
    const int transpose = kTranspose, epilogue = kEpilogueBias;
    const bool ok = desc_create(&shape->desc, kCompute32F, kF32) == 0 &&
                    desc_set(shape->desc, kTransA, &transpose, sizeof(transpose)) == 0 &&
                    (p.bias == nullptr || (desc_set(shape->desc, kEpilogue, &epilogue, sizeof(epilogue)) == 0 &&
                                           desc_set(shape->desc, kBiasPointer, &p.bias, sizeof(p.bias)) == 0)) &&
                    layout_create(&shape->w, type, k, n, p.k) == 0 &&
                    layout_create(&shape->x, type, k, m, p.x_pitch) == 0 &&
                    layout_create(&shape->y, kF32, n, m, p.ldy) == 0;
    return ok ? "" : "cuBLASLt cannot describe a product of " + Text(p);
  }

  Status Run(const Shape& shape, const Algorithm& algorithm, const LibraryProduct& p, void* stream) {
    const float one = 1, zero = 0;
    if (p.bias != nullptr) desc_set(shape.desc, kBiasPointer, &p.bias, sizeof(p.bias));
    return multiply(handle_, shape.desc, &one, p.w, shape.w, p.x, shape.x, &zero, p.y, shape.y, p.y, shape.y,
                    &algorithm, p.workspace, static_cast<size_t>(p.workspace_bytes), stream);
  }
  std::string Choose(const LibraryProduct& p, void* stream, Shape* shape) {
    Preference preference = nullptr;
    std::array<Found, kTried> found = {};
    int count = 0;
    const size_t workspace = static_cast<size_t>(p.workspace_bytes);
    Status s = preference_create(&preference);
    if (s == 0) s = preference_set(preference, kMostWorkspace, &workspace, sizeof(workspace));
    const uint32_t alignments[] = {AlignmentOf(p.w), AlignmentOf(p.x), AlignmentOf(p.y), AlignmentOf(p.y)};
    for (int i = 0; i < 4 && s == 0; ++i)
      s = preference_set(preference, kAlignment + i, &alignments[i], sizeof(alignments[i]));
    if (s == 0)
      s = heuristic(handle_, shape->desc, shape->w, shape->x, shape->y, shape->y, preference, kTried, found.data(),
                    &count);
    if (preference != nullptr) preference_destroy(preference);
    if (s != 0 || count == 0) return "cuBLASLt has no way to compute " + Text(p) + ": status " + std::to_string(s);
    double best = -1;
    for (int i = 0; i < count; ++i) {
      if (found[i].state != 0) continue;
      const auto run = [&] { return Run(*shape, found[i].algorithm, p, stream) == 0; };
      seconds_(run);  // once, so that what it loads is not measured
      double took = -1;
      for (int repeat = 0; repeat < 3; ++repeat) {
        const double once = seconds_(run);
        if (once >= 0 && (took < 0 || once < took)) took = once;
      }
      if (took < 0 || (best >= 0 && took >= best)) continue;
      best = took;
      shape->algorithm = found[i].algorithm;
    }
    return best < 0 ? "none of cuBLASLt's algorithms computes " + Text(p) : "";
  }

  static std::string Text(const LibraryProduct& p) {
    return std::to_string(p.m) + " x " + std::to_string(p.n) + " x " + std::to_string(p.k);
  }

  const TimeOnStream seconds_;
  const std::string gpu_;
  void* library_ = nullptr;
  Handle handle_ = nullptr;
#define PANGEA_MEMBER(member, name, arguments) Status(*member) arguments = nullptr;
  PANGEA_LIBRARY(PANGEA_MEMBER)
#undef PANGEA_MEMBER
  std::map<ProductKey, Shape> shapes_;
  ChosenAlgorithms chosen_;
};

}  // namespace

std::unique_ptr<GpuProducts> LoadGpuProducts(const TimeOnStream& seconds, const std::string& gpu, std::string* why) {
  auto library = std::make_unique<CublasLt>(seconds, gpu);
  *why = library->Load();
  if (!why->empty()) return nullptr;
  return library;
}

}  // namespace pangea::cuda
