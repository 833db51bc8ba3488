#include "pipeline/checkpoint/tensor_table.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "pipeline/checkpoint/tensor_names.h"

namespace pangea {

bool IsBuffer(std::string_view name) {
  for (const char* suffix : {".attn.bias", ".attn.masked_bias", "inv_freq", "rotary_emb.cos_cached",
                             "rotary_emb.sin_cached", "rope.freqs", "position_ids"}) {
    if (name.ends_with(suffix)) return true;
  }
  return false;
}

bool IsGgufSurplus(std::string_view name) {
  for (const char* prefix : {"cls.", "score.", "v_head.", "v.", "a.", "mm.", "rope_factors_"}) {
    if (name.starts_with(prefix)) return true;
  }
  for (const char* part : {".nextn.", ".attn_rot_embd", ".lora_a", ".lora_b"}) {
    if (name.find(part) != std::string_view::npos) return true;
  }
  // A weight's own scale (attn_q.scale) is none of them: the product without it would be another model's.
  return name.ends_with(".input_scale") || name.ends_with(".inv_freq");
}

namespace {

constexpr size_t kMostFaults = 64;  // of one kind: a wrong file would otherwise answer with thousands

class TableBuilder {
 public:
  explicit TableBuilder(const CheckpointHeader& header)
      : header_(header), c_(header.config), p_(DecoderPrefix(header)) {
    q_ = int64_t{c_.heads} * c_.head_dim;
    kv_ = int64_t{c_.kv_heads} * c_.head_dim;
  }

  std::vector<TensorRow> Build() {
    if (header_.format == CheckpointFormat::kGguf) {
      Gguf();
    } else if (c_.architecture == Architecture::kGpt2) {
      Gpt2();
    } else if (c_.architecture == Architecture::kPangu) {
      Pangu();
    } else {
      LlamaLike();
    }
    return std::move(rows_);
  }

 private:
  void Matrix(Role role, std::string name, int64_t n, int64_t k, Slice slice) {
    rows_.push_back({.role = role,
                     .layer = layer_,
                     .name = std::move(name),
                     .n = n,
                     .k = k,
                     .first = 0,
                     .transposed = false,
                     .slice = slice});
  }
  void Vector(Role role, std::string name, int64_t n, Slice slice = Slice::kWhole) {
    Matrix(role, std::move(name), n, 0, slice);
  }
  // name.weight, and name.bias where the model has one.
  void Linear(Role role, Role bias_role, const std::string& name, int64_t n, int64_t k, Slice slice, bool bias) {
    Matrix(role, name + ".weight", n, k, slice);
    // The bias of a K-split product is added once, after the tree: every rank holds it whole.
    const bool k_split = slice == Slice::kAttnLeaves || slice == Slice::kFfnLeaves;
    if (bias) Vector(bias_role, name + ".bias", n, k_split ? Slice::kWhole : slice);
  }
  void Norm(Role role, Role bias_role, const std::string& name) {
    Vector(role, name + ".weight", c_.hidden);
    if (c_.norm == NormKind::kLayer) Vector(bias_role, name + ".bias", c_.hidden);
  }
  void Head(const std::string& own, const std::string& embedding) {
    layer_ = -1;
    Matrix(Role::kHead, c_.tied ? embedding : own, c_.vocab, c_.hidden, Slice::kVocab);
  }
  void FolderHead(const std::string& embedding) { Head(HeadName(header_, p_), p_ + embedding); }
  void Fused(const std::string& name, bool transposed) {
    static constexpr Role kRoles[3][2] = {{Role::kQ, Role::kQBias}, {Role::kK, Role::kKBias}, {Role::kV, Role::kVBias}};
    for (int part = 0; part < 3; ++part) {
      const int64_t first = part == 0 ? 0 : part == 1 ? q_ : q_ + kv_;
      const int64_t n = part == 0 ? q_ : kv_;
      const Slice slice = part == 0 ? Slice::kQHeads : Slice::kKvHeads;
      Matrix(kRoles[part][0], name + ".weight", n, c_.hidden, slice);
      rows_.back().first = first;
      rows_.back().transposed = transposed;
      Vector(kRoles[part][1], name + ".bias", n, slice);
      rows_.back().first = first;
    }
  }

  void LlamaLike() {
    Matrix(Role::kTokenEmbedding, p_ + "embed_tokens.weight", c_.vocab, c_.hidden, Slice::kWhole);
    for (layer_ = 0; layer_ < c_.layers; ++layer_) {
      const std::string at = absl::StrCat(p_, "layers.", layer_, ".");
      Norm(Role::kAttnNorm, Role::kAttnNormBias, at + "input_layernorm");
      Linear(Role::kQ, Role::kQBias, at + "self_attn.q_proj", q_, c_.hidden, Slice::kQHeads, c_.qkv_bias);
      Linear(Role::kK, Role::kKBias, at + "self_attn.k_proj", kv_, c_.hidden, Slice::kKvHeads, c_.qkv_bias);
      Linear(Role::kV, Role::kVBias, at + "self_attn.v_proj", kv_, c_.hidden, Slice::kKvHeads, c_.qkv_bias);
      if (c_.qk_norm) {
        Vector(Role::kQNorm, at + "self_attn.q_norm.weight", c_.head_dim);
        Vector(Role::kKNorm, at + "self_attn.k_norm.weight", c_.head_dim);
      }
      Linear(Role::kO, Role::kOBias, at + "self_attn.o_proj", c_.hidden, q_, Slice::kAttnLeaves, c_.o_bias);
      Norm(Role::kFfnNorm, Role::kFfnNormBias, at + "post_attention_layernorm");
      Linear(Role::kGate, Role::kGateBias, at + "mlp.gate_proj", c_.ffn, c_.hidden, Slice::kFfnColumns, c_.mlp_bias);
      Linear(Role::kUp, Role::kUpBias, at + "mlp.up_proj", c_.ffn, c_.hidden, Slice::kFfnColumns, c_.mlp_bias);
      Linear(Role::kDown, Role::kDownBias, at + "mlp.down_proj", c_.hidden, c_.ffn, Slice::kFfnLeaves, c_.mlp_bias);
    }
    layer_ = -1;
    Norm(Role::kFinalNorm, Role::kFinalNormBias, p_ + "norm");
    FolderHead("embed_tokens.weight");
  }

  // GPT-2's Conv1D stores [in][out].
  void Gpt2() {
    Matrix(Role::kTokenEmbedding, p_ + "wte.weight", c_.vocab, c_.hidden, Slice::kWhole);
    Matrix(Role::kPositionEmbedding, p_ + "wpe.weight", c_.max_positions, c_.hidden, Slice::kWhole);
    for (layer_ = 0; layer_ < c_.layers; ++layer_) {
      const std::string at = absl::StrCat(p_, "h.", layer_, ".");
      Norm(Role::kAttnNorm, Role::kAttnNormBias, at + "ln_1");
      Fused(at + "attn.c_attn", /*transposed=*/true);
      const size_t before = rows_.size();
      Linear(Role::kO, Role::kOBias, at + "attn.c_proj", c_.hidden, q_, Slice::kAttnLeaves, true);
      Norm(Role::kFfnNorm, Role::kFfnNormBias, at + "ln_2");
      Linear(Role::kUp, Role::kUpBias, at + "mlp.c_fc", c_.ffn, c_.hidden, Slice::kFfnColumns, true);
      Linear(Role::kDown, Role::kDownBias, at + "mlp.c_proj", c_.hidden, c_.ffn, Slice::kFfnLeaves, true);
      for (size_t i = before; i < rows_.size(); ++i) rows_[i].transposed = rows_[i].k > 0;
    }
    layer_ = -1;
    Norm(Role::kFinalNorm, Role::kFinalNormBias, p_ + "ln_f");
    Head("lm_head.weight", p_ + "wte.weight");
  }

  void Pangu() {
    Matrix(Role::kTokenEmbedding, p_ + "wte.weight", c_.vocab, c_.hidden, Slice::kWhole);
    Matrix(Role::kPositionEmbedding, p_ + "wpe.weight", c_.max_positions, c_.hidden, Slice::kWhole);
    Matrix(Role::kQueryEmbedding, p_ + "wqe.weight", c_.max_positions, c_.hidden, Slice::kWhole);
    for (layer_ = 0; layer_ < c_.layers; ++layer_) {
      const std::string at = absl::StrCat(p_, "h.", layer_, ".");
      Norm(Role::kAttnNorm, Role::kAttnNormBias, at + "ln_1");
      Linear(Role::kQ, Role::kQBias, at + "attn.q_proj", q_, c_.hidden, Slice::kQHeads, true);
      Linear(Role::kK, Role::kKBias, at + "attn.k_proj", kv_, c_.hidden, Slice::kKvHeads, true);
      Linear(Role::kV, Role::kVBias, at + "attn.v_proj", kv_, c_.hidden, Slice::kKvHeads, true);
      Linear(Role::kO, Role::kOBias, at + "attn.c_proj", c_.hidden, q_, Slice::kAttnLeaves, true);
      Norm(Role::kFfnNorm, Role::kFfnNormBias, at + "ln_2");
      Linear(Role::kUp, Role::kUpBias, at + "mlp.c_fc", c_.ffn, c_.hidden, Slice::kFfnColumns, true);
      Linear(Role::kDown, Role::kDownBias, at + "mlp.c_proj", c_.hidden, c_.ffn, Slice::kFfnLeaves, true);
    }
    layer_ = -1;
    Norm(Role::kFinalNorm, Role::kFinalNormBias, p_ + "ln_f");
    Head("lm_head.weight", p_ + "wte.weight");
  }

  void Gguf() {
    Matrix(Role::kTokenEmbedding, "token_embd.weight", c_.vocab, c_.hidden, Slice::kWhole);
    if (c_.learned_positions)
      Matrix(Role::kPositionEmbedding, "position_embd.weight", c_.max_positions, c_.hidden, Slice::kWhole);
    for (layer_ = 0; layer_ < c_.layers; ++layer_) {
      const std::string at = absl::StrCat("blk.", layer_, ".");
      Norm(Role::kAttnNorm, Role::kAttnNormBias, at + "attn_norm");
      if (c_.architecture == Architecture::kGpt2) {
        Fused(at + "attn_qkv", /*transposed=*/false);
      } else {
        Linear(Role::kQ, Role::kQBias, at + "attn_q", q_, c_.hidden, Slice::kQHeads, c_.qkv_bias);
        Linear(Role::kK, Role::kKBias, at + "attn_k", kv_, c_.hidden, Slice::kKvHeads, c_.qkv_bias);
        Linear(Role::kV, Role::kVBias, at + "attn_v", kv_, c_.hidden, Slice::kKvHeads, c_.qkv_bias);
      }
      if (c_.qk_norm) {
        Vector(Role::kQNorm, at + "attn_q_norm.weight", c_.head_dim);
        Vector(Role::kKNorm, at + "attn_k_norm.weight", c_.head_dim);
      }
      Linear(Role::kO, Role::kOBias, at + "attn_output", c_.hidden, q_, Slice::kAttnLeaves, c_.o_bias);
      Norm(Role::kFfnNorm, Role::kFfnNormBias, at + "ffn_norm");
      if (c_.gated)
        Linear(Role::kGate, Role::kGateBias, at + "ffn_gate", c_.ffn, c_.hidden, Slice::kFfnColumns, c_.mlp_bias);
      Linear(Role::kUp, Role::kUpBias, at + "ffn_up", c_.ffn, c_.hidden, Slice::kFfnColumns, c_.mlp_bias);
      Linear(Role::kDown, Role::kDownBias, at + "ffn_down", c_.hidden, c_.ffn, Slice::kFfnLeaves, c_.mlp_bias);
    }
    layer_ = -1;
    Norm(Role::kFinalNorm, Role::kFinalNormBias, "output_norm");
    Head("output.weight", "token_embd.weight");
  }

  const CheckpointHeader& header_;
  const ModelConfig& c_;
  const std::string p_;  // before the decoder's names in a folder's files
  int64_t q_ = 0, kv_ = 0;
  int layer_ = -1;
  std::vector<TensorRow> rows_;
};

std::string ShapeText(const std::vector<int64_t>& shape) { return absl::StrCat("[", absl::StrJoin(shape, ", "), "]"); }

// GGUF files may store a vector as a matrix of one row.
std::vector<int64_t> WithoutLeadingOnes(const std::vector<int64_t>& shape) {
  const auto first = std::find_if(shape.begin(), shape.end(), [](int64_t n) { return n != 1; });
  return {first, shape.end()};
}

// What the checkpoint must store under each name: fused tensors hold several roles.
struct Stored {
  int64_t n = 0, k = 0;
  bool transposed = false;
};

void CheckOne(const std::string& name, const Stored& want, const CheckpointHeader& header,
              std::vector<std::string>* faults) {
  const auto it = header.tensors.find(name);
  if (it == header.tensors.end()) {
    const auto odd = header.odd_types.find(name);
    faults->push_back(odd == header.odd_types.end() ? absl::StrCat("tensor ", name, ": is missing")
                                                    : absl::StrCat("tensor ", name, ": dtype ", odd->second,
                                                                   " is not supported; supported for weights: ",
                                                                   absl::AsciiStrToUpper(WeightTypeNames(false))));
    return;
  }
  const TensorInfo& info = it->second;
  std::vector<int64_t> shape = {want.n};
  if (want.k > 0) shape = want.transposed ? std::vector<int64_t>{want.k, want.n} : std::vector<int64_t>{want.n, want.k};
  if (WithoutLeadingOnes(info.shape) != WithoutLeadingOnes(shape))
    faults->push_back(
        absl::StrCat("tensor ", name, ": shape is ", ShapeText(info.shape), ", the model needs ", ShapeText(shape)));
  const bool fits = IsWeightType(info.dtype) && !(IsQuantised(info.dtype) && (want.k == 0 || want.transposed));
  if (!fits) {
    faults->push_back(absl::StrCat(
        "tensor ", name, ": type ", std::string(Info(info.dtype).name),
        " is not supported here; supported: ", WeightTypeNames(/*quantised=*/want.k > 0 && !want.transposed)));
  }
}

// A stored head beside a tied one (exporters write both), or GGUF's RoPE factors, which the header has read.
bool IsKnownSurplus(const std::string& name, const TensorInfo& info, const CheckpointHeader& header,
                    const std::string& head) {
  if (header.format == CheckpointFormat::kGguf) return name == "rope_freqs.weight" || IsGgufSurplus(name);
  if (IsBuffer(name)) return true;
  return name == head && header.config.tied &&
         info.shape == std::vector<int64_t>{header.config.vocab, header.config.hidden};
}

}  // namespace

std::string DecoderPrefix(const CheckpointHeader& header) {
  if (header.format == CheckpointFormat::kGguf) return "";
  const Architecture a = header.config.architecture;
  const bool gpt = a == Architecture::kGpt2 || a == Architecture::kPangu;
  const std::string usual = a == Architecture::kGpt2 ? "" : gpt ? "transformer." : "model.";
  const std::string embedding = gpt ? "wte.weight" : "embed_tokens.weight";
  const std::string first_layer = gpt ? "h.0.ln_1.weight" : "layers.0.input_layernorm.weight";
  if (header.tensors.contains(usual + embedding)) return usual;
  std::optional<std::string> found;
  for (const auto& [name, info] : header.tensors) {
    if (!name.ends_with(embedding)) continue;
    const std::string prefix = name.substr(0, name.size() - embedding.size());
    const bool whole_names = prefix.empty() || prefix.ends_with('.');
    if (!whole_names || !header.tensors.contains(prefix + first_layer)) continue;
    if (!found || prefix.size() < found->size()) found = prefix;
  }
  return found.value_or(usual);
}

std::string HeadName(const CheckpointHeader& header, const std::string& prefix) {
  const std::string head = "lm_head.weight";
  const std::string whole = prefix.ends_with("model.") ? prefix.substr(0, prefix.size() - 6) : prefix;
  for (const std::string& before : {std::string(), whole, prefix}) {
    if (header.tensors.contains(before + head)) return before + head;
  }
  return head;
}

std::vector<TensorRow> TensorTable(const CheckpointHeader& header) { return TableBuilder(header).Build(); }

std::vector<std::string> CheckTensors(const CheckpointHeader& header, const std::vector<TensorRow>& table) {
  std::map<std::string, Stored> wanted;
  std::vector<std::string> order;
  for (const TensorRow& row : table) {
    const auto [it, fresh] = wanted.try_emplace(row.name);
    if (fresh) order.push_back(row.name);
    it->second.n = std::max(it->second.n, row.first + row.n);
    it->second.k = row.k;
    it->second.transposed = row.transposed;
  }
  std::vector<std::string> faults, surplus;
  for (const std::string& name : order) CheckOne(name, wanted[name], header, &faults);
  const auto none = [&](const std::string& name) {
    return !header.tensors.contains(name) && !header.odd_types.contains(name);
  };
  if (!header.tensors.empty() && std::all_of(order.begin(), order.end(), none)) {
    // Hundreds of lines would say no more.
    return {absl::StrCat("none of the ", order.size(), " tensors of the model (", header.config.architecture_name,
                         ") is there: the first is ", order[0], ", the files have ", header.tensors.begin()->first,
                         " and ", header.tensors.size() - 1, " others")};
  }
  const std::string head = HeadName(header, DecoderPrefix(header));
  for (const auto& [name, info] : header.tensors) {
    if (wanted.contains(name) || IsKnownSurplus(name, info, header, head)) continue;
    surplus.push_back(absl::StrCat("tensor ", name, ": is surplus: the model (", header.config.architecture_name,
                                   ") has no such tensor"));
  }
  for (const auto& [name, type] : header.odd_types) {
    if (wanted.contains(name)) continue;
    surplus.push_back(absl::StrCat("tensor ", name, ": is surplus, of dtype ", type, ": the model (",
                                   header.config.architecture_name, ") has no such tensor"));
  }
  for (auto* list : {&faults, &surplus}) {
    if (list->size() <= kMostFaults) continue;
    const size_t more = list->size() - kMostFaults;
    list->resize(kMostFaults);
    list->push_back(absl::StrCat("… and ", more, " tensors more"));
  }
  faults.insert(faults.end(), surplus.begin(), surplus.end());
  return faults;
}

}  // namespace pangea
