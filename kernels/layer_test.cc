// The words of a layer, fused at every level: the bits of the single ops one after another.
#include <gtest/gtest.h>

#include <tuple>

#include "kernels/kernels_test_util.h"

namespace pangea {
namespace {

struct Case {
  Isa isa;
  int fusion, threads, rows;
};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const Isa isa : kIsas) {
    if (isa > BestIsa()) continue;
    for (const int fusion : {0, 1, 2, 3}) {
      for (const int threads : {1, 3}) {
        for (const int rows : {1, 2, 5, 16, 33, 200}) cases.push_back({isa, fusion, threads, rows});
      }
    }
  }
  return cases;
}

void PrintTo(const Case& c, std::ostream* out) {
  *out << IsaName(c.isa) << " fusion " << c.fusion << " threads " << c.threads << " rows " << c.rows;
}

// Compares what f makes with the reference class, single ops, one thread. f(queue, rows, padded) -> values.
template <class F>
void ExpectTheBitsOfSingleOps(F f) {
  std::map<int, std::vector<float>> expected;
  for (const Case& c : Cases()) {
    SCOPED_TRACE(testing::PrintToString(c));
    auto& want = expected[c.rows];
    if (want.empty()) want = f(*MakeCpuQueue(1, Isa::kReference, false, 0), c.rows);
    EXPECT_EQ(Differences(want, f(*MakeCpuQueue(c.threads, c.isa, false, c.fusion), c.rows)), 0);
  }
}

TEST(LayerWords, FinishQkvIsNormsRotationScaleAndWrite) {
  for (const auto& [norms, rot] : {std::pair{false, 32}, {true, 32}, {true, 20}, {false, 0}}) {
    ExpectTheBitsOfSingleOps([norms = norms, rot = rot](Queue& queue, int rows) {
      const int heads = 3, kv_heads = 2, d = 32, blocks = 16, no_row = rows / 2;
      const int64_t extent = KvExtentBytes(DType::kF16, 16, d);
      std::vector<std::byte> pages(static_cast<size_t>(2 * extent * kv_heads * blocks));
      const KvLayer kv{pages.data(), 2 * extent * blocks, 2 * extent, extent, kv_heads, d, 16, DType::kF16};
      BatchBuilder builder({.rows = rows + 1, .slots = 1, .stride = blocks, .kv_of_head = {0, 0, 1}, .windows = {0}},
                           &queue);
      std::vector<int32_t> table(blocks);
      for (int b = 0; b < blocks; ++b) table[b] = (b * 7 + 3) % blocks;
      builder.SetBlocks({}, table);
      builder.Begin();
      for (int i = 0; i <= rows; ++i)
        builder.AddRow(i == no_row ? BatchBuilder::Row{}
                                   : BatchBuilder::Row{.slot = 0, .position = i > no_row ? i - 1 : i});
      const int64_t ld = (heads + 2 * kv_heads) * d;
      std::vector<float> x = Normal((rows + 1) * ld, 1);
      for (int64_t i = 0; i < ld; ++i) x[no_row * ld + i] = NAN;
      const auto qn = Normal(d, 2), kn = Normal(d, 3), cos = Normal(256 * 16, 4), sin = Normal(256 * 16, 5);
      FinishQkv(kv, builder.Finish(),
                {.q = x.data(),
                 .ldq = ld,
                 .heads = heads,
                 .k = x.data() + heads * d,
                 .v = x.data() + (heads + kv_heads) * d,
                 .ld = ld,
                 .q_norm = norms ? qn.data() : nullptr,
                 .k_norm = norms ? kn.data() : nullptr,
                 .eps = 1e-5f,
                 .rot = rot,
                 .cos = cos.data(),
                 .sin = sin.data(),
                 .scale = 0.125f},
                queue);
      for (int64_t i = 0; i < ld; ++i) x[no_row * ld + i] = 0;  // no row: anything
      for (const std::byte b : pages) x.push_back(static_cast<float>(b));
      return x;
    });
  }
}

TEST(LayerWords, ReduceAddNormIsSumBiasResidualAndNorm) {
  const std::vector<std::pair<int, int>> additions = {{0, 1}, {2, 3}, {0, 2}};
  for (const auto& [kind, bias, norm] :
       {std::tuple{NormKind::kRms, false, true}, {NormKind::kRms, true, false}, {NormKind::kLayer, true, true}}) {
    ExpectTheBitsOfSingleOps([&, kind = kind, bias = bias, norm = norm](Queue& queue, int rows) {
      const int64_t d = 80;
      std::vector<float> vectors = Normal(4 * rows * d, 1), x = Normal(rows * d, 2), y(x.size());
      const auto b = Normal(d, 3), w = Normal(d, 4), nb = Normal(d, 5);
      ReduceAddNorm({.vectors = vectors.data(),
                     .additions = additions,
                     .bias = bias ? b.data() : nullptr,
                     .x = x.data(),
                     .m = rows,
                     .d = d,
                     .kind = kind,
                     .norm = {.w = w.data(), .b = nb.data(), .eps = 1e-5f, .y = norm ? y.data() : nullptr}},
                    queue);
      x.insert(x.end(), y.begin(), y.end());
      return x;
    });
  }
}

TEST(LayerWords, ProductsAddTheirBiasAndGatesArePacked) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kQ8_0, DType::kQ4_1}) {
    ExpectTheBitsOfSingleOps([dtype](Queue& queue, int rows) {
      const int64_t n = 150, f = 96;
      const Weight up = PackWhole(MakeWeight(dtype, 2 * f, 64, 1), queue),
                   down = PackWhole(MakeWeight(dtype, n, f, 2), queue);
      const auto x = Normal(int64_t{rows} * 64, 3), bias_up = Normal(2 * f, 4), bias_down = Normal(n, 5);
      OwnedActivations packed(rows, f);
      std::vector<float> u(rows * 2 * f), gated(rows * f), y(rows * n);
      PackActivations({x.data(), rows, 64}, up, ActivationBits::k16, &packed, queue);
      MatMul(packed, up, {u.data(), 2 * f, bias_up.data()}, queue);
      GatePack({.g = u.data(),
                .ldg = 2 * f,
                .u = u.data() + f,
                .ldu = 2 * f,
                .m = rows,
                .n = f,
                .y = gated.data(),
                .ldy = f},
               {.w = &down, .out = &packed}, queue);
      MatMul(packed, down, {y.data(), n, bias_down.data()}, queue);
      y.insert(y.end(), u.begin(), u.end());
      y.insert(y.end(), gated.begin(), gated.end());
      return y;
    });
  }
}

// The comparison itself sees one addition that is done elsewhere.
TEST(LayerWords, ABiasAddedBeforeTheSumShows) {
  const auto run = [](bool early) {
    const auto queue = MakeCpuQueue(1, BestIsa());
    std::vector<float> vectors = Normal(2 * 40 * 64, 1), x = Normal(40 * 64, 2);
    const auto bias = Normal(64, 3);
    const std::vector<std::pair<int, int>> additions = {{0, 1}};
    if (early) AddBias(vectors.data(), bias.data(), {.m = 40, .n = 64, .ld = 64}, *queue);
    ReduceAddNorm({.vectors = vectors.data(),
                   .additions = additions,
                   .bias = early ? nullptr : bias.data(),
                   .x = x.data(),
                   .m = 40,
                   .d = 64},
                  *queue);
    return x;
  };
  EXPECT_GT(Differences(run(false), run(true)), 100);
}

}  // namespace
}  // namespace pangea
