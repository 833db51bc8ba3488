// The pieces of a cpu back end, in the namespace of the class that is being compiled, one file per op family; table.cc
// puts them into the table.
#pragma once
#include "kernels/backend.h"

namespace pangea::PANGEA_ISA {

int64_t ActivationRowBytes(DType dtype, int64_t k, bool wide);
void PackActivations(const PackArgs& args, int64_t row_begin, int64_t row_end);
void ProductQuantised(const ProductArgs& args, const Block2D& block);
void ProductOnTiles(const ProductArgs& args, const Block2D& block);  // quantised too, where there is AMX
int64_t TileScratch(DType dtype, int64_t k, int64_t m);
void ProductPlain(const ProductArgs& args, const Block2D& block);

void RmsNorm(const float* x, int64_t ldx, const float* w, float eps, int64_t m, int64_t d, float* y, int64_t ldy);
void LayerNorm(const float* x, const float* w, const float* b, float eps, int64_t m, int64_t d, float* y);
void AddRows(float* y, int64_t ldy, const float* b, int64_t m, int64_t n);
void Sum(const float* a, const float* b, float* y, int64_t n);
void Rope(const RopeArgs& args, int64_t row_begin, int64_t row_end);
void Scale(float* x, int64_t ld, float s, int64_t m, int64_t n);
void GateUp(const GateArgs& args, int64_t row_begin, int64_t row_end);

void KvWrite(const KvLayer& kv, int kv_head, const int32_t* table, int64_t position, const float* k, const float* v);
void AttentionPrepare(const AttentionTile& tile, float* packed);
void AttentionPartial(const AttentionTile& tile, int64_t partition, float* partial);
void AttentionFold(const AttentionTile& tile, const float* partial, float* state);
void AttentionFinish(const AttentionTile& tile, const float* state);

void LseChunks(const float* x, int64_t n, float* out);
float LseFold(const float* pairs, int64_t chunks);
float ExpOne(float x);
float LogOne(float x);
int64_t GumbelArgmax(const float* x, int64_t n, int64_t first, uint64_t seed, uint32_t position, uint32_t choice,
                     float* value);
int64_t Argmax(const float* x, int64_t n, float* value);
bool AllFinite(const float* x, int64_t n);

}  // namespace pangea::PANGEA_ISA
