// The one file that knows which back ends exist and chooses among them.
#include <cstdlib>
#include <cstring>

#include "kernels/backend.h"
#include "kernels/check.h"
#include "kernels/cpu_queue.h"
#include "kernels/isa.h"
#include "kernels/weight.h"

namespace pangea {
namespace {

Isa Detect() {
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  if (!avx2) return Isa::kReference;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vnni");
  return avx512 ? Isa::kAvx512 : Isa::kAvx2;
}

}  // namespace

std::string_view IsaName(Isa isa) {
  switch (isa) {
    case Isa::kReference:
      return "reference";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
  }
  return "?";
}

std::optional<Isa> IsaFromName(std::string_view name) {
  for (const Isa isa : {Isa::kReference, Isa::kAvx2, Isa::kAvx512}) {
    if (name == IsaName(isa)) return isa;
  }
  return std::nullopt;
}

Isa BestIsa() {
  static const Isa best = Detect();
  return best;
}

const Backend& BackendOf(Isa isa) {
  PANGEA_CHECK(isa <= BestIsa());
  switch (isa) {
    case Isa::kReference:
      return reference::kBackend;
    case Isa::kAvx2:
      return avx2::kBackend;
    case Isa::kAvx512:
      return avx512::kBackend;
  }
  return reference::kBackend;
}

DeviceMemory CpuQueue::Allocate(int64_t bytes) {
  return DeviceMemory(AllocateAligned(bytes).release(), {[](std::byte* p) { std::free(p); }});
}

void CpuQueue::Upload(void* to, const void* from, int64_t bytes) {
  if (to != from && bytes > 0) std::memcpy(to, from, static_cast<size_t>(bytes));
}

std::unique_ptr<Queue> MakeCpuQueue(int threads, Isa isa, bool spin, int fusion) {
  return std::make_unique<CpuQueue>(threads, isa, spin, fusion);
}

}  // namespace pangea
