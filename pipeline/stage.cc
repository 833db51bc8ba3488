#include "pipeline/stage.h"

#include <algorithm>

#include "configs/failpoint.h"

namespace pangea {
namespace {

std::span<std::byte> Bytes(float* p, size_t n) { return {reinterpret_cast<std::byte*>(p), n * sizeof(float)}; }

}  // namespace

Stage::~Stage() = default;

void Stage::Embed(const Batch& batch) {
  const int64_t d = model_.hidden, m = batch.rows;
  FillLastIds(batch, *queue_);
  EmbeddingRows(tokens_, d, {batch.ids, static_cast<size_t>(m)}, a_.x, *queue_);
  if (!model_.learned_positions) return;
  EmbeddingRows(positions_, d, {batch.positions, static_cast<size_t>(m)}, a_.normed, *queue_);
  Add(a_.x, a_.normed, m * d, *queue_);
}

absl::Status Stage::Forward(const Batch& batch, std::span<const KvLayer> pages, Group& group, Progress& progress) {
  const int64_t m = batch.rows;
  if (m == 0) return absl::OkStatus();
  const int end = static_cast<int>(self_.layers.end);
  const auto norm_before = [&](int layer) { return IsQueryLayer(layer) && model_.final_norm_before_query; };
  for (int layer = static_cast<int>(self_.layers.begin); layer < end; ++layer) {
    progress.EnterLayer(layer, queue_->host_memory());
    const int64_t i = layer - self_.layers.begin;
    if (norm_before(layer)) Norm(a_.x, final_norm_, m, a_.x);
    if (i == 0 || norm_before(layer)) Norm(a_.x, layers_[i].attn_norm, m, a_.normed);
    const bool ends_here = layer + 1 == end || norm_before(layer + 1);
    const Place at{layer, layers_[i], batch, pages[i], group, ends_here ? nullptr : &layers_[i + 1].attn_norm};
    Attend(at);
    FeedForward(at);
    if (auto s = group.status(); !s.ok()) return s;
  }
  if (queue_->host_memory()) progress.LeaveLayer();
  return absl::OkStatus();
}

void Stage::Attend(const Place& at) {
  const auto& [layer, w, batch, pages, group, next] = at;
  const int64_t d = model_.head_dim, q_columns = self_.heads.size() * d, kv_columns = self_.kv_heads.size() * d;
  const int64_t ld = w.qkv.columns;
  FinishQkvArgs qkv{.q = a_.qkv,
                    .ldq = ld,
                    .heads = static_cast<int>(self_.heads.size()),
                    .k = a_.qkv + q_columns,
                    .ld = ld,
                    .q_norm = w.q_norm.data(),
                    .k_norm = w.k_norm.data(),
                    .eps = model_.norm_eps,
                    .rot = model_.rope.rot,
                    .pairs = model_.rope.pairs,
                    .cos = cos_.data(),
                    .sin = sin_.data(),
                    .scale = model_.attention_scale()};
  Product(w.qkv, a_.normed, batch, a_.qkv);
  if (IsQueryLayer(layer)) {
    qkv.q = a_.query, qkv.ldq = q_columns, qkv.k = a_.qkv;
    const std::span positions(batch.positions, static_cast<size_t>(batch.rows));
    EmbeddingRows(queries_, model_.hidden, positions, a_.query_in, *queue_);
    Product(w.query, a_.query_in, batch, a_.query);
    Saw(at, "query", a_.query, q_columns);
  }
  Saw(at, "qkv", a_.qkv, ld);
  qkv.v = qkv.k + kv_columns;
  {
    const Failpoint at_pages(Wall::kPageWrite);
    FinishQkv(pages, batch, qkv, *queue_);
  }
  Saw(at, "qkv", a_.qkv, ld);
  Attention(pages, batch,
            {.q = qkv.q,
             .ldq = qkv.ldq,
             .work = &batch.attention[work_of_layer_[layer - self_.layers.begin]],
             .out = a_.heads,
             .ldo = q_columns,
             .scratch = a_.attention},
            *queue_);
  Saw(at, "heads", a_.heads, q_columns);
  if (!w.o.weight.empty()) PackActivations({a_.heads, batch.rows, q_columns}, w.o.weight, bits_, &packed_, *queue_);
  ReduceAddNorm(at, w.o, attention_, &w.ffn_norm);
}

void Stage::FeedForward(const Place& at) {
  const auto& [layer, w, batch, pages, group, next] = at;
  const int64_t f = self_.ffn_columns.size(), ld = w.up.columns;
  if (f > 0) {
    Product(w.up, a_.normed, batch, a_.up);
    Saw(at, "up", a_.up, ld);
    GatePack({.act = model_.activation,
              .g = a_.up,
              .ldg = ld,
              .u = model_.gated ? a_.up + f : nullptr,
              .ldu = ld,
              .m = batch.rows,
              .n = f,
              .y = a_.gated,
              .ldy = f},
             {.w = &w.down.weight, .bits = bits_, .out = &packed_}, *queue_);
    Saw(at, "gated", a_.gated, f);
  }
  ReduceAddNorm(at, w.down, ffn_, next);
}

void Stage::Norm(const float* x, const NormWeights& w, int64_t m, float* y) {
  pangea::Norm(model_.norm,
               {.x = x, .w = w.w.data(), .b = w.b.data(), .eps = model_.norm_eps, .m = m, .d = model_.hidden, .y = y},
               *queue_);
}

// The batch says whose adapter each row adds; today all are 0, the model as it is.
void Stage::Product(const FusedProduct& p, const float* x, const Batch& batch, float* y) {
  for (size_t i = 0; i < p.weights.size(); ++i) {
    // Neighbouring weights of one dtype were fused, so each needs activations of its own kind.
    PackActivations({x, batch.rows, p.weights[i].k()}, p.weights[i], bits_, &packed_, *queue_);
    const float* bias = p.bias.empty() ? nullptr : p.bias.data() + p.offsets[i];
    MatMul(packed_, p.weights[i], {y + p.offsets[i], p.columns, bias}, *queue_);
  }
}

// Ranks exchange whole subtrees and every rank finishes alike. A group that has failed leaves what it likes in `all`
// and keeps its error, for which the layers are asked once each.
void Stage::ReduceAddNorm(const Place& at, const SplitProduct& p, Reduction& r, const NormWeights* norm) {
  const int64_t m = at.batch.rows, d = model_.hidden, vector = m * d;
  if (!p.weight.empty()) MatMul(packed_, p.weight, {a_.mine, d}, *queue_);
  float* vectors = a_.mine;
  if (plan_.ranks > 1 && at.group.exchange() != nullptr) {
    int64_t widths[kMostExchangeRanks] = {};
    for (int i = 0; i < plan_.ranks; ++i) widths[i] = r.vectors[i] * vector;
    vectors = a_.all;
    GatherParts(*at.group.exchange(), {.mine = a_.mine, .all = a_.all, .widths = widths}, *queue_);
  } else if (plan_.ranks > 1) {
    for (int i = 0; i < plan_.ranks; ++i) r.sizes[i] = r.vectors[i] * vector * sizeof(float);
    vectors = a_.all;
    float *mine = HostSide(a_.mine, host_mine_), *all = HostSide(a_.all, host_all_);
    const std::span<std::byte> own = Bytes(mine, r.vectors[self_.rank] * vector), whole = Bytes(all, r.total * vector);
    queue_->Download(mine, a_.mine, own.size());
    queue_->Finish();
    at.group.AllGather(own, r.sizes, whole).IgnoreError();
    queue_->Upload(a_.all, all, whole.size());
  }
  ReduceArgs args{.vectors = vectors, .additions = r.finish, .bias = p.bias.data(), .x = a_.x, .m = m, .d = d};
  if (norm != nullptr) {
    args.kind = model_.norm;
    args.norm = {.w = norm->w.data(), .b = norm->b.data(), .eps = model_.norm_eps, .y = a_.normed};
  }
  pangea::ReduceAddNorm(args, *queue_);
  Saw(at, "x", a_.x, d);
  if (norm != nullptr) Saw(at, "normed", a_.normed, d);
}

void Stage::Saw(const Place& at, const char* name, const float* data, int64_t columns, std::source_location where) {
  if (tap_ == nullptr) return;
  float* host = HostSide(const_cast<float*>(data), seen_);
  queue_->Download(host, data, at.batch.rows * columns * static_cast<int64_t>(sizeof(float)));
  queue_->Finish();
  tap_->See({name, at.layer, host, at.batch.rows, columns, columns, where});
}

std::span<std::byte> Stage::HostX(const Batch& batch) {
  return Bytes(HostSide(a_.x, host_x_), batch.rows * model_.hidden);
}

void Stage::PutX(const Batch& batch) {
  const auto x = HostX(batch);
  queue_->Upload(a_.x, x.data(), x.size());
}

std::span<const std::byte> Stage::ReadX(const Batch& batch) {
  const auto x = HostX(batch);
  queue_->Download(x.data(), a_.x, x.size());
  queue_->Finish();
  return x;
}

void Stage::MakeLogits(const Batch& batch, int64_t first, int64_t n, Group& group) {
  GatherRows(a_.x, model_.hidden, batch.logit_rows.subspan(first, n), a_.judged, *queue_);
  const bool norm_here = !(model_.query_layer && model_.final_norm_before_query);
  if (norm_here) Norm(a_.judged, final_norm_, n, a_.judged);
  Batch rows;  // of the head: no adapter reaches it
  rows.rows = n;
  if (plan_.ranks == 1 || group.exchange() == nullptr) return Product(head_, a_.judged, rows, a_.logits);
  int64_t widths[kMostExchangeRanks] = {};
  for (int i = 0; i < plan_.ranks; ++i) widths[i] = plan_.at(self_.stage, i).vocab.size();
  float* const mine = a_.raw + (group.exchange()->shape.library ? n * self_.vocab.begin : 0);
  Product(head_, a_.judged, rows, mine);
  GatherParts(*group.exchange(), {.mine = mine, .all = a_.logits, .rows = n, .parts = a_.raw, .widths = widths},
              *queue_);
}

float* Stage::ReadLogits(int64_t n) {
  float* logits = HostSide(a_.logits, host_logits_);
  queue_->Download(logits, a_.logits, n * head_.columns * static_cast<int64_t>(sizeof(float)));
  queue_->Finish();
  return logits;
}

}  // namespace pangea
