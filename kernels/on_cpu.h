// The CPU's words, as the front ends (ops_*.cc) define them; dispatch.cc puts them into the CPU's table.
#pragma once
#include "kernels/cpu_queue.h"

namespace pangea::on_cpu {

void PackActivations(const Rows& x, const Weight& w, ActivationBits bits, PackedActivations* out, Queue& queue);
void MatMul(const PackedActivations& a, const Weight& w, const BiasedOut& out, Queue& queue);
void EmbeddingRows(const WeightRows& table, int64_t width, std::span<const int32_t> rows, float* out, Queue& queue);
void FillLastIds(const Batch& batch, Queue& queue);
void GatherRows(const float* x, int64_t d, std::span<const int32_t> rows, float* out, Queue& queue);
void Norm(NormKind kind, const NormArgs& args, Queue& queue);
void Add(float* y, const float* x, int64_t n, Queue& queue);
void GatePack(const GateArgs& args, const PackTo& pack, Queue& queue);
void ReduceAddNorm(const ReduceArgs& args, Queue& queue);
void FinishQkv(const KvLayer& kv, const Batch& batch, const FinishQkvArgs& args, Queue& queue);
void Attention(const KvLayer& kv, const Batch& batch, const AttentionArgs& args, Queue& queue);
void CopyBlock(const KvLayer& kv, int64_t from, int64_t to, Queue& queue);

}  // namespace pangea::on_cpu
