// The model as data: what config.json or GGUF keys say, checked. One decoder serves every architecture; what differs is
// here.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/types.h"

namespace pangea {

enum class Architecture : uint8_t { kLlama, kMistral, kQwen2, kQwen3, kGpt2, kPangu };
enum class RopeScaling : uint8_t { kNone, kLinear, kDynamic, kYarn, kLlama3 };

struct RopeConfig {
  double base = 10000;
  int rot = 0;  // rotated elements of a head; 0: no RoPE (learned positions)
  RopePairs pairs = RopePairs::kHalves;
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1;
  double original_positions = 0;
  double low_freq_factor = 1, high_freq_factor = 4;  // llama3
  double beta_fast = 32, beta_slow = 1;              // yarn
  std::optional<double> attention_factor;            // yarn; default 0.1 ln(factor) + 1
  std::optional<double> mscale, mscale_all_dim;      // yarn
  bool truncate = true;                              // yarn: correction range rounded to whole dims
  std::vector<float> factors;                        // GGUF rope_freqs.weight, when the file carries it
};

struct ModelConfig {
  Architecture architecture = Architecture::kLlama;
  std::string architecture_name;  // as the checkpoint spells it
  std::string wrapper;            // of what larger model this is the text half (llava, mistral3); empty: of none
  int layers = 0;                 // PanGu's query layer included
  int hidden = 0, heads = 0, kv_heads = 0, head_dim = 0, ffn = 0, vocab = 0;
  int max_positions = 0;  // context that the checkpoint declares
  NormKind norm = NormKind::kRms;
  float norm_eps = 1e-5f;
  Gate activation = Gate::kSilu;
  bool gated = true;  // gate and up; else up alone (GPT-2, PanGu)
  bool qkv_bias = false, o_bias = false, mlp_bias = false, qk_norm = false, tied = false;
  bool learned_positions = false;
  bool query_layer = false;             // PanGu: the last layer's query is the row of a table
  bool final_norm_before_query = true;  // PanGu: final norm before the query layer (else before the head)
  RopeConfig rope;
  std::vector<int> window;    // per layer; 0: full attention
  std::vector<int> eos;       // ids that end a generation
  DType dtype = DType::kF32;  // of most weights

  int heads_per_kv() const { return heads / kv_heads; }
  float attention_scale() const;  // 1/sqrt(head_dim)
};

// cos and sin [positions][rot/2], f32 made once from doubles. context: the deployment's context length (resolves
// `dynamic`).
struct RopeTables {
  std::vector<float> cos, sin;
};
RopeTables MakeRopeTables(const RopeConfig& rope, int positions, int context);

}  // namespace pangea
