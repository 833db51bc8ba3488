#include "pipeline/stage.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "absl/strings/str_cat.h"

namespace pangea {
namespace {

std::span<std::byte> Bytes(float* p, size_t n) { return {reinterpret_cast<std::byte*>(p), n * sizeof(float)}; }

}  // namespace

Stage::~Stage() = default;

void Stage::Embed(std::span<const int32_t> ids, std::span<const KvRow> rows, float* x) {
  const int64_t d = model_.hidden, m = ids.size();
  const TensorView tokens = mapped_->Find(Role::kTokenEmbedding);
  EmbeddingRows(tokens.Run(0, tokens.n, 0), d, ids, x, *queue_);
  if (!model_.learned_positions) return;
  const TensorView table = mapped_->Find(Role::kPositionEmbedding);
  for (int64_t i = 0; i < m; ++i) positions_[i] = rows[i].position;
  EmbeddingRows(table.Run(0, table.n, 0), d, std::span(positions_).first(m), normed_.data(), *queue_);
  Add(x, normed_.data(), m * d, *queue_);
}

absl::Status Stage::Forward(const KvView& kv, Group& group, Progress& progress, float* x) {
  const int64_t m = kv.rows.size();
  if (m == 0) return absl::OkStatus();
  for (int64_t i = 0; i < m; ++i) positions_[i] = kv.rows[i].position;
  for (int64_t i = self_.layers.begin; i < self_.layers.end; ++i) {
    progress.layer.store(static_cast<int32_t>(i), std::memory_order_relaxed);
    if (auto s = Layer(static_cast<int>(i), kv, group, x); !s.ok()) return s;
  }
  progress.rows.fetch_add(m, std::memory_order_relaxed);
  progress.multiply_adds.fetch_add(m * multiply_adds_per_row_, std::memory_order_relaxed);
  return absl::OkStatus();
}

absl::Status Stage::Layer(int index, const KvView& kv, Group& group, float* x) {
  const LayerWeights& w = layers_[index - self_.layers.begin];
  const int64_t m = kv.rows.size();
  const int64_t heads = self_.heads.size(), hd = model_.head_dim;
  const bool query_layer = model_.query_layer && index == model_.layers - 1;
  if (query_layer && model_.final_norm_before_query) Norm(x, final_norm_, final_norm_bias_, m, x);

  Norm(x, w.attn_norm, w.attn_norm_bias, m, normed_.data());
  QueryKeyValue(w, m, query_layer);
  const KvLayer& pages = kv.layers[index - self_.layers.begin];
  const int64_t q_columns = query_layer ? 0 : heads * hd, kv_columns = self_.kv_heads.size() * hd, ld = w.qkv.columns;
  const float* q = query_layer ? query_out_.data() : qkv_.data();
  const float* k = qkv_.data() + q_columns;
  KvWrite(pages, {.k = k, .ldk = ld, .v = k + kv_columns, .ldv = ld, .rows = kv.rows, .tables = kv.tables.data()},
          *queue_);
  AttentionArgs attention{.q = q,
                          .ldq = query_layer ? heads * hd : ld,
                          .heads = static_cast<int>(heads),
                          .kv_of_head = kv_of_head_.data(),
                          .window = model_.window[index],
                          .rows = kv.rows,
                          .tables = kv.tables.data(),
                          .out = heads_.data(),
                          .ldo = heads * hd};
  Attention(pages, attention, *queue_);
  if (auto s = ReduceInto(w.o, attention_, heads_.data(), heads * hd, m, group, x); !s.ok()) return s;

  Norm(x, w.ffn_norm, w.ffn_norm_bias, m, normed_.data());
  const int64_t f = self_.ffn_columns.size();
  if (f > 0) {
    Multiply(w.up, normed_.data(), m, up_.data());
    const float* up = model_.gated ? up_.data() + f : nullptr;
    GateUp({.act = model_.activation,
            .g = up_.data(),
            .ldg = w.up.columns,
            .u = up,
            .ldu = w.up.columns,
            .m = m,
            .n = f,
            .y = gated_.data(),
            .ldy = f},
           *queue_);
  }
  return ReduceInto(w.down, ffn_, gated_.data(), f, m, group, x);
}

// Fills qkv_ (and query_out_): products, biases, per-head norms, rotation; the query scaled.
void Stage::QueryKeyValue(const LayerWeights& w, int64_t m, bool query_layer) {
  const int heads = static_cast<int>(self_.heads.size()), kv_heads = static_cast<int>(self_.kv_heads.size());
  const int64_t hd = model_.head_dim, ld = w.qkv.columns;
  Multiply(w.qkv, normed_.data(), m, qkv_.data());
  float* q = qkv_.data();
  float* k = q + (query_layer ? 0 : heads * hd);
  int64_t ldq = ld;
  if (query_layer) {
    const TensorView table = mapped_->Find(Role::kQueryEmbedding);
    EmbeddingRows(table.Run(0, table.n, 0), model_.hidden, std::span(positions_).first(m), query_in_.data(), *queue_);
    q = query_out_.data();
    ldq = heads * hd;
    Multiply(w.query, query_in_.data(), m, q);
  }
  if (model_.qk_norm) {
    const auto norm = [&](float* x, const std::vector<float>& weight, int64_t pitch, int count) {
      RmsNormHeads({.x = x, .w = weight.data(), .eps = model_.norm_eps, .m = m, .ld = pitch, .heads = count, .d = hd},
                   *queue_);
    };
    norm(q, w.q_norm, ldq, heads);
    norm(k, w.k_norm, ld, kv_heads);
  }
  if (model_.rope.rot > 0) {
    const auto rotate = [&](float* x, int64_t pitch, int count) {
      Rope({.x = x,
            .positions = positions_.data(),
            .m = m,
            .ld = pitch,
            .heads = count,
            .head_dim = hd,
            .rot = model_.rope.rot,
            .pairs = model_.rope.pairs,
            .cos = rope_.cos.data(),
            .sin = rope_.sin.data()},
           *queue_);
    };
    rotate(q, ldq, heads);
    rotate(k, ld, kv_heads);
  }
  Scale(q, model_.attention_scale(), {.m = m, .n = heads * hd, .ld = ldq}, *queue_);
}

void Stage::Norm(const float* x, const std::vector<float>& w, const std::vector<float>& b, int64_t m, float* y) const {
  const NormArgs args{.x = x,
                      .w = w.data(),
                      .b = b.empty() ? nullptr : b.data(),
                      .eps = model_.norm_eps,
                      .m = m,
                      .d = model_.hidden,
                      .y = y};
  if (model_.norm == NormKind::kRms) return RmsNorm(args, *queue_);
  LayerNorm(args, *queue_);
}

void Stage::Multiply(const FusedProduct& p, const float* x, int64_t m, float* y) {
  for (size_t i = 0; i < p.weights.size(); ++i) {
    // Neighbouring weights of one dtype were fused, so each needs activations of its own kind.
    PackActivations({x, m, p.weights[i].k()}, p.weights[i], bits_, &packed_, *queue_);
    MatMul(packed_, p.weights[i], y + p.offsets[i], p.columns, *queue_);
  }
  if (!p.bias.empty()) AddBias(y, p.bias.data(), {.m = m, .n = p.columns, .ld = p.columns}, *queue_);
}

// x += bias + the tree's sum over all ranks' leaves of in . w. Ranks exchange whole subtrees and every rank finishes
// alike.
absl::Status Stage::ReduceInto(const SplitProduct& p, const Reduction& r, const float* in, int64_t ld, int64_t m,
                               Group& group, float* x) {
  const int64_t d = model_.hidden, vector = m * d;
  float* mine = mine_.data();
  if (!p.weight.empty()) {
    PackActivations({in, m, ld}, p.weight, bits_, &packed_, *queue_);
    MatMul(packed_, p.weight, mine, d, *queue_);
  }
  if (plan_.ranks > 1) {
    std::vector<size_t> sizes;
    for (int n : r.vectors) sizes.push_back(n * vector * sizeof(float));
    auto s = group.AllGather(Bytes(mine, r.vectors[self_.rank] * vector), sizes, Bytes(all_.data(), r.total * vector));
    if (!s.ok()) return s;
    mine = all_.data();
  }
  for (auto [into, from] : r.finish) Add(mine + into * vector, mine + from * vector, vector, *queue_);
  if (!p.bias.empty()) AddBias(mine, p.bias.data(), {.m = m, .n = d, .ld = d}, *queue_);
  Add(x, mine, vector, *queue_);
  return absl::OkStatus();
}

void Stage::Logits(const float* x, std::span<const int32_t> rows, float* logits) {
  const int64_t d = model_.hidden, m = rows.size();
  for (int64_t i = 0; i < m; ++i) std::memcpy(&heads_[i * d], x + rows[i] * d, d * sizeof(float));
  const bool norm_here = !(model_.query_layer && model_.final_norm_before_query);
  if (norm_here) Norm(heads_.data(), final_norm_, final_norm_bias_, m, heads_.data());
  Multiply(head_, heads_.data(), m, logits);
}

}  // namespace pangea
