#include "pipeline/parallel_plan.h"

#include <gtest/gtest.h>

#include <functional>

#include "absl/strings/str_split.h"
#include "configs/host.h"
#include "configs/keys.h"
#include "kernels/types.h"
#include "pipeline/capacity.h"
#include "pipeline/parallel_plan_test_util.h"

namespace pangea {
namespace {

Deployment Layout(int pipeline, int tensor) {
  Deployment d;
  d.model = "test";
  d.parallel.pipeline = pipeline;
  d.parallel.tensor = tensor;
  return d;
}

constexpr TestShape kSmol = {.layers = 30,
                             .hidden = 576,
                             .heads = 9,
                             .kv_heads = 3,
                             .head_dim = 64,
                             .ffn = 1536,
                             .vocab = 49152,
                             .dtype = DType::kQ4_1,
                             .head_dtype = DType::kQ8_0,
                             .tied = true};

// Every leaf, head, column and id lies on some rank; runs follow each other; what a rank's heads need is on that rank.
void CheckPlan(const CheckpointHeader& header, const ParallelPlan& plan) {
  const ModelConfig& m = header.config;
  ASSERT_EQ(plan.agents.size(), static_cast<size_t>(plan.stages * plan.ranks));
  int64_t layer = 0;
  for (int s = 0; s < plan.stages; ++s) {
    EXPECT_EQ(plan.at(s, 0).layers.begin, layer);
    layer = plan.at(s, 0).layers.end;
    int64_t head = 0, leaf = 0, column = 0, ffn_leaf = 0, id = 0;
    for (int r = 0; r < plan.ranks; ++r) {
      const RankPlan& a = plan.at(s, r);
      EXPECT_EQ(a.layers, plan.at(s, 0).layers);
      EXPECT_GE(a.layers.size(), 1);
      EXPECT_EQ(a.first, s == 0);
      EXPECT_EQ(a.last, s == plan.stages - 1);
      EXPECT_EQ(a.heads.begin, head);
      EXPECT_EQ(a.attn_leaves.begin, leaf);
      EXPECT_EQ(a.ffn_columns.begin, column);
      EXPECT_EQ(a.ffn_leaves.begin, ffn_leaf);
      EXPECT_GE(a.heads.size(), 1);
      EXPECT_EQ(a.attn_k, (Range{a.heads.begin * m.head_dim, a.heads.end * m.head_dim}));
      EXPECT_EQ(a.attn_k.end, plan.attention.cuts[a.attn_leaves.end]);
      EXPECT_EQ(a.ffn_columns.end, plan.ffn.cuts[a.ffn_leaves.end]);
      EXPECT_EQ(a.kv_heads.begin, a.heads.begin / m.heads_per_kv());
      EXPECT_EQ(a.kv_heads.end - 1, (a.heads.end - 1) / m.heads_per_kv());
      if (a.last) {
        EXPECT_EQ(a.vocab.begin, id);
        EXPECT_TRUE(a.vocab.begin % 256 == 0 || a.vocab.size() == 0);
        EXPECT_TRUE(a.vocab.end % 256 == 0 || a.vocab.end == m.vocab);
        id = a.vocab.end;
      } else {
        EXPECT_EQ(a.vocab.size(), 0);
      }
      head = a.heads.end, leaf = a.attn_leaves.end, column = a.ffn_columns.end, ffn_leaf = a.ffn_leaves.end;
    }
    EXPECT_EQ(head, m.heads);
    EXPECT_EQ(leaf, plan.attention.tree.leaves());
    EXPECT_EQ(column, m.ffn);
    EXPECT_EQ(ffn_leaf, plan.ffn.tree.leaves());
    if (s == plan.stages - 1) {
      EXPECT_EQ(id, m.vocab);
    }
  }
  EXPECT_EQ(layer, m.layers);
}

ParallelPlan Planned(const TestShape& shape, int pipeline, int tensor) {
  const CheckpointHeader header = MakeTestCheckpoint(shape);
  const PlanResult result = MakePlan(header, Layout(pipeline, tensor));
  EXPECT_TRUE(result.faults.empty()) << result.faults[0].Text();
  if (result.faults.empty()) CheckPlan(header, result.plan);
  return result.plan;
}

std::string Heads(const ParallelPlan& plan) {
  std::string text;
  for (int r = 0; r < plan.ranks; ++r) {
    const RankPlan& a = plan.at(0, r);
    text += (r ? " " : "") + std::to_string(a.heads.size()) + "/" + std::to_string(a.kv_heads.size());
  }
  return text;
}

TEST(MakePlan, HeadsOverRanks) {
  const auto heads = [](int heads, int kv, int ranks) {
    return Heads(Planned({.hidden = heads * 16, .heads = heads, .kv_heads = kv}, 1, ranks));
  };
  EXPECT_EQ(heads(4, 1, 2), "2/1 2/1") << "one KV head, held twice";
  EXPECT_EQ(heads(4, 1, 4), "1/1 1/1 1/1 1/1");
  EXPECT_EQ(heads(8, 4, 3), "4/2 2/1 2/1");
  EXPECT_EQ(heads(8, 4, 4), "2/1 2/1 2/1 2/1");
  EXPECT_EQ(heads(9, 3, 2), "6/2 3/1");
  EXPECT_EQ(heads(9, 3, 3), "3/1 3/1 3/1");
  EXPECT_EQ(heads(9, 3, 4), "3/1 2/1 2/2 2/1");
  EXPECT_EQ(heads(14, 2, 3), "5/1 5/2 4/1");
  EXPECT_EQ(heads(12, 12, 5), "3/3 2/2 3/3 2/2 2/2");
  EXPECT_EQ(heads(16, 8, 3), "6/3 6/3 4/2");
}

TEST(MakePlan, WorkedExampleOfTheDefinition) {
  TestShape shape = kSmol;
  const ParallelPlan plan = Planned(shape, 1, 2);
  EXPECT_EQ(plan.at(0, 0).ffn_leaves, (Range{0, 7}));
  EXPECT_EQ(plan.at(0, 1).ffn_leaves, (Range{7, 16}));
  EXPECT_EQ(plan.ffn.tree.Subtrees(0, 7).size() + plan.ffn.tree.Subtrees(7, 16).size(), 5u);
  EXPECT_EQ(plan.at(0, 0).attn_leaves, (Range{0, 6}));
}

// Shares are counted in bytes of a column, which must not vanish in blocks that are wider than a column.
TEST(MakePlan, FfnBalancesUnevenAttentionInBlocksOf256Too) {
  for (const DType dtype : {DType::kQ4_K, DType::kQ5_K, DType::kQ6_K}) {
    const ParallelPlan plan = Planned({.hidden = 2304,
                                       .heads = 9,
                                       .kv_heads = 3,
                                       .head_dim = 256,
                                       .ffn = 6144,
                                       .vocab = 512,
                                       .dtype = dtype,
                                       .head_dtype = DType::kQ6_K},
                                      1, 2);
    EXPECT_EQ(plan.at(0, 0).attn_leaves, (Range{0, 6}));
    EXPECT_EQ(plan.at(0, 0).ffn_leaves, (Range{0, 7}));
    EXPECT_EQ(plan.at(0, 1).ffn_columns, (Range{plan.ffn.cuts[7], 6144}));
  }
}

TEST(MakePlan, WhenHeadsDivideEvenlyTheFfnIsCutEvenlyToo) {
  const ParallelPlan plan = Planned(kSmol, 1, 3);
  EXPECT_EQ(plan.at(0, 0).ffn_leaves.size(), 6);
  EXPECT_EQ(plan.at(0, 1).ffn_leaves.size(), 5);
  EXPECT_EQ(plan.at(0, 2).ffn_leaves.size(), 5);
}

TEST(MakePlan, ManyLayouts) {
  for (const TestShape& shape :
       {kSmol, TestShape{.layers = 5, .hidden = 64, .heads = 8, .kv_heads = 4, .head_dim = 8, .ffn = 172, .tied = true},
        TestShape{.layers = 7,
                  .hidden = 128,
                  .heads = 16,
                  .kv_heads = 8,
                  .head_dim = 8,
                  .ffn = 96,
                  .vocab = 1030,
                  .dtype = DType::kQ8_0},
        TestShape{.layers = 3,
                  .hidden = 1024,
                  .heads = 16,
                  .kv_heads = 4,
                  .head_dim = 64,
                  .ffn = 1792,
                  .vocab = 600,
                  .dtype = DType::kQ5_K,
                  .head_dtype = DType::kQ6_K},
        TestShape{.layers = 3,
                  .hidden = 64,
                  .heads = 4,
                  .kv_heads = 1,
                  .head_dim = 20,
                  .ffn = 30,
                  .vocab = 77,
                  .dtype = DType::kBF16}}) {
    for (int stages = 1; stages <= shape.layers; stages += 2) {
      const int leaves = AttentionSplit(shape.heads, shape.kv_heads, shape.head_dim, shape.dtype).tree.leaves();
      for (int ranks = 1; ranks <= leaves; ++ranks) Planned(shape, stages, ranks);
    }
  }
}

TEST(MakePlan, LayersOverStages) {
  TestShape shape = {.layers = 30, .vocab = 256};
  for (const RankPlan& agent : Planned(shape, 4, 1).agents) EXPECT_NEAR(agent.layers.size(), 7.5, 0.5);
  shape.vocab = 51200;  // a table worth many layers
  const ParallelPlan plan = Planned(shape, 3, 1);
  // The head, read whole at every step, weighs as many layers; the embedding, of which rows are read, weighs none.
  EXPECT_NEAR(plan.at(0, 0).layers.size(), plan.at(1, 0).layers.size(), 1);
  EXPECT_LT(plan.at(2, 0).layers.size(), plan.at(1, 0).layers.size());
}

TEST(MakePlan, SomeRanksHoldNothingOfASmallVocabulary) {
  const ParallelPlan plan = Planned({.vocab = 300}, 1, 4);
  EXPECT_EQ(plan.at(0, 0).vocab, (Range{0, 256}));
  EXPECT_EQ(plan.at(0, 1).vocab.size(), 0);
  EXPECT_EQ(plan.at(0, 2).vocab, (Range{256, 300}));
}

// 8 rows, 20 GB/s, 90 billion multiply-adds a second: 0.22 bytes a multiply-add; 512 positions of context.
TEST(TensorIndex, WorkOfALayerIsItsWeightsItsCacheAndItsRows) {
  const auto work = [](TestShape shape, int window) {
    CheckpointHeader header = MakeTestCheckpoint(shape);
    header.config.window.assign(header.config.layers, window);
    return static_cast<double>(TensorIndex(header).LayerWork(1));
  };
  const double d = 576, q = 576, kv = 192, f = 1536;
  const double weights = 8 * 0.22 * (2 * d * q + 2 * d * kv + 3 * d * f),
               rows = 8 * 4 * (10 * d + 4 * (q + kv) + 6 * f);
  const double all = work(kSmol, 0);
  EXPECT_NEAR(all, weights + 8 * 512 * 4 * kv + rows + 20e-6 * 20e9, 0.002 * all)
      << "4.8 of them are as much as the head";
  EXPECT_NEAR(all - work(kSmol, 128), 8 * (512 - 128) * 4 * kv, 1) << "a window bounds what is read";
  EXPECT_EQ(all, work(kSmol, 4096));
  TestShape few = kSmol;  // one KV head for nine: the multiply-adds over the cache take longer than reading it
  few.kv_heads = 1;
  EXPECT_NEAR(work(few, 512) - work(few, 128), 8 * (512 - 128) * 2 * q * 2 * 0.22, 8 * 384);
}

// Files mix types from layer to layer: one definition of the leaves must serve all of them.
TEST(TensorIndex, TheWidestBlockOfAllLayersDecidesWhereASplitMayCut) {
  const TestShape shape = {.layers = 3, .hidden = 256, .heads = 4, .kv_heads = 4, .head_dim = 64, .ffn = 512};
  CheckpointHeader header = MakeTestCheckpoint(shape);
  const auto type = [&](std::initializer_list<DType> types) {
    int layer = 0;
    for (const DType t : types) header.tensors.at(absl::StrCat("blk.", layer++, ".ffn_down.weight")).dtype = t;
    return TensorIndex(header).SplitType(Role::kDown);
  };
  EXPECT_EQ(SplitUnit(type({DType::kF32, DType::kF32, DType::kF16})), 2);
  EXPECT_EQ(SplitUnit(type({DType::kQ5_0, DType::kF32, DType::kQ8_0})), 32);
  EXPECT_EQ(SplitUnit(type({DType::kF32, DType::kF32, DType::kQ8_0})), 32);
  EXPECT_EQ(SplitUnit(type({DType::kQ8_0, DType::kQ4_K, DType::kQ8_0})), 256);
  EXPECT_EQ(SplitUnit(type({DType::kQ6_K, DType::kQ4_0, DType::kQ4_K})), 256);
}

TEST(MakePlan, BytesAreThoseOfTheParts) {
  const CheckpointHeader header = MakeTestCheckpoint(kSmol);
  const ParallelPlan whole = Planned(kSmol, 1, 1), cut = Planned(kSmol, 2, 2);
  int64_t stored = 0;
  for (const auto& [name, info] : header.tensors) stored += info.bytes;
  const int64_t head = int64_t{49152} * 576 / 32 * 34;
  // By hand: a Q4_1 block of 32 takes 20 bytes, packed as stored; every norm is 576 floats; RoPE's tables 2 x 32 a
  // token.
  const int64_t layer = (576 * 576 * 2 + 576 * 192 * 2 + 576 * 1536 * 3) / 32 * 20;
  const AgentMemory& all = whole.at(0, 0).memory;
  EXPECT_EQ(all.packed, 30 * layer + head) << "the tied table is mapped and packed";
  EXPECT_EQ(all.mapped, head);
  EXPECT_EQ(all.vectors, (61 * 576 + whole.context * 64) * 4);
  EXPECT_EQ(all.sampler, 32 * (576 + 2 * 49152) * 4);
  EXPECT_EQ(all.pages, whole.kv_blocks * whole.at(0, 0).kv_block_bytes);
  EXPECT_LT(all.communication, all.activations);
  int64_t packed = 0;
  for (const RankPlan& a : cut.agents) packed += a.memory.packed;
  EXPECT_EQ(packed, 30 * layer + head) << "every matrix lies on one rank; KV heads here are not shared";
  const int64_t extent = KvExtentBytes(DType::kF16, 16, 64);
  EXPECT_EQ(whole.at(0, 0).kv_block_bytes, 30 * 3 * 2 * extent);
  EXPECT_EQ(cut.at(0, 0).kv_block_bytes, 17 * 2 * 2 * extent);
  EXPECT_EQ(cut.at(0, 1).kv_block_bytes, 17 * 1 * 2 * extent);
  EXPECT_EQ(cut.kv_blocks, static_cast<int>((256 << 20) / cut.at(0, 0).kv_block_bytes)) << "the fullest agent decides";
  EXPECT_GT(whole.predicted_tokens_per_second, 0);
}

// Loader, byte formulas and cost model follow the table's rows: one more is counted, whoever it belongs to.
TEST(TensorIndex, ANewTensorIsOneRow) {
  CheckpointHeader header = MakeTestCheckpoint(kSmol);
  const ParallelPlan plan = Planned(kSmol, 1, 2);
  const TensorIndex before(header);
  std::vector<TensorRow> rows = before.rows();
  // An expert's FFN beside the layer's own, as a model with experts will have it.
  for (const Role role : {Role::kGate, Role::kUp, Role::kDown}) {
    TensorRow row = *before.Find(role, 3);
    row.expert = 1;
    row.name += ".expert";
    header.tensors[row.name] = header.tensors.at(before.Find(role, 3)->name);
    rows.push_back(row);
  }
  const TensorIndex after(header, rows);
  for (const RankPlan& agent : plan.agents) {
    const WeightSizes more = AgentWeights(after, agent), less = AgentWeights(before, agent);
    const int64_t f = agent.ffn_columns.size();
    EXPECT_EQ(more.packed - less.packed, 3 * 576 * f / 32 * 20) << agent.rank;
    EXPECT_EQ(more.macs - less.macs, 3 * 576 * f);
    EXPECT_EQ(more.vectors, less.vectors);
  }
  EXPECT_GT(after.LayerWork(3), before.LayerWork(3));
  EXPECT_EQ(after.LayerWork(4), before.LayerWork(4));
}

// The faults, each alone.
std::vector<std::string> Texts(const PlanResult& result) {
  std::vector<std::string> texts;
  for (const DeploymentFault& fault : result.faults) texts.push_back(fault.Text());
  return texts;
}
std::vector<std::string> Faults(const TestShape& shape, const Deployment& d) {
  return Texts(MakePlan(MakeTestCheckpoint(shape), d));
}

void ExpectFault(const std::vector<std::string>& faults, const std::string& key, const std::string& part) {
  ASSERT_EQ(faults.size(), 1u) << key << ": " << part;
  EXPECT_TRUE(faults[0].starts_with(key + ":") && faults[0].find(part) != std::string::npos)
      << "no fault \"" << key << ": … " << part << "\", but " << faults[0];
}

TEST(MakePlan, FaultsNameKeyAndLimit) {
  const TestShape shape = {.layers = 5, .heads = 4, .kv_heads = 2};
  ExpectFault(Faults(shape, Layout(6, 1)), "parallel.pipeline", "at most 5");
  ExpectFault(Faults(shape, Layout(1, 5)), "parallel.tensor", "at most 4");
  TestShape quantised = shape;
  quantised.dtype = DType::kQ8_0;
  ExpectFault(Faults(quantised, Layout(1, 3)), "parallel.tensor", "at most 2");
  TestShape blocks = {.hidden = 512, .heads = 8, .kv_heads = 8, .head_dim = 64, .ffn = 512};
  EXPECT_TRUE(Faults(blocks, Layout(1, 8)).empty());
  blocks.dtype = DType::kQ4_K;
  EXPECT_TRUE(Faults(blocks, Layout(1, 2)).empty());
  ExpectFault(Faults(blocks, Layout(1, 3)), "parallel.tensor",
              "its output weight is of q4_k, cut at multiples of 256) has 2 leaves that can be shared out; at most 2");
  blocks.hidden = 256, blocks.heads = blocks.kv_heads = 4;
  ExpectFault(Faults(blocks, Layout(1, 2)), "parallel.tensor", "has 1 leaf that can be shared out; at most 1");
  Deployment d = Layout(1, 1);
  d.context = 513;
  ExpectFault(Faults(shape, d), "context", "at most 512");
}

// Where each limit lies: kernels/cuda/limits.h.
TEST(MakePlan, WhatCudasKernelsCannotDoIsRefused) {
  const auto faults = [](const TestShape& shape, const char* device) {
    Deployment deployment = Layout(1, 1);
    deployment.agents.device = device;
    std::string text;
    for (const auto& fault : MakePlan(MakeTestCheckpoint(shape), deployment).faults) text += fault.Text() + "\n";
    return text;
  };
  const TestShape wide{.hidden = 512, .heads = 1, .kv_heads = 1, .head_dim = 512};
  EXPECT_EQ(faults(wide, "cuda"),
            "agents.device: cuda agents have kernels for heads of at most 256; this model's: 512\n");
  EXPECT_EQ(faults(wide, "cpu"), "");
  EXPECT_EQ(
      faults({.hidden = 129 * 16, .heads = 129, .kv_heads = 129}, "cuda_on_cpu"),
      "agents.device: cuda_on_cpu agents have kernels for a number of leaves of at most 128; this model's: 129\n");
  EXPECT_EQ(faults({.hidden = 128 * 16, .heads = 128, .kv_heads = 128}, "cuda"), "");
  EXPECT_EQ(faults({.layers = 1, .hidden = 25344, .heads = 99, .kv_heads = 99, .head_dim = 256}, "cuda"),
            "agents.device: cuda agents have kernels for a width of at most 25328; this model's: 25344\n");
}

// Whatever a caller passes unchecked: the file's own fault, once, and nothing is computed with it.
TEST(MakePlan, WhatBreaksTheRulesOfTheFileIsNotPlanned) {
  const struct {
    const char* fault;
    std::function<void(Deployment&)> spoil;
  } kCases[] = {
      {"parallel.pipeline: must be 1 to 1024", [](Deployment& d) { d.parallel.pipeline = 0; }},
      {"parallel.tensor: must be 1 to 1024", [](Deployment& d) { d.parallel.tensor = -1; }},
      {"parallel.pipeline: must be 1 to 1024", [](Deployment& d) { d.parallel.pipeline = 1 << 30; }},
      {"parallel.pipeline: 1024 stages of 1024 ranks are more than 4096 agents",
       [](Deployment& d) { d.parallel.pipeline = d.parallel.tensor = 1024; }},
      {"agents: the list has 3 entries, but parallel asks for 1 stages of 1 ranks: 1",
       [](Deployment& d) { d.agent_list.resize(3); }},
      {"agents[0].device: \"gpu\" is none of cpu, sim, cuda_on_cpu, cuda",
       [](Deployment& d) { d.agent_list = {{.device = "gpu"}}; }},
      {"agents.threads: must be 1 to 1024", [](Deployment& d) { d.agents.threads = 1 << 30; }},
      {"parallel.transport: \"mpi\" is none of auto, shm, gloo, nccl",
       [](Deployment& d) { d.parallel.transport = "mpi"; }},
      {"context: must be 0 to 16777216", [](Deployment& d) { d.context = -1; }},
      {"cache.type: \"fp4\" is none of f16, bf16, int8, fp8", [](Deployment& d) { d.cache.type = "fp4"; }},
      {"cache.block_tokens: must be 16 to 1024", [](Deployment& d) { d.cache.block_tokens = 0; }},
      {"cache.block_tokens: must be 16 to 1024", [](Deployment& d) { d.cache.block_tokens = 4096; }},
      {"cache.block_tokens: must be a multiple of 16", [](Deployment& d) { d.cache.block_tokens = 24; }},
      {"cache.memory: must be 64KiB to 1024TiB", [](Deployment& d) { d.cache.memory = 0; }},
      {"schedule.max_batch_tokens: must be 1 to 1048576",
       [](Deployment& d) { d.schedule.max_batch_tokens = 2000000000; }},
      {"schedule.max_sequences: must be 1 to 65536", [](Deployment& d) { d.schedule.max_sequences = -5; }},
  };
  for (const auto& c : kCases) {
    Deployment d = Layout(1, 1);
    c.spoil(d);
    EXPECT_EQ(Faults({}, d), std::vector<std::string>{c.fault});
  }
}

// What the file may say of a cache and of instruction sets is what there is.
TEST(MakePlan, EveryChoiceOfTheFileIsKnownHere) {
  const auto choices = [](std::string_view key) {
    return std::vector<std::string>(absl::StrSplit(std::string(FindKey(key)->choices), ", "));
  };
  std::vector<DType> types;
  for (const std::string& type : choices("cache.type")) {
    Deployment d = Layout(1, 1);
    d.cache.type = type;
    types.push_back(MakePlan(MakeTestCheckpoint({}), d).plan.cache_type);
  }
  EXPECT_EQ(types, (std::vector{DType::kF16, DType::kBF16, DType::kI8, DType::kF8E4M3}));
}

TEST(MakePlan, AllFaultsAtOnceAndThoseOfTheCheckpoint) {
  CheckpointHeader header = MakeTestCheckpoint({.layers = 2});
  Deployment d = Layout(3, 9);
  d.context = 100000;
  const auto keys = [&] {
    std::vector<std::string> keys;
    for (const DeploymentFault& fault : MakePlan(header, d).faults) keys.push_back(fault.key);
    return keys;
  };
  EXPECT_EQ(keys(), (std::vector<std::string>{"context", "parallel.pipeline", "parallel.tensor"}));
  header.tensors.erase("blk.1.ffn_down.weight");
  EXPECT_EQ(keys(), (std::vector<std::string>{"", "context"}));
  EXPECT_EQ(Texts(MakePlan(header, d))[0], "tensor blk.1.ffn_down.weight: is missing");
}

TEST(MakePlan, ContextAndCache) {
  const TestShape shape = {.layers = 8, .heads = 16, .kv_heads = 16};
  const CheckpointHeader header = MakeTestCheckpoint(shape);
  const int64_t block = 8 * 16 * 2 * KvExtentBytes(DType::kF16, 16, 16);
  Deployment d = Layout(1, 1);
  d.cache.memory = static_cast<uint64_t>(block) - 1;
  ExpectFault(Texts(MakePlan(header, d)), "cache.memory", "at least " + std::to_string(block));
  d.cache.memory = static_cast<uint64_t>(block) * 3 + 5;
  const PlanResult shrunk = MakePlan(header, d);
  ASSERT_TRUE(shrunk.faults.empty());
  EXPECT_EQ(shrunk.plan.kv_blocks, 3);
  EXPECT_EQ(shrunk.plan.context, 48) << "nobody asked for more";
  EXPECT_NE(shrunk.plan.Text(header.config).find("the checkpoint declares 512"), std::string::npos);
  d.context = 49;
  const PlanResult narrow = MakePlan(header, d);
  ExpectFault(Texts(narrow), "cache.memory", "at least " + std::to_string(4 * block) + ", or context: 48");
  EXPECT_EQ(narrow.faults[0].other, "context") << "which the file sets";
  d.context = 48;
  EXPECT_TRUE(MakePlan(header, d).faults.empty());
  d.context = 0;
  CheckpointHeader dynamic = header;
  dynamic.config.rope.scaling = RopeScaling::kDynamic;
  EXPECT_FALSE(MakePlan(dynamic, d).faults.empty()) << "the context shapes its keys: it must not depend on the cache";
}

TEST(MakePlan, TransportAndSpin) {
  const CheckpointHeader header = MakeTestCheckpoint({});
  Deployment d = Layout(1, 2);
  EXPECT_EQ(MakePlan(header, d).plan.transport, "shm");
  d.agents.threads = 1024;
  EXPECT_EQ(MakePlan(header, d).plan.spin, AvailableCores() >= 2048);
  d.agents.threads = 1;
  EXPECT_EQ(MakePlan(header, d).plan.spin, AvailableCores() >= 2);
  d.agent_list.resize(2);
  d.agent_list[0].launch = "remote";
  const ParallelPlan plan = MakePlan(header, d).plan;
  EXPECT_EQ(plan.transport, "gloo");
  EXPECT_NE(plan.Text(header.config).find("waiting as the cores of each host allow"), std::string::npos)
      << "nobody here knows how many a remote host has";
  for (AgentConfig& agent : d.agent_list) agent.device = "cuda";
  EXPECT_EQ(MakePlan(header, d).plan.transport, "nccl") << "between GPUs of several hosts";
  d.parallel.transport = "gloo";
  EXPECT_EQ(MakePlan(header, d).plan.transport, "gloo");
  const CheckpointHeader wide = MakeTestCheckpoint({.hidden = 17 * 16, .heads = 17, .kv_heads = 17});
  d = Layout(1, 17);
  d.agents.device = "cuda";
  d.agents.launch = "remote";
  EXPECT_EQ(MakePlan(wide, d).plan.transport, "gloo") << "of more ranks than exchange by themselves";
  d.parallel.transport = "nccl";
  ExpectFault(Texts(MakePlan(wide, d)), "parallel.transport", "nccl is for at most 16 ranks a stage; use gloo");
  d = Layout(1, 1);
  d.agent_list = {{.device = "cuda", .launch = "remote"}};
  EXPECT_EQ(MakePlan(header, d).plan.transport, "gloo") << "of one agent, which needs no library";
}

TEST(MakePlan, HashFollowsWhatIsHeld) {
  const CheckpointHeader header = MakeTestCheckpoint({});
  const auto hash = [&](const Deployment& d) { return MakePlan(header, d).plan.Hash(); };
  EXPECT_EQ(hash(Layout(1, 2)), hash(Layout(1, 2)));
  EXPECT_NE(hash(Layout(1, 2)), hash(Layout(2, 1)));
  Deployment other = Layout(1, 2);
  other.context = 100;
  EXPECT_NE(hash(Layout(1, 2)), hash(other));
  other = Layout(1, 2);
  other.model = "elsewhere";
  other.agents.threads = 1024;  // hardly any host spins then
  EXPECT_EQ(hash(Layout(1, 2)), hash(other)) << "paths and waiting differ between hosts";
}

TEST(MakePlan, TextNamesEveryAgent) {
  const CheckpointHeader header = MakeTestCheckpoint(kSmol);
  const std::string text = MakePlan(header, Layout(2, 2)).plan.Text(header.config);
  for (const char* part : {"2 stages x 2 ranks = 4 agents", "0-16", "17-29", "0-5", "6-8", "672-1535", "24576-49151",
                           "tokens/s", "GB/s a thread", "blocks of 16 tokens"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " is not in\n" << text;
  }
}

}  // namespace
}  // namespace pangea
