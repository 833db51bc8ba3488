// The one file that knows which back ends exist and chooses among them.
#include <cpuid.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "kernels/backend.h"
#include "kernels/check.h"
#include "kernels/cpu_queue.h"
#include "kernels/isa.h"
#include "kernels/on_cpu.h"
#include "kernels/weight.h"

namespace pangea {
namespace {

// Tile registers are large, so a process asks the kernel for them, once, before any of its threads uses one. A kernel
// or a sandbox that does not know the call says no.
bool MayUseTiles() {
  constexpr long kRequestState = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestState, kTileData) == 0;
}

Isa Detect() {
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  if (!avx2) return Isa::kReference;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vnni");
  if (!avx512) return Isa::kAvx2;
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx);
  constexpr uint32_t kTiles = 1u << 24, kInt8Tiles = 1u << 25;
  return (edx & kTiles) != 0 && (edx & kInt8Tiles) != 0 && MayUseTiles() ? Isa::kAmx : Isa::kAvx512;
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
    case Isa::kAmx:
      return "amx";
  }
  return "?";
}

std::optional<Isa> IsaFromName(std::string_view name) {
  for (const Isa isa : kIsas) {
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
    case Isa::kAmx:
      return avx512::kBackendWithTiles;
  }
  return reference::kBackend;
}

namespace {
constexpr int64_t kMapped = 1 << 20;  // from here on pages of its own, which nobody has touched yet
}  // namespace

DeviceMemory CpuQueue::Allocate(int64_t bytes) {
  if (bytes < kMapped) {
    const auto free = [](std::byte* p, int64_t, void*) { std::free(p); };
    return DeviceMemory(AllocateAligned(bytes).release(), {free, bytes});
  }
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return {};
  return DeviceMemory(static_cast<std::byte*>(p), {[](std::byte* at, int64_t n, void*) { munmap(at, n); }, bytes});
}

void CpuQueue::Upload(void* to, const void* from, int64_t bytes) {
  if (to != from && bytes > 0) std::memcpy(to, from, static_cast<size_t>(bytes));
}

const DeviceOps on_cpu::kOps = PANGEA_WORDS_OF(on_cpu);

void PackActivations(const Rows& x, const Weight& w, ActivationBits bits, PackedActivations* out, Queue& queue) {
  queue.ops().pack_activations(x, w, bits, out, queue);
}
void MatMul(const PackedActivations& a, const Weight& w, const BiasedOut& out, Queue& queue) {
  queue.ops().mat_mul(a, w, out, queue);
}
void EmbeddingRows(const WeightRows& table, int64_t width, std::span<const int32_t> rows, float* out, Queue& queue) {
  queue.ops().embedding_rows(table, width, rows, out, queue);
}
void FillLastIds(const Batch& batch, Queue& queue) { queue.ops().fill_last_ids(batch, queue); }
void GatherRows(const float* x, int64_t d, std::span<const int32_t> rows, float* out, Queue& queue) {
  queue.ops().gather_rows(x, d, rows, out, queue);
}
void Norm(NormKind kind, const NormArgs& args, Queue& queue) { queue.ops().norm(kind, args, queue); }
void Add(float* y, const float* x, int64_t n, Queue& queue) { queue.ops().add(y, x, n, queue); }
void GatePack(const GateArgs& args, const PackTo& pack, Queue& queue) { queue.ops().gate_pack(args, pack, queue); }
void ReduceAddNorm(const ReduceArgs& args, Queue& queue) { queue.ops().reduce_add_norm(args, queue); }
void FinishQkv(const KvLayer& kv, const Batch& batch, const FinishQkvArgs& args, Queue& queue) {
  queue.ops().finish_qkv(kv, batch, args, queue);
}
void Attention(const KvLayer& kv, const Batch& batch, const AttentionArgs& args, Queue& queue) {
  queue.ops().attention(kv, batch, args, queue);
}
void CopyBlock(const KvLayer& kv, int64_t from, int64_t to, Queue& queue) {
  queue.ops().copy_block(kv, from, to, queue);
}
bool CanSample(const Queue& queue) { return queue.ops().sample != nullptr; }
void SampleIds(const SampleArgs& args, Queue& queue) { queue.ops().sample(args, queue); }
void CountIds(const CountArgs& args, Queue& queue) { queue.ops().count_ids(args, queue); }

bool CanExchange(const Queue& queue) { return queue.ops().gather_parts != nullptr; }
void GatherParts(const DeviceExchange& exchange, const GatherArgs& args, Queue& queue) {
  queue.ops().gather_parts(exchange, args, queue);
}
void SendRows(const DeviceExchange& exchange, const void* from, int64_t n, Queue& queue) {
  queue.ops().send_rows(exchange, from, n, queue);
}
void ReceiveRows(const DeviceExchange& exchange, void* to, int64_t n, Queue& queue) {
  queue.ops().receive_rows(exchange, to, n, queue);
}
void MoveIds(const MoveIdsArgs& args, Queue& queue) { queue.ops().move_ids(args, queue); }

std::unique_ptr<Queue> MakeCpuQueue(int threads, Isa isa, bool spin, int fusion) {
  return std::make_unique<CpuQueue>(threads, isa, spin, fusion);
}

}  // namespace pangea
