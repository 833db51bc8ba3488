// The tensor table: which tensor of the checkpoint plays which role, with its shape, who holds it and how ranks slice
// it. The check, the loader, the byte formulas and the cost model walk the same rows, so that a new tensor is one row
// here; a missing, surplus or misshapen tensor is refused by name.
#pragma once
#include <string>
#include <vector>

#include "pipeline/checkpoint/header.h"

namespace pangea {

enum class Role : uint8_t {
  kTokenEmbedding,
  kPositionEmbedding,
  kQueryEmbedding,
  kAttnNorm,
  kAttnNormBias,
  kQ,
  kQBias,
  kK,
  kKBias,
  kV,
  kVBias,
  kQNorm,
  kKNorm,
  kO,
  kOBias,
  kFfnNorm,
  kFfnNormBias,
  kGate,
  kGateBias,
  kUp,
  kUpBias,
  kDown,
  kDownBias,
  kFinalNorm,
  kFinalNormBias,
  kHead,
};
// What of a tensor a rank holds: all of it, output columns, or (leaves) inputs.
enum class Slice : uint8_t { kWhole, kQHeads, kKvHeads, kAttnLeaves, kFfnColumns, kFfnLeaves, kVocab };
// The product that a matrix is packed for; a vector with one is its bias, and follows its matrix in the table. Matrices
// of one product stand side by side in its columns, in the table's order. kNone: a norm, or a table of rows.
enum class Product : uint8_t { kNone, kQkv, kQuery, kO, kUp, kDown, kHead };
// Which agents hold what is of no layer: those of the first stage, of the last.
enum class Holder : uint8_t { kLayer, kFirst, kLast };

struct TensorRow {
  Role role;
  int layer = -1;           // -1: not of a layer
  std::string name;         // in the checkpoint
  int64_t n = 0, k = 0;     // output columns x K for matrices, n x 1 for vectors (k = 0)
  int64_t first = 0;        // first output column within the stored tensor (fused q,k,v)
  bool transposed = false;  // stored [k][n]
  Slice slice = Slice::kWhole;
  Product product = Product::kNone;
  Holder holder = Holder::kLayer;
  int expert = -1;  // of a layer with experts; -1: of the layer itself
  bool matrix() const { return product != Product::kNone && k > 0; }  // packed; else a vector, or a table of rows
};

// What stands before the names of the decoder's tensors ("layers.0.…") in a folder's files: "model.", nothing in a base
// model's own, "language_model.model." and the like where it is a part of a larger model.
std::string DecoderPrefix(const CheckpointHeader& header);
// The head that such a file stores or, where it stores none, should store.
std::string HeadName(const CheckpointHeader& header, const std::string& prefix);

// Rows for every tensor that the model needs (a tied head has none of its own: kHead's row names the embedding).
std::vector<TensorRow> TensorTable(const CheckpointHeader& header);
// All faults of the checkpoint against the table; empty: fine. Known buffers without meaning (attn.bias, masked_bias,
// rotary inv_freq, a tied lm_head equal in shape) are not surplus.
std::vector<std::string> CheckTensors(const CheckpointHeader& header, const std::vector<TensorRow>& table);

}  // namespace pangea
