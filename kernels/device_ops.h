// What a device implements: the words in which stage and executor are written, each as ops.h says. The rest of ops.h,
// the single ops, are pieces of the CPU's words and are called with its queue alone (docs/adding_a_device.md).
#pragma once
#include "kernels/ops.h"
#include "kernels/sampling.h"

namespace pangea {

struct DeviceOps {
  void (*pack_activations)(const Rows& x, const Weight& w, ActivationBits bits, PackedActivations* out, Queue& queue);
  void (*mat_mul)(const PackedActivations& a, const Weight& w, const BiasedOut& out, Queue& queue);
  void (*embedding_rows)(const WeightRows& table, int64_t width, std::span<const int32_t> rows, float* out,
                         Queue& queue);
  void (*fill_last_ids)(const Batch& batch, Queue& queue);
  void (*gather_rows)(const float* x, int64_t d, std::span<const int32_t> rows, float* out, Queue& queue);
  void (*norm)(NormKind kind, const NormArgs& args, Queue& queue);
  void (*add)(float* y, const float* x, int64_t n, Queue& queue);
  void (*gate_pack)(const GateArgs& args, const PackTo& pack, Queue& queue);
  void (*reduce_add_norm)(const ReduceArgs& args, Queue& queue);
  void (*finish_qkv)(const KvLayer& kv, const Batch& batch, const FinishQkvArgs& args, Queue& queue);
  void (*attention)(const KvLayer& kv, const Batch& batch, const AttentionArgs& args, Queue& queue);
  void (*copy_block)(const KvLayer& kv, int64_t from, int64_t to, Queue& queue);
  // Of a device that draws ids itself; null, both: the host does, on downloaded logits.
  void (*sample)(const SampleArgs& args, Queue& queue) = nullptr;
  void (*count_ids)(const CountArgs& args, Queue& queue) = nullptr;
  // Of a device that exchanges with others without the host; null, all: the hosts do, through their group.
  void (*gather_parts)(const DeviceExchange& exchange, const GatherArgs& args, Queue& queue) = nullptr;
  void (*send_rows)(const DeviceExchange& exchange, const void* from, int64_t n, Queue& queue) = nullptr;
  void (*receive_rows)(const DeviceExchange& exchange, void* to, int64_t n, Queue& queue) = nullptr;
  void (*move_ids)(const MoveIdsArgs& args, Queue& queue) = nullptr;
};

// The words of a device are functions of these names in a namespace of its own: declared there, and as its table.
#define PANGEA_DECLARE_WORDS                                                                                           \
  void PackActivations(const Rows& x, const Weight& w, ActivationBits bits, PackedActivations* out, Queue& queue);     \
  void MatMul(const PackedActivations& a, const Weight& w, const BiasedOut& out, Queue& queue);                        \
  void EmbeddingRows(const WeightRows& table, int64_t width, std::span<const int32_t> rows, float* out, Queue& queue); \
  void FillLastIds(const Batch& batch, Queue& queue);                                                                  \
  void GatherRows(const float* x, int64_t d, std::span<const int32_t> rows, float* out, Queue& queue);                 \
  void Norm(NormKind kind, const NormArgs& args, Queue& queue);                                                        \
  void Add(float* y, const float* x, int64_t n, Queue& queue);                                                         \
  void GatePack(const GateArgs& args, const PackTo& pack, Queue& queue);                                               \
  void ReduceAddNorm(const ReduceArgs& args, Queue& queue);                                                            \
  void FinishQkv(const KvLayer& kv, const Batch& batch, const FinishQkvArgs& args, Queue& queue);                      \
  void Attention(const KvLayer& kv, const Batch& batch, const AttentionArgs& args, Queue& queue);                      \
  void CopyBlock(const KvLayer& kv, int64_t from, int64_t to, Queue& queue);
#define PANGEA_WORDS_OF(device)                 \
  {.pack_activations = device::PackActivations, \
   .mat_mul = device::MatMul,                   \
   .embedding_rows = device::EmbeddingRows,     \
   .fill_last_ids = device::FillLastIds,        \
   .gather_rows = device::GatherRows,           \
   .norm = device::Norm,                        \
   .add = device::Add,                          \
   .gate_pack = device::GatePack,               \
   .reduce_add_norm = device::ReduceAddNorm,    \
   .finish_qkv = device::FinishQkv,             \
   .attention = device::Attention,              \
   .copy_block = device::CopyBlock}

namespace on_cpu {
extern const DeviceOps kOps;
}

}  // namespace pangea
