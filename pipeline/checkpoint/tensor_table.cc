#include "pipeline/checkpoint/tensor_table.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "pipeline/checkpoint/f8_scales.h"
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
  void Add(Role role, std::string name, int64_t n, int64_t k, Slice slice, Product product) {
    const bool first = role == Role::kTokenEmbedding || role == Role::kPositionEmbedding;
    rows_.push_back({.role = role,
                     .layer = layer_,
                     .name = std::move(name),
                     .n = n,
                     .k = k,
                     .slice = slice,
                     .product = product,
                     .holder = layer_ >= 0 ? Holder::kLayer
                               : first     ? Holder::kFirst
                                           : Holder::kLast});
  }
  void Table(Role role, std::string name, int64_t rows) {
    Add(role, std::move(name), rows, c_.hidden, Slice::kWhole, Product::kNone);
  }
  void Vector(Role role, std::string name, int64_t n) {
    Add(role, std::move(name), n, 0, Slice::kWhole, Product::kNone);
  }
  // Of the queries: the query layer has a product of its own for them.
  Product OfQueries() const { return c_.query_layer && layer_ == c_.layers - 1 ? Product::kQuery : Product::kQkv; }
  // name.weight, and name.bias where the model has one.
  struct Linear {
    Role role, bias_role;
    Slice slice;
    Product product;
    bool bias;
  };
  void Add(const Linear& linear, const std::string& name, int64_t n, int64_t k) {
    Add(linear.role, name + ".weight", n, k, linear.slice, linear.product);
    // The bias of a K-split product is added once, after the tree: every rank holds it whole.
    const bool k_split = linear.slice == Slice::kAttnLeaves || linear.slice == Slice::kFfnLeaves;
    if (linear.bias)
      Add(linear.bias_role, name + ".bias", n, 0, k_split ? Slice::kWhole : linear.slice, linear.product);
  }
  void Q(const std::string& name, bool bias) {
    Add({Role::kQ, Role::kQBias, Slice::kQHeads, OfQueries(), bias}, name, q_, c_.hidden);
  }
  void K(const std::string& name, bool bias) {
    Add({Role::kK, Role::kKBias, Slice::kKvHeads, Product::kQkv, bias}, name, kv_, c_.hidden);
  }
  void V(const std::string& name, bool bias) {
    Add({Role::kV, Role::kVBias, Slice::kKvHeads, Product::kQkv, bias}, name, kv_, c_.hidden);
  }
  void O(const std::string& name, bool bias) {
    Add({Role::kO, Role::kOBias, Slice::kAttnLeaves, Product::kO, bias}, name, c_.hidden, q_);
  }
  void FfnGate(const std::string& name, bool bias) {
    Add({Role::kGate, Role::kGateBias, Slice::kFfnColumns, Product::kUp, bias}, name, c_.ffn, c_.hidden);
  }
  void Up(const std::string& name, bool bias) {
    Add({Role::kUp, Role::kUpBias, Slice::kFfnColumns, Product::kUp, bias}, name, c_.ffn, c_.hidden);
  }
  void Down(const std::string& name, bool bias) {
    Add({Role::kDown, Role::kDownBias, Slice::kFfnLeaves, Product::kDown, bias}, name, c_.hidden, c_.ffn);
  }
  void Norm(Role role, Role bias_role, const std::string& name) {
    Vector(role, name + ".weight", c_.hidden);
    if (c_.norm == NormKind::kLayer) Vector(bias_role, name + ".bias", c_.hidden);
  }
  void Head(const std::string& own, const std::string& embedding) {
    layer_ = -1;
    Add(Role::kHead, c_.tied ? embedding : own, c_.vocab, c_.hidden, Slice::kVocab, Product::kHead);
  }
  void FolderHead(const std::string& embedding) { Head(HeadName(header_, p_), p_ + embedding); }
  // q, k and v stored one above the other in one tensor.
  void Fused(const std::string& name, bool transposed) {
    const size_t before = rows_.size();
    Q(name, true);
    K(name, true);
    V(name, true);
    for (size_t i = before; i < rows_.size(); ++i) {
      const Role role = rows_[i].role;
      rows_[i].first = role == Role::kQ || role == Role::kQBias   ? 0
                       : role == Role::kK || role == Role::kKBias ? q_
                                                                  : q_ + kv_;
      rows_[i].transposed = transposed && rows_[i].k > 0;
    }
  }

  void LlamaLike() {
    Table(Role::kTokenEmbedding, p_ + "embed_tokens.weight", c_.vocab);
    for (layer_ = 0; layer_ < c_.layers; ++layer_) {
      const std::string at = absl::StrCat(p_, "layers.", layer_, ".");
      Norm(Role::kAttnNorm, Role::kAttnNormBias, at + "input_layernorm");
      Q(at + "self_attn.q_proj", c_.qkv_bias);
      K(at + "self_attn.k_proj", c_.qkv_bias);
      V(at + "self_attn.v_proj", c_.qkv_bias);
      if (c_.qk_norm) {
        Vector(Role::kQNorm, at + "self_attn.q_norm.weight", c_.head_dim);
        Vector(Role::kKNorm, at + "self_attn.k_norm.weight", c_.head_dim);
      }
      O(at + "self_attn.o_proj", c_.o_bias);
      Norm(Role::kFfnNorm, Role::kFfnNormBias, at + "post_attention_layernorm");
      FfnGate(at + "mlp.gate_proj", c_.mlp_bias);
      Up(at + "mlp.up_proj", c_.mlp_bias);
      Down(at + "mlp.down_proj", c_.mlp_bias);
    }
    layer_ = -1;
    Norm(Role::kFinalNorm, Role::kFinalNormBias, p_ + "norm");
    FolderHead("embed_tokens.weight");
  }

  // GPT-2's Conv1D stores [in][out].
  void Gpt2() {
    Table(Role::kTokenEmbedding, p_ + "wte.weight", c_.vocab);
    Table(Role::kPositionEmbedding, p_ + "wpe.weight", c_.max_positions);
    for (layer_ = 0; layer_ < c_.layers; ++layer_) {
      const std::string at = absl::StrCat(p_, "h.", layer_, ".");
      Norm(Role::kAttnNorm, Role::kAttnNormBias, at + "ln_1");
      Fused(at + "attn.c_attn", /*transposed=*/true);
      const size_t before = rows_.size();
      O(at + "attn.c_proj", true);
      Norm(Role::kFfnNorm, Role::kFfnNormBias, at + "ln_2");
      Up(at + "mlp.c_fc", true);
      Down(at + "mlp.c_proj", true);
      for (size_t i = before; i < rows_.size(); ++i) rows_[i].transposed = rows_[i].k > 0;
    }
    layer_ = -1;
    Norm(Role::kFinalNorm, Role::kFinalNormBias, p_ + "ln_f");
    Head("lm_head.weight", p_ + "wte.weight");
  }

  void Pangu() {
    Table(Role::kTokenEmbedding, p_ + "wte.weight", c_.vocab);
    Table(Role::kPositionEmbedding, p_ + "wpe.weight", c_.max_positions);
    Table(Role::kQueryEmbedding, p_ + "wqe.weight", c_.max_positions);
    for (layer_ = 0; layer_ < c_.layers; ++layer_) {
      const std::string at = absl::StrCat(p_, "h.", layer_, ".");
      Norm(Role::kAttnNorm, Role::kAttnNormBias, at + "ln_1");
      Q(at + "attn.q_proj", true);
      K(at + "attn.k_proj", true);
      V(at + "attn.v_proj", true);
      O(at + "attn.c_proj", true);
      Norm(Role::kFfnNorm, Role::kFfnNormBias, at + "ln_2");
      Up(at + "mlp.c_fc", true);
      Down(at + "mlp.c_proj", true);
    }
    layer_ = -1;
    Norm(Role::kFinalNorm, Role::kFinalNormBias, p_ + "ln_f");
    Head("lm_head.weight", p_ + "wte.weight");
  }

  void Gguf() {
    Table(Role::kTokenEmbedding, "token_embd.weight", c_.vocab);
    if (c_.learned_positions) Table(Role::kPositionEmbedding, "position_embd.weight", c_.max_positions);
    for (layer_ = 0; layer_ < c_.layers; ++layer_) {
      const std::string at = absl::StrCat("blk.", layer_, ".");
      Norm(Role::kAttnNorm, Role::kAttnNormBias, at + "attn_norm");
      if (c_.architecture == Architecture::kGpt2) {
        Fused(at + "attn_qkv", /*transposed=*/false);
      } else {
        Q(at + "attn_q", c_.qkv_bias);
        K(at + "attn_k", c_.qkv_bias);
        V(at + "attn_v", c_.qkv_bias);
      }
      if (c_.qk_norm) {
        Vector(Role::kQNorm, at + "attn_q_norm.weight", c_.head_dim);
        Vector(Role::kKNorm, at + "attn_k_norm.weight", c_.head_dim);
      }
      O(at + "attn_output", c_.o_bias);
      Norm(Role::kFfnNorm, Role::kFfnNormBias, at + "ffn_norm");
      if (c_.gated) FfnGate(at + "ffn_gate", c_.mlp_bias);
      Up(at + "ffn_up", c_.mlp_bias);
      Down(at + "ffn_down", c_.mlp_bias);
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
  bool product = true;  // and nothing else: no table of rows, no vector, no part of a fused tensor
};

void CheckOne(const std::string& name, const Stored& want, const CheckpointHeader& header,
              std::vector<std::string>* faults) {
  const auto it = header.tensors.find(name);
  if (it == header.tensors.end()) {
    const auto odd = header.odd_types.find(name);
    faults->push_back(odd == header.odd_types.end()
                          ? absl::StrCat("tensor ", name, ": is missing")
                          : absl::StrCat("tensor ", name, ": dtype ", odd->second,
                                         " is not supported; supported for weights: ",
                                         absl::AsciiStrToUpper(WeightTypeNames(false)), ", F8_E4M3"));
    return;
  }
  const TensorInfo& info = it->second;
  std::vector<int64_t> shape = {want.n};
  if (want.k > 0) shape = want.transposed ? std::vector<int64_t>{want.k, want.n} : std::vector<int64_t>{want.n, want.k};
  if (WithoutLeadingOnes(info.shape) != WithoutLeadingOnes(shape))
    faults->push_back(
        absl::StrCat("tensor ", name, ": shape is ", ShapeText(info.shape), ", the model needs ", ShapeText(shape)));
  if (info.dtype == DType::kF8E4M3 && want.product) {
    if (std::string fault = ScalesFault(header, name, want.n, want.k); !fault.empty())
      faults->push_back(std::move(fault));
    return;
  }
  const bool fits = IsWeightType(info.dtype) && info.dtype != DType::kF8E4M3 &&
                    !(IsQuantised(info.dtype) && (want.k == 0 || want.transposed));
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
  if (!header.config.tied) return false;
  if (name == ScalesName(header, head)) return true;  // of a head that is not used
  return name == head && info.shape == std::vector<int64_t>{header.config.vocab, header.config.hidden};
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
    it->second.product &= row.matrix() && !row.transposed && row.first == 0;
  }
  std::vector<std::string> faults, surplus;
  for (const std::string& name : order) CheckOne(name, wanted[name], header, &faults);
  std::set<std::string> scales;
  for (const std::string& name : order) {
    const auto it = header.tensors.find(name);
    if (it != header.tensors.end() && it->second.dtype == DType::kF8E4M3) scales.insert(ScalesName(header, name));
  }
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
    if (wanted.contains(name) || scales.contains(name) || IsKnownSurplus(name, info, header, head)) continue;
    surplus.push_back(absl::StrCat("tensor ", name, ": is surplus: the model (", header.config.architecture_name,
                                   ") has no such tensor"));
  }
  for (const auto& [name, type] : header.odd_types) {
    if (wanted.contains(name) || scales.contains(name)) continue;
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
